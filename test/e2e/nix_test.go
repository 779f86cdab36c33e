package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
)

// smallNixpkgs is an archive of nixpkgs with one package: what the example has.
func smallNixpkgs(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/nix/default.nix")
	if err != nil {
		t.Error(err)
	}
	head, _, ok := strings.Cut(string(b), "\nin\n")
	if !ok {
		t.Error("the example has changed")
	}
	archive, err := juliaserver.Tarball("nixos-24.05.1.0123abcd", map[string]string{
		".git-revision": "0123abcd", "default.nix": "{ ... }:\n" + head + `
in {
  inherit knots;
  mkShell = { packages }: derivation {
    inherit system stdenv;
    name = "shell"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; buildInputs = packages;
  };
}`,
	}, time.Unix(0, 0))
	if err != nil {
		t.Error(err)
	}
	return archive
}

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
	t.Run("nixpkgs", func(t *testing.T) {
		channel := make(chan string, 2)
		the.late.mux.HandleFunc("/channels/{name}/nixexprs.tar.xz", func(w http.ResponseWriter, req *http.Request) {
			select {
			case channel <- req.PathValue("name"):
			default: // asked again
			}
			_, _ = w.Write(smallNixpkgs(t))
		})
		dir := t.TempDir()
		for name, text := range map[string]string{
			"default.nix": "{ pkgs ? import <nixpkgs> { } }:\npkgs.mkShell { packages = [ pkgs.knots ]; }\n",
			"apt.txt":     "tree\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		repo, err := the.git.Repo(t.Context(), "nixpkgs", dir)
		if err != nil {
			t.Fatal(err)
		}
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		if name := <-channel; !regexp.MustCompile(`^nixos-\d\d\.(05|11)$`).MatchString(name) {
			t.Errorf("took the channel %s", name)
		}
		cell(t, server, `
import shutil, subprocess
print(subprocess.run(["knots", "10"], capture_output=True, text=True).stdout.strip(), bool(shutil.which("tree")), open("/usr/local/share/binnacle/lock/nixpkgs.txt").readline().strip())`, "8.7 True nixpkgs 0123abcd")
	})
	t.Run("failing-nix", func(t *testing.T) {
		repo := the.example(t, "failing-nix")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "default.nix" || l.Error.Line != 5 || !strings.Contains(l.Error.Message, "knotts") || !strings.Contains(l.Error.Hint, "search.nixos.org") || len(l.Error.Excerpt) == 0 {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
}
