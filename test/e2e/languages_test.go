package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
}

// TestDevcontainer joins Jupyter to an image that a Dockerfile makes, and
// follows features on the hub's own.
func TestDevcontainer(t *testing.T) {
	for _, name := range []string{"devcontainer", "devcontainer-features"} {
		runExample(t, name)
	}
}
