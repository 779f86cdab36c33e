package e2e_test

import (
	"os"
	"testing"

	"github.com/binnacle-hub/binnacle"
)

// runExample launches an example and runs its notebook through the kernel that
// it names.
func runExample(t *testing.T, name string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		repo := the.example(t, name)
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

// TestJavaScript has Node.js for postBuild scripts, and TypeScript notebooks.
func TestJavaScript(t *testing.T) {
	for _, name := range []string{"npm-global", "npm", "deno"} {
		runExample(t, name)
	}
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
