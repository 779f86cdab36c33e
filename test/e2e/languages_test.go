package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
)

// runExample launches an example and runs its notebook through the kernel that
// it names.
func runExample(t *testing.T, name string) {
	t.Helper()
	runExampleWith(t, name, name, nil)
}

// runExampleWith calls the test otherwise, and adds files.
func runExampleWith(t *testing.T, test, name string, files map[string]string) {
	t.Helper()
	t.Run(test, func(t *testing.T) {
		repo := the.exampleWith(t, name, files)
		l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Phase != binnacle.PhaseReady || l.Session == nil {
			t.Fatalf("ended as %s: %+v\n%s", l.Phase, l.Error, logOf(events))
		}
		stopAfter(t, l)
		if err := server(l).RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
	})
}

// TestJavaScript has Node.js for postBuild scripts, and TypeScript notebooks with
// the packages of every manager's lock.
func TestJavaScript(t *testing.T) {
	for _, name := range []string{"npm-global", "npm", "npm-workspaces", "pnpm", "yarn", "deno"} {
		runExample(t, name)
	}
	runExampleWith(t, "yarn-1", "yarn", map[string]string{"yarn.lock": yarnLock(t, "dayjs", "1.11.13")})
}

// yarnLock is what Yarn 1 writes. It takes a package from where the lock says, so
// that is asked for as anybody does.
func yarnLock(t *testing.T, name, version string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "npm", "view", name+"@"+version, "--json", "dist.tarball", "dist.integrity").Output()
	var said map[string]string
	if err = errors.Join(err, json.Unmarshal(out, &said)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return fmt.Sprintf("# yarn lockfile v1\n\n\n%s@^1.11.0:\n  version %q\n  resolved %q\n  integrity %s\n", name, version, said["dist.tarball"], said["dist.integrity"])
}

// TestGo compiles cells with the modules that go.mod requires, and says so when
// one fails.
func TestGo(t *testing.T) {
	runExample(t, "go")
	runExample(t, "go-workspace")
}

// TestRust compiles the kernel once, which takes minutes: `make e2e-rust` runs it.
func TestRust(t *testing.T) {
	if os.Getenv("BINNACLE_TEST_RUST") == "" {
		t.Skip("compiles a Rust kernel for minutes: see `make e2e-rust`")
	}
	runExample(t, "rust")
	for name, c := range map[string]struct{ crate, says, hint string }{
		"failing crate":   {"no-such-crate-of-the-tides = \"1\"", "no crate called no-such-crate-of-the-tides", "Check its name in Cargo.toml"},
		"failing version": {"itoa = \"99\"", "No version of itoa", "Choose one that does"},
	} {
		t.Run(name, func(t *testing.T) {
			repo, err := the.git.Repo(t.Context(), strings.ReplaceAll(name, " ", "-"), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Commit(t.Context(), map[string]string{"Cargo.toml": "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n" + c.crate + "\n"}); err != nil {
				t.Fatal(err)
			}
			l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
			if e := l.Error; e == nil || e.Code != binnacle.CodeBuildFailed || e.File != "Cargo.toml" || e.Line != 6 || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) || len(e.Excerpt) == 0 {
				t.Errorf("ended as %s with %+v", l.Phase, e)
			}
		})
	}
}

// TestDevcontainer joins Jupyter to an image that a Dockerfile makes, and
// follows features on the hub's own.
func TestDevcontainer(t *testing.T) {
	for _, name := range []string{"devcontainer", "devcontainer-features"} {
		runExample(t, name)
	}
}
