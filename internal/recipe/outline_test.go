package recipe_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// outlineCases are packages that are installed editably from a poetry.lock or a
// Pipfile.lock; with is false where their files decide about more than their place.
func outlineCases() map[string]struct {
	files map[string]string
	with  bool
} {
	project := func(backend, requires, more string) string {
		return "[build-system]\nrequires = [\"" + requires + "\"]\nbuild-backend = \"" + backend + "\"\n" + more
	}
	const named = "[project]\nname = \"tide\"\nversion = \"1.2\"\nreadme = \"docs/ABOUT.md\"\n[project.scripts]\ntide = \"tide:main\"\n"
	src := func(pyproject string, more ...string) map[string]string {
		files := map[string]string{
			"pyproject.toml": pyproject, "src/tide/__init__.py": "def main(): print('high')\n", "src/tide/deep/__init__.py": "", "src/tide/data/a.csv": "1\n",
			"docs/ABOUT.md": "# Tide\n", "LICENSE": "Free.\n", "tests/test_tide.py": "import tide\n", "notes.md": "a\n", ".github/w.yml": "",
		}
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	flat := func(pyproject string) map[string]string {
		files := map[string]string{"data/a.csv": "1\n"} // makes setuptools refuse the layout, so the packages are named
		for name, text := range src(pyproject) {
			files[strings.TrimPrefix(name, "src/")] = text
		}
		return files
	}
	type c = struct {
		files map[string]string
		with  bool
	}
	const hatch, setuptools, poetry = "hatchling.build", "setuptools.build_meta", "poetry.core.masonry.api"
	return map[string]c{
		"hatchling":                   {src(project(hatch, "hatchling", named)), true},
		"hatchling, flat":             {flat(project(hatch, "hatchling", named)), true},
		"flit":                        {src(project("flit_core.buildapi", "flit-core>=3.11", strings.Replace(named, "version", "description = \"Tides\"\nversion", 1))), true},
		"pdm":                         {src(project("pdm.backend", "pdm-backend", named)), true},
		"uv":                          {src(project("uv_build", "uv_build>=0.9,<1", named)), true},
		"setuptools":                  {src(project(setuptools, "setuptools>=77", named)), true},
		"setuptools, flat":            {flat(project(setuptools, "setuptools>=77", named+"[tool.setuptools]\npackages = [\"tide\", \"tide.deep\"]\n")), true},
		"poetry":                      {src(project(poetry, "poetry-core", "[tool.poetry]\nname = \"tide\"\nversion = \"1.2\"\ndescription = \"\"\nauthors = []\nreadme = \"docs/ABOUT.md\"\npackages = [{include = \"tide\", from = \"src\"}]\n[tool.poetry.scripts]\ntide = \"tide:main\"\nold = {reference = \"bin/old.sh\", type = \"file\"}\n"), "bin/old.sh", "#!/bin/sh\necho old\n"), true},
		"a dynamic version":           {src(project(hatch, "hatchling", "[project]\nname = \"tide\"\ndynamic = [\"version\"]\n[tool.hatch.version]\npath = \"src/tide/__init__.py\"\n")), false},
		"a version from git":          {src(project(hatch, "hatchling\", \"hatch-vcs", "[project]\nname = \"tide\"\ndynamic = [\"version\"]\n[tool.hatch.version]\nsource = \"vcs\"\n")), false},
		"a hook":                      {src(project(hatch, "hatchling", named+"[tool.hatch.build.hooks.custom]\n")), false},
		"files that are copied":       {src(project(hatch, "hatchling", named+"[tool.hatch.build.targets.wheel.shared-data]\n\"data\" = \"share/tide\"\n")), false},
		"a script of Poetry's":        {src(project(poetry, "poetry-core", "[tool.poetry]\nname = \"tide\"\nversion = \"1\"\nbuild = \"build.py\"\n"), "build.py", ""), false},
		"compiled parts":              {src(project(setuptools, "setuptools", named+"[[tool.setuptools.ext-modules]]\nname = \"tide.fast\"\nsources = [\"fast.c\"]\n")), false},
		"setup.py":                    {src(project(setuptools, "setuptools", named), "setup.py", "from setuptools import setup\nsetup()\n"), false},
		"setup.cfg that reads a file": {src(project(setuptools, "setuptools", named), "setup.cfg", "[metadata]\ndescription = file: a.txt\n"), false},
		"an unknown backend":          {src(project("mesonpy", "meson-python", named)), false},
		"a backend of its own":        {src(project(hatch, "hatchling", "backend-path = [\".\"]\n"+named)), false},
		"no build-system":             {src(named), false},
		"an ignore file":              {src(project(hatch, "hatchling", named), ".dockerignore", "tests\n"), false},
	}
}

// withLock is a repository whose Pipfile.lock installs it editably.
func withLock(files map[string]string) map[string]string {
	out := maps.Clone(files)
	out["Pipfile.lock"] = `{"_meta": {}, "default": {"tide": {"path": ".", "editable": true}}, "develop": {}}`
	return out
}

func ownStep(t *testing.T, files map[string]string) recipe.Step {
	t.Helper()
	r := read(t, files)
	i := slices.IndexFunc(r.Steps, func(s recipe.Step) bool { return s.Name == "pip: packages of the repository" })
	if i < 0 {
		t.Fatalf("no step installs the repository: %+v", r.Steps)
	}
	return r.Steps[i]
}

func TestOutline(t *testing.T) {
	for name, c := range outlineCases() {
		t.Run(name, func(t *testing.T) {
			s := ownStep(t, withLock(c.files))
			if with := s.Stage == recipe.StageOutline; with != c.with {
				t.Fatalf("its stage is %s", s.Stage)
			}
			if !c.with {
				return
			}
			// What modules and notes say does not matter; what they are called, and
			// what describes the package, does.
			for _, change := range []struct {
				file, text string
				same       bool
			}{
				{"notes.md", "b", true},
				{"notebook.ipynb", "{}", true},
				{"tests/test_tide.py", "import sys\n", true},
				{"docs/ABOUT.md", "# Ebb\n", false},
				{"LICENSE", "None.\n", false},
				{"more.py", "", false},
				{"more/a.csv", "", false},
				{"pyproject.toml", c.files["pyproject.toml"] + "# x\n", false},
			} {
				files := withLock(c.files)
				files[change.file] = change.text
				if same := cmp.Equal(s, ownStep(t, files)); same != change.same {
					t.Errorf("the step after a change of %s is the same: %v", change.file, same)
				}
			}
		})
	}
}

// outlines compares what is in the environment after the installation
// from the outline with what there is after that from the tree.
func (m *machine) outlines(t *testing.T) {
	for name, c := range outlineCases() {
		if !c.with {
			continue
		}
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(m.dir, "home")
			write(t, home, withLock(c.files))
			s := ownStep(t, withLock(c.files))
			fromOutline := m.installed(t, s)
			s.Stage, s.Script, s.Build = recipe.StageContent, strings.TrimPrefix(s.Script, recipe.Unfold), nil // its tools are there
			fromTree := m.installed(t, s)
			if d := cmp.Diff(fromTree, fromOutline); d != "" {
				t.Errorf("from the tree (-), from the outline (+):\n%s", d)
			}
			if _, ok := fromOutline["bin/tide"]; !ok || len(fromOutline) < 6 {
				t.Errorf("only %d files were installed", len(fromOutline))
			}
			if out := m.must(t, m.dir, m.environment()+"/bin/tide"); out != "high\n" {
				t.Errorf("tide says %q", out)
			}
		})
	}
}

// installed is what a step brings into an environment that was empty, by name.
func (m *machine) installed(t *testing.T, s recipe.Step) map[string]string {
	t.Helper()
	if err := os.RemoveAll(m.environment()); err != nil {
		t.Fatal(err)
	}
	m.must(t, m.dir, m.dir+"/run/tools/uv/uv", "venv", "--quiet", "--python", m.python, m.environment())
	before := m.files(t)
	if out, err := m.step(t, s); err != nil || strings.Contains(out, "once more") {
		t.Fatalf("%v\n%s", err, out)
	}
	after := m.files(t)
	maps.DeleteFunc(after, func(name, text string) bool { was, ok := before[name]; return ok && was == text })
	return after
}

func (m *machine) files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(m.environment()), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(m.environment(), name))
		out[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write puts files into a directory, instead of all that is there.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
