package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestOldPython: what asks for a Python that Jupyter does not run on gets it as a
// kernel of its own, beside the same Jupyter as everybody's.
func TestOldPython(t *testing.T) {
	everybody := read(t, map[string]string{"requirements.txt": "numpy\n"}).Steps[0]
	const setup = "from setuptools import setup\n"
	for name, c := range map[string]struct {
		files  map[string]string
		python string
		steps  []string // after Jupyter's and the kernel's
		says   string   // of the scripts of these
	}{
		"runtime.txt": {
			map[string]string{"runtime.txt": "python-2.7\n", "requirements.txt": "numpy\n"},
			"2.7",
			[]string{"pip: requirements.txt"},
			"/srv/conda/envs/kernel/bin/python -m pip install",
		},
		"any Python 2":    {map[string]string{"runtime.txt": "python-2"}, "2.7", nil, ""},
		"patch version":   {map[string]string{"runtime.txt": "python-3.6.8"}, "3.6.8", nil, ""},
		"requires-python": {map[string]string{"pyproject.toml": "[project]\nname = 'a'\nrequires-python = '<3.9'\n[build-system]\n"}, "3.8", []string{"pip: the repository itself"}, "--no-compile .\n"},
		"options": {
			map[string]string{"runtime.txt": "python-3.5", "requirements.txt": "--pre\n--trusted-host pypi.example.org\n--extra-index-url https://pypi.example.org/simple\n-c old.txt\nnumpy\n", "old.txt": "numpy<1.19\n"},
			"3.5",
			[]string{"pip: requirements.txt"},
			"--no-compile --pre --trusted-host 'pypi.example.org' --constraint /run/binnacle/in/constraints.txt -r ",
		},
		"own package": {
			map[string]string{"runtime.txt": "python-3.7", "requirements.txt": "-e .\n", "setup.py": setup},
			"3.7",
			[]string{"pip: requirements.txt", "pip: the repository itself"},
			"",
		},
		"for Jupyter": {
			map[string]string{"runtime.txt": "python-2.7", "requirements3.txt": "nbgitpuller\n"},
			"2.7",
			[]string{"pip: requirements3.txt"},
			"uv \"$@\"",
		},
		"Pipfile": {
			map[string]string{"Pipfile": "[packages]\nnumpy = '*'\n[requires]\npython_version = '3.6'\n"},
			"3.6",
			[]string{"pip: Pipfile"},
			"",
		},
		"Pipfile.lock": {
			map[string]string{"Pipfile.lock": `{"_meta": {"requires": {"python_version": "3.7"}}, "default": {
				"a": {"version": "==1", "hashes": ["sha256:00"]}, "b": {"git": "https://example.org/b.git", "ref": "0123abc"}, "c": {"path": "."}}}`},
			"3.7",
			[]string{"pip: Pipfile.lock", "pip: Pipfile.lock, without hashes", "pip: Pipfile.lock, the repository's own"},
			"--no-deps -r ",
		},
		"environment.yml": {
			map[string]string{"environment.yml": "dependencies:\n- python=3.6\n- numpy\n- pip:\n  - humanize\n  - -e .\n"},
			"3.6",
			[]string{"pip: environment.yml", "pip: environment.yml, the repository's own"},
			"",
		},
		"conda's Python 2": {map[string]string{"environment.yml": "dependencies:\n- python=2\n"}, "2.7", nil, ""},
		"conda-lock.yml":   {map[string]string{"conda-lock.yml": strings.ReplaceAll(condaLock, "3.12.4", "3.7.1")}, "3.7", []string{"pip: conda-lock.yml"}, ""},
		"pixi":             {map[string]string{"pixi.toml": workspace + "[dependencies]\npython = \"3.6.*\"\n"}, "3.6", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			have := steps(r)
			if len(have) < 3 || !strings.HasPrefix(have[1], "conda: ") || have[2] != "Kernel: Python "+c.python {
				t.Fatalf("steps are %q", have)
			}
			if diff := cmp.Diff(c.steps, append([]string(nil), have[3:]...)); diff != "" {
				t.Error(diff)
			}
			if r.Python.Value != c.python || r.Steps[0].Script != everybody.Script {
				t.Errorf("%+v, and Jupyter is made by\n%s", r.Python, r.Steps[0].Script)
			}
			if !strings.Contains(r.Steps[1].Script, "--prefix "+recipe.KernelPrefix) || !strings.Contains(r.Steps[2].Script, "ipykernel install --prefix "+recipe.Prefix) {
				t.Errorf("%s\n%s", r.Steps[1].Script, r.Steps[2].Script)
			}
			for _, s := range r.Steps[3:] {
				if !strings.Contains(s.Script, c.says) || c.says != "uv \"$@\"" && strings.Contains(s.Script, "uv ") {
					t.Errorf("%s:\n%s", s.Name, s.Script)
				}
			}
			want := map[string]string{"KERNEL_PYTHON_PREFIX": recipe.KernelPrefix, "NB_PYTHON_PREFIX": recipe.Prefix, "CONDA_DEFAULT_ENV": recipe.KernelPrefix}
			for k, v := range want {
				if r.Env[k] != v {
					t.Errorf("%s is %s", k, r.Env[k])
				}
			}
			if !strings.Contains(r.Env["PATH"], recipe.Prefix+"/bin:"+recipe.KernelPrefix+"/bin:") {
				t.Error(r.Env["PATH"])
			}
			if len(r.Notes) == 0 || !strings.Contains(r.Notes[0].Message, "kernel of its own") {
				t.Errorf("the author is told %+v", r.Notes)
			}
		})
	}
	e := refused(t, repo(map[string]string{"runtime.txt": "python-3.7\n", "pylock.toml": "lock-version = \"1.0\"\n"}))
	if e.File != "runtime.txt" || e.Line != 1 || !strings.Contains(e.Message, "pylock.toml") {
		t.Errorf("%+v", e)
	}
	runtime := read(t, map[string]string{"runtime.txt": "python-2.7\n", "requirements.txt": "numpy\n"})
	frozen, notes := recipe.Freeze(runtime, map[string]string{"conda.txt": "@EXPLICIT\n", "requirements.txt": "numpy==1.16.6\n"})
	if len(frozen) != 1 || frozen[0].Path != "requirements.txt" || len(notes) != 1 || !strings.Contains(notes[0].Message, "Python 2.7") {
		t.Errorf("frozen %+v, %+v", frozen, notes)
	}
}
