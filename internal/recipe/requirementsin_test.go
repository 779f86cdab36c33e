package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRequirementsIn: it counts where nothing else describes a Python environment.
func TestRequirementsIn(t *testing.T) {
	const loose = "humanize\n-c limits.txt\n"
	installed := []string{"Python and Jupyter", "wheels: requirements.in", "pip: requirements.in"}
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		steps []string
		note  string
	}{
		"alone":            {map[string]string{"requirements.in": loose, "limits.txt": "humanize<5\n"}, "requirements.in", installed, "no requirements.txt made of it"},
		"with apt.txt":     {map[string]string{"requirements.in": "humanize\n", "apt.txt": "tree\n"}, "requirements.in", []string{"Python and Jupyter", "apt: apt.txt", "wheels: requirements.in", "pip: requirements.in"}, ""},
		"in binder":        {map[string]string{"binder/requirements.in": "humanize\n"}, "requirements.in", []string{"Python and Jupyter", "wheels: binder/requirements.in", "pip: binder/requirements.in"}, ""},
		"with its lock":    {map[string]string{"requirements.in": "humanize\n", "requirements.txt": "humanize==4.12.3\n"}, "python", []string{"Python and Jupyter", "wheels: requirements.txt", "pip: requirements.txt"}, ""},
		"runtime.txt":      {map[string]string{"requirements.in": "humanize\n", "runtime.txt": "python-3.12\n"}, "requirements.in", installed, ""},
		"tools' settings":  {map[string]string{"requirements.in": "humanize\n", "pyproject.toml": "[tool.ruff]\n"}, "requirements.in", installed, ""},
		"a package":        {map[string]string{"requirements.in": "humanize\n", "setup.py": ""}, "python", []string{"Python and Jupyter", "pip: the repository itself"}, ""},
		"another lock":     {map[string]string{"requirements.in": "humanize\n", "pylock.toml": "lock-version = '1.0'\ncreated-by = 'x'\npackages = []\n"}, "python", []string{"Python and Jupyter"}, ""},
		"environment.yml":  {map[string]string{"requirements.in": "humanize\n", "environment.yml": "dependencies: [numpy]\n"}, "conda", []string{"conda: environment.yml", "Jupyter"}, ""},
		"of the tree":      {map[string]string{"requirements.in": "./pkg\n", "pkg/setup.py": ""}, "requirements.in", []string{"Python and Jupyter", "pip: requirements.in"}, ""},
		"empty":            {map[string]string{"requirements.in": "# later\n"}, "requirements.in", []string{"Python and Jupyter"}, "names no package"},
		"Python as chosen": {map[string]string{"requirements.in": "humanize\n", ".python-version": "3.12\n"}, "requirements.in", installed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if diff := cmp.Diff(c.steps, steps(r)); diff != "" || r.Kind != c.kind {
				t.Errorf("kind %s, steps %s", r.Kind, diff)
			}
			if !strings.Contains(notes(r), c.note) {
				t.Errorf("notes %q, want %q", notes(r), c.note)
			}
			if (name == "Python as chosen" || name == "runtime.txt") && r.Python.Value != "3.12" {
				t.Errorf("Python %q", r.Python.Value)
			}
		})
	}
	if e := refused(t, repo(map[string]string{"requirements.in": "humanize\nnot a requirement\n"})); e.File != "requirements.in" || e.Line != 2 {
		t.Errorf("%s:%d", e.File, e.Line)
	}
}
