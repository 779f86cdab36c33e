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

	t.Run("causes", m.causes)
}

// causes makes steps fail in the ways that are most frequent, with the real tools,
// and reads what authors are told.
func (m *machine) causes(t *testing.T) {
	m.env = append(m.env, "UV_HTTP_RETRIES=0")
	extension := map[string]string{
		"pkg/setup.py": "from setuptools import Extension, setup\nsetup(name='pkg', ext_modules=[Extension('pkg', ['pkg.c'])])\n",
		"pkg/pkg.c":    "#include <suitesparse/nothing.h>\n", "requirements.txt": "# one\n./pkg\n",
	}
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  []string // in message or hint
	}{
		"no package":      {map[string]string{"requirements.txt": "humanize\nscikit-lern-tutorials-xx\n"}, "requirements.txt", 2, []string{"no package called scikit-lern-tutorials-xx"}},
		"no version":      {map[string]string{"requirements.txt": "humanize==99.1\n"}, "requirements.txt", 1, []string{"version asked for of humanize does not exist", "There are 4.", "choose one"}},
		"conflict":        {map[string]string{"requirements.txt": "pandas==2.2.3\nnumpy<1.20\n"}, "requirements.txt", 1, []string{"together", "numpy<1.20"}},
		"other Python":    {map[string]string{"requirements.txt": "# one\n./pkg\n", "pkg/pyproject.toml": "[project]\nname = 'pkg'\nversion = '1'\nrequires-python = '>=3.99'\n"}, "requirements.txt", 2, []string{"another version of Python", "runtime.txt"}},
		"other platform":  {map[string]string{"requirements.txt": "pywin32==306\n"}, "requirements.txt", 1, []string{"pywin32 has no build for this", "Windows"}},
		"header":          {extension, "requirements.txt", 2, []string{"header suitesparse/nothing.h", "libsuitesparse-dev into apt.txt"}},
		"index away":      {map[string]string{"requirements.txt": "--index-url http://127.0.0.1:9/simple\ntitlecase\n"}, "requirements.txt", 2, []string{"could not be reached"}},
		"git away":        {map[string]string{"requirements.txt": "x @ git+http://127.0.0.1:9/x.git\n"}, "requirements.txt", 1, []string{"git repository could not be fetched"}},
		"no project":      {map[string]string{"requirements.txt": "./notes\n", "notes/a.txt": ""}, "requirements.txt", 1, []string{"no Python package"}},
		"module missing":  {map[string]string{"postBuild": "#!/bin/bash\nset -e\npython -c 'import skimage'\n"}, "postBuild", 0, []string{"module skimage is missing", "Add scikit-image"}},
		"command missing": {map[string]string{"postBuild": "#!/bin/bash\nset -e\nno-such-command-here\n"}, "postBuild", 3, []string{"command no-such-command-here"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(m.dir, "home")
			if err := os.RemoveAll(home); err != nil {
				t.Fatal(err)
			}
			for file, text := range c.files {
				file = filepath.Join(home, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := read(t, c.files)
			for _, s := range r.Steps[1:] {
				out, err := m.step(t, s)
				if err == nil {
					continue
				}
				e := recipe.Explain(r, s.Name, strings.Split(out, "\n"))
				if e.File != c.file || (e.Line != c.line && c.line > 0) {
					t.Errorf("in %s:%d, want %s:%d", e.File, e.Line, c.file, c.line)
				}
				for _, want := range c.says {
					if !strings.Contains(e.Message+"\n"+e.Hint, want) {
						t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
					}
				}
				return
			}
			t.Error("nothing failed")
		})
	}
}
