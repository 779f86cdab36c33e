package arch_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What make would run is a script, for root and for others: its commas and quotes are
// easily make's.
func TestMakeRun(t *testing.T) {
	t.Parallel()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") })
	for _, sudo := range []string{"", "sudo"} {
		dry := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-n", "-C", "../..", "run", "image", "bench", "SUDO="+sudo)
		dry.Env = env
		script, err := dry.Output()
		if err != nil || !strings.Contains(string(script), "bin/binnacle serve --launch") {
			t.Fatalf("%v: %s", err, script)
		}
		check := exec.CommandContext(t.Context(), "bash", "-n")
		check.Stdin = strings.NewReader(string(script))
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("SUDO=%q: %v: %s\n%s", sudo, err, out, script)
		}
	}
}
