package hub_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
)

// TestScripts runs the tests of the pages' pure functions.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts node")
	}
	cmd := exec.CommandContext(t.Context(), need(t, "node"), "--test", "test/")
	cmd.Dir = "web"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestPublishedClient launches with BinderHub's own client, as npm has it.
func TestPublishedClient(t *testing.T) {
	if testing.Short() {
		t.Skip("installs a package")
	}
	npm, node := need(t, "npm"), need(t, "node")
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", dir, "@jupyterhub/binderhub-client@0.5.0")
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatalf("npm: %v\n%s", err, out)
		}
		t.Skipf("npm cannot install the client: %v\n%s", err, out)
	}
	script, err := os.ReadFile("testdata/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.mjs"), script, 0o644); err != nil {
		t.Fatal(err)
	}
	f := newFake()
	f.script = builtScript
	public, _ := start(t, f)
	run := func(spec string, more ...string) string {
		cmd := exec.CommandContext(t.Context(), node, append([]string{"client.mjs", spec, public.URL + "/build"}, more...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", spec, err, out)
		}
		return strings.ReplaceAll(string(out), public.URL, "http://hub")
	}
	checkGolden(t, "client_built.txt", run("gh/o/r/HEAD"))
	checkGolden(t, "client_unknown.txt", run("xx/o/r/HEAD"))
	f.mu.Lock()
	f.script = failing([]string{"phase resolving"}, nil)
	f.mu.Unlock()
	checkGolden(t, "client_failed.txt", run("gh/o/r/HEAD"))
	f.mu.Lock()
	f.script = failing([]string{"phase resolving"}, &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Message: "The header a.h is missing.", File: "requirements.txt", Line: 3, Hint: "Write liba-dev into apt.txt.",
		Excerpt: []string{"pkg.c:2:10: fatal error: a.h: No such file or directory", "    2 | #include <a.h>", "…", "compilation terminated."},
	})
	f.mu.Unlock()
	checkGolden(t, "client_failed_build.txt", run("gh/o/r/HEAD"))
}
