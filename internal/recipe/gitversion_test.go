package recipe_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestGitVersion: a package whose version comes from git gets one, in the steps that
// have the tree, unless it has another to fall back to.
func TestGitVersion(t *testing.T) {
	t.Parallel()
	const all, scm = "SETUPTOOLS_SCM_PRETEND_VERSION", "[build-system]\nrequires = [\"setuptools\", \"setuptools_scm[toml]>=8\"]\nbuild-backend = \"setuptools.build_meta\"\n"
	const project, vcs = "[project]\nname = \"Tide.Tables\"\ndynamic = [\"version\"]\n", "[build-system]\nrequires = [\"hatchling\", \"hatch-vcs\"]\nbuild-backend = \"hatchling.build\"\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string // the variable
	}{
		"setuptools-scm":            {map[string]string{"pyproject.toml": scm + project + "[tool.setuptools_scm]\n"}, all + "_FOR_TIDE_TABLES"},
		"without its table":         {map[string]string{"pyproject.toml": scm + project}, all + "_FOR_TIDE_TABLES"},
		"with a fallback":           {map[string]string{"pyproject.toml": scm + project + "[tool.setuptools_scm]\nfallback_version = \"1.0\"\n"}, ""},
		"not used":                  {map[string]string{"pyproject.toml": scm + "[project]\nname = \"tide\"\nversion = \"1.2\"\n"}, ""},
		"setup.cfg":                 {map[string]string{"pyproject.toml": scm + "[tool.setuptools_scm]\n", "setup.py": "from setuptools import setup\nsetup()\n", "setup.cfg": "[metadata]\nname = tide\n"}, all + "_FOR_TIDE"},
		"setup.py":                  {map[string]string{"setup.py": "setup(name='tide', use_scm_version=True, setup_requires=['setuptools_scm'])\n"}, all + "_FOR_TIDE"},
		"setup.py with a fallback":  {map[string]string{"setup.py": "setup(name='tide', use_scm_version={'fallback_version': '1'})\n"}, ""},
		"hatch-vcs":                 {map[string]string{"pyproject.toml": vcs + project + "[tool.hatch.version]\nsource = \"vcs\"\n"}, all},
		"hatch-vcs with a fallback": {map[string]string{"pyproject.toml": vcs + project + "[tool.hatch.version]\nsource = \"vcs\"\nfallback-version = \"1.0\"\n"}, ""},
		"requirements.txt":          {map[string]string{"requirements.txt": "six\n-e .\n", "pyproject.toml": scm + project + "[tool.setuptools_scm]\n"}, all + "_FOR_TIDE_TABLES"},
		"environment.yml":           {map[string]string{"environment.yml": "dependencies: [python=3.12, pip, {pip: [-e .]}]\n", "pyproject.toml": scm + project + "[tool.setuptools_scm]\n"}, all + "_FOR_TIDE_TABLES"},
		"postBuild":                 {map[string]string{"environment.yml": "dependencies: [numpy]\n", "postBuild": "#!/bin/bash\npip install .\n", "pyproject.toml": scm + project + "[tool.setuptools_scm]\n"}, all + "_FOR_TIDE_TABLES"},
		"a file that is no text":    {map[string]string{"environment.yml": "dependencies: [numpy]\n", "setup.py": "\x00use_scm_version\xff\n", "postBuild": "#!/bin/bash\ntrue\n"}, ""},
		"nobody installs it":        {map[string]string{"environment.yml": "dependencies: [numpy]\n", "pyproject.toml": scm + project + "[tool.setuptools_scm]\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{}
			for file, text := range c.files {
				tree[file] = &fstest.MapFile{Data: []byte(text), Mode: 0o755}
			}
			r, err := recipe.Read(tree, recipe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, s := range r.Steps {
				with := s.Stage == recipe.StageContent || s.Stage == recipe.StagePostBuild
				line, _, said := strings.Cut(s.Script, "=0.0\n")
				if said && strings.HasPrefix(line, "export "+all) {
					got = strings.TrimPrefix(line, "export ")
				} else {
					said = false
				}
				if said != (with && c.want != "") {
					t.Errorf("the step %s: %v", s.Name, said)
				}
			}
			noted := false
			for _, n := range r.Notes {
				noted = noted || strings.Contains(n.Message, "comes from git")
			}
			if got != c.want || noted != (c.want != "") {
				t.Errorf("%q, noted %v; want %q", got, noted, c.want)
			}
		})
	}
}
