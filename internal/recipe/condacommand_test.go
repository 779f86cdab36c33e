package recipe_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestCondaCommands: a script that calls conda or mamba finds it, and what it installs
// is in the environment of the notebooks.
func TestCondaCommands(t *testing.T) {
	const call = "#!/bin/bash\nconda install -y -c conda-forge ffmpeg\n"
	for name, c := range map[string]struct {
		files map[string]string
		specs string // what conda solves; empty where it makes nothing
	}{
		"plain Python":     {map[string]string{"postBuild": call, "requirements.txt": "numpy\n"}, `"specs":["conda","pip","python"],"prefer":["python 3.13.*"]`},
		"nothing else":     {map[string]string{"postBuild": call}, `"specs":["conda","pip","python"]`},
		"a version":        {map[string]string{"postBuild": call, "runtime.txt": "python-3.12"}, `"specs":["conda","pip","python=3.12"]`},
		"mamba, at start":  {map[string]string{"start": "mamba env update -n notebook -f more.yml\nexec \"$@\"\n"}, `"specs":["mamba","pip","python"]`},
		"with options":     {map[string]string{"postBuild": "set -e; conda --quiet install ffmpeg\n"}, `"specs":["conda","pip","python"]`},
		"an old Python":    {map[string]string{"postBuild": call, "runtime.txt": "python-3.6"}, `"specs":["conda","ipykernel","pip","python=3.6"]`},
		"environment.yml":  {map[string]string{"postBuild": call, "environment.yml": "dependencies: [numpy]\n"}, `"specs":["conda","numpy","pip","python"]`},
		"named there":      {map[string]string{"postBuild": call, "environment.yml": "dependencies: [conda=24]\n"}, `"specs":["conda=24","pip","python"]`},
		"with Nix":         {map[string]string{"postBuild": call, "default.nix": "{}"}, ""},
		"a comment":        {map[string]string{"postBuild": "# conda install ffmpeg\necho conda\n", "requirements.txt": "numpy\n"}, ""},
		"beside a lock":    {map[string]string{"postBuild": call, "pylock.toml": "lock-version = \"1.0\"\n"}, ""},
		"beside a Pipfile": {map[string]string{"postBuild": call, "Pipfile": "[packages]\nnumpy = '*'\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			var solved, made string
			for _, s := range r.Steps {
				if s.Lock != nil && len(s.Lock.Inputs) > 0 && s.Lock.Inputs[0].Name == "environment.json" {
					solved = string(s.Lock.Inputs[0].Content)
				}
				if strings.Contains(s.Script, "/.condarc") {
					made = s.Name
				}
			}
			if !strings.Contains(solved, c.specs) || (solved == "") != (c.specs == "") || (made == "") != (c.specs == "") {
				t.Errorf("solves %s, and %q has the settings", solved, made)
			}
			if c.specs != "" && (r.Env["CONDA_ENVS_DIRS"] != "/srv/conda/envs" || r.Env["CONDA_PREFIX"] != r.Env["KERNEL_PYTHON_PREFIX"]) {
				t.Errorf("%v", r.Env)
			}
			told := slices.ContainsFunc(r.Notes, func(n recipe.Note) bool { return strings.Contains(n.Message, "is called, and is not there") })
			if told != strings.HasPrefix(name, "beside") {
				t.Errorf("the author is told %+v", r.Notes)
			}
		})
	}
	r := read(t, map[string]string{"postBuild": call, "requirements.txt": "numpy\n"})
	if diff := cmp.Diff([]string{"conda: postBuild", "Jupyter", "pip: requirements.txt", "postBuild"}, steps(r)); diff != "" {
		t.Error(diff)
	}
}
