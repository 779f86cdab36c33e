package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// runExample launches an example and runs its notebook through the kernel that
// it names. Packages, as "manager name version", are in what the image says of itself.
func runExample(t *testing.T, name string, packages ...string) {
	t.Helper()
	runExampleWith(t, name, name, nil, packages...)
}

// runExampleWith calls the test otherwise, and adds files.
func runExampleWith(t *testing.T, test, name string, files map[string]string, packages ...string) {
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
		for _, want := range packages {
			if words := strings.Fields(want); resolved(t, l, words[0], words[1]).Version != words[2] {
				t.Errorf("the image does not say that it has %s", want)
			}
		}
	})
}

// resolved is what an image says of a package that is in it; empty when it says
// nothing.
func resolved(t *testing.T, l binnacle.Launch, manager, name string) recipe.Installed {
	t.Helper()
	list, err := the.operator().Resolved(t.Context(), l.ID) // the launch is somebody else's
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range list {
		files[f.Name] = f.Content
	}
	all := recipe.ReadInstalled(files)
	i := slices.IndexFunc(all, func(p recipe.Installed) bool { return p.Manager == manager && p.Name == name })
	if i < 0 {
		return recipe.Installed{}
	}
	return all[i]
}

// TestJavaScript has Node.js for postBuild scripts, and TypeScript notebooks with
// the packages of every manager's lock.
func TestJavaScript(t *testing.T) {
	const dayjs = "npm dayjs 1.11.13"
	runExample(t, "npm-global")
	for _, name := range []string{"npm", "npm-workspaces", "pnpm", "yarn"} {
		runExample(t, name, dayjs)
	}
	runExample(t, "deno", "deno ms 2.1.3")
	runExampleWith(t, "yarn-1", "yarn", map[string]string{"yarn.lock": yarnLock(t, "dayjs", "1.11.13")}, dayjs)
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
	runExample(t, "go", "go github.com/dustin/go-humanize v1.0.0")
	runExample(t, "go-workspace")
}

// TestRust compiles the kernel once, which takes minutes: `make e2e-rust` runs it.
func TestRust(t *testing.T) {
	if os.Getenv("BINNACLE_TEST_RUST") == "" {
		t.Skip("compiles a Rust kernel for minutes: see `make e2e-rust`")
	}
	runExample(t, "rust", "cargo itoa 1.0.9")
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
