package recipe_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestLockSteps runs the steps of the examples with locks for real, one after the
// other in one environment, and compares what is there with what each asks for.
func TestLockSteps(t *testing.T) {
	m := newMachine(t, "uv")
	m.env = []string{"PATH=" + m.environment() + "/bin:" + os.Getenv("PATH")}
	server := read(t, nil).Steps[0]
	if out, err := m.step(t, server); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const version = "from importlib.metadata import version, distributions; names = {d.name.lower() for d in distributions()}; "
	for _, c := range []struct{ name, code, want string }{
		{"uv-workspace", "import analysis, tides; print(analysis.height(0), 'docopt' in names, 'inflection' in names)", "2.75 True True"},
		{"poetry-library", "import rainfall; print(version('rainfall'), version('humanize') in open('poetry.lock').read(), 'inflection' in names)", "2.1.0 True True"},
		{"pylock-binder", "import docopt; print(version('humanize'))", "4.12.3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := filepath.Join(m.dir, "home")
			if err := os.RemoveAll(home); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(home, os.DirFS(filepath.Join("../../examples", c.name))); err != nil {
				t.Fatal(err)
			}
			r, err := recipe.Read(os.DirFS(home), recipe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.Steps[1:] {
				out, err := m.step(t, s)
				if err != nil {
					t.Fatalf("%s: %v\n%s", s.Name, err, out)
				}
				if strings.Contains(out, "once more") {
					t.Errorf("%s: what it was to be built with did not do: %s", s.Name, out)
				}
			}
			have, err := m.command(t, home, m.environment()+"/bin/python", "-c", version+c.code)
			if have = strings.TrimSpace(have); err != nil || have != c.want {
				t.Errorf("%q, %v; want %q", have, err, c.want)
			}
		})
	}

	t.Run("failing-hash", func(t *testing.T) {
		r, err := recipe.Read(os.DirFS("../../examples/failing-hash"), recipe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		m.must(t, "", m.dir+"/run/tools/uv/uv", "pip", "uninstall", "--python", m.environment(), "humanize")
		if out, err := m.step(t, r.Steps[1]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := m.step(t, r.Steps[2])
		if err == nil {
			t.Fatal("a file with another hash was installed")
		}
		if e := recipe.Explain(r, r.Steps[2].Name, strings.Split(out, "\n")); e.File != "Pipfile.lock" || e.Line != 11 || !strings.Contains(e.Message, "humanize") {
			t.Errorf("%+v", e)
		}
	})
}
