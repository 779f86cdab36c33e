package e2e_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
)

// TestNix launches the examples that need no nixpkgs, which has a host of its own.
func TestNix(t *testing.T) {
	for _, name := range []string{"nix", "nix-flake"} {
		t.Run(name, func(t *testing.T) {
			repo := the.example(t, name)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
			}
			cell(t, server, `print(open("/usr/local/share/binnacle/lock/nix.txt").read().count("/nix/store/") > 1)`, "True")
		})
	}
	t.Run("failing-nix", func(t *testing.T) {
		repo := the.example(t, "failing-nix")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "default.nix" || l.Error.Line != 5 || !strings.Contains(l.Error.Message, "knotts") {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
}
