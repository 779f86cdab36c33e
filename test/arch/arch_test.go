package arch_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/binnacle-hub/binnacle"

// leaves do not know each other, but for what is listed as allowed.
func leaves() []string {
	return []string{"source", "recipe", "image", "session", "proxy", "engine", "store", "builders", "leader", "certificate"}
}

// allowed are the imports between leaves, each with its reason.
func allowed() map[string]string {
	return map[string]string{
		"image → recipe": "an image is made from a recipe",
	}
}

// badDeps are packages that must not be reached, directly or through others.
func badDeps() map[string]map[string]string {
	return map[string]map[string]string{
		"": {"net": "the shared words do no input or output"},
		"/cmd/binnacle": {
			"github.com/letsencrypt/pebble/v2/ca": "the authority of the tests", module + "/test/acme": "of the tests",
		},
		"/internal/recipe": {
			"net": "reading files needs no network", "net/http": "reading files needs no network", "os/exec": "reading files runs nothing",
		},
		"/internal/proxy":  {"github.com/containerd/containerd/v2/client": "a proxy only dials"},
		"/internal/launch": {"k8s.io/client-go/kubernetes": "launch speaks to a Spawner", module + "/internal/engine": "launch speaks to interfaces"},
		"/internal/hub": {
			"github.com/containerd/containerd/v2/client": "the hub speaks to a Service", "github.com/moby/buildkit/client": "the hub speaks to a Service",
			module + "/internal/launch": "the hub speaks to a Service",
		},
	}
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

// part is the package of the layout that an import path belongs to.
func part(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"/internal/")
	if !ok {
		return "", false
	}
	name, _, _ := strings.Cut(rest, "/")
	return name, true
}

func TestLeavesDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	for _, leaf := range leaves() {
		for _, line := range list(t, "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}}>{{.}} {{end}}`, module+"/internal/"+leaf+"/...") {
			from, to, _ := strings.Cut(line, ">")
			target, ok := part(to)
			if !ok || target == leaf || strings.HasPrefix(to, "github.com/binnacle-hub/binnacle/internal/"+leaf) {
				continue
			}
			if _, fine := allowed()[leaf+" → "+target]; !fine {
				t.Errorf("%s imports %s: leaves do not know each other, nor anything above them", from, to)
			}
		}
	}
}

func TestDirection(t *testing.T) {
	t.Parallel()
	above := map[string][]string{
		"launch": {"hub", "cli", "config"}, "hub": {"cli", "config"}, "config": {"cli"}, "deploy": {"cli", "hub", "config"},
	}
	for name, upper := range above {
		for _, dep := range list(t, "-deps", module+"/internal/"+name+"/...") {
			if target, ok := part(dep); ok && slices.Contains(upper, target) {
				t.Errorf("%s reaches %s, which is above it", name, dep)
			}
		}
	}
}

func TestHeavyDependencies(t *testing.T) {
	t.Parallel()
	for pkg, bad := range badDeps() {
		for _, dep := range list(t, "-deps", module+pkg) {
			if why, ok := bad[dep]; ok {
				t.Errorf("%s reaches %s: %s", module+pkg, dep, why)
			}
		}
	}
}

// The root package is what others may import: the standard library only.
func TestRootIsStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, dep := range list(t, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, module) {
		if dep != module {
			t.Errorf("the root package reaches %s", dep)
		}
	}
}
