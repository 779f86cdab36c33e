package recipe

import (
	_ "embed"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// serverLock pins JupyterLab and everything it needs, with hashes, for every
// Python we offer. `make lock` renews it from server.in. It leaves out
// rfc3987-syntax (and lark, which only that needs): jsonschema does without, and
// importing it builds a parser, which took 0.7 of the 1.1 s that JupyterLab's
// imports took. That is why the lock is installed without looking at dependencies.
//
//go:embed server.txt
var serverLock []byte

// pythonKind is plain Python: requirements.txt, a package, runtime.txt, or a
// pyproject.toml that only says which Python.
func pythonKind() kind {
	return kind{name: "python", has: func(r *reader) bool {
		return r.has("requirements.txt") || r.has("runtime.txt") || (r.Dir == "" && (r.has("setup.py") || r.has("pyproject.toml")))
	}, read: readPython}
}

func readPython(r *reader) error {
	if err := r.choosePython(); err != nil {
		return err
	}
	r.serverStep()
	if err := r.pipSteps(); err != nil {
		return err
	}
	return r.projectStep()
}

// The uv of a step: where it is, and how it behaves. It copies because the
// cache is another file system, and .pyc files must not depend on the time of
// the file beside them: layers have the time of a commit.
const uvSetup = `export UV_LINK_MODE=copy UV_PYTHON_PREFERENCE=managed UV_PYTHON_INSTALL_DIR=/srv/conda/python UV_NO_PROGRESS=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH PYTHONDONTWRITEBYTECODE=1
uv() { ` + ToolDir + `/uv/uv "$@"; }
`

// uvCache is shared by all repositories, so only steps that run none of their
// code may have it: they download wheels and copy files.
const uvCachePath = "/run/binnacle/cache/uv"

func uvCache() []Cache { return []Cache{{ID: "uv", Path: uvCachePath}} }

// compile makes the .pyc files that are missing. Started without them, Jupyter
// takes three times as long.
const compile = `find ` + Prefix + `/lib -name '*.py' -path '*/site-packages/*' -newer ` + Prefix + `/.compiled -print0 2>/dev/null |
  xargs -0 -r ` + Prefix + `/bin/python -m compileall -q --invalidation-mode unchecked-hash >/dev/null || true
`

// serverStep makes the environment: Python and Jupyter.
func (r *reader) serverStep() {
	python := "/usr/bin/python3"
	if r.Python.Value != "" {
		python = r.Python.Value
	}
	r.Steps = append(r.Steps, Step{
		Name: "Python and Jupyter", Stage: StageServer, Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{{Name: "server.txt", Content: serverLock}},
		Script: uvSetup + `export UV_CACHE_DIR=` + uvCachePath + `
uv venv --quiet --python ` + quote(python) + ` ` + Prefix + `
uv pip install --quiet --python ` + Prefix + ` --no-deps --only-binary :all: --require-hashes --compile-bytecode -r ` + InputDir + `/server.txt
mkdir -p ` + Prefix + `/etc/jupyter
touch ` + Prefix + `/.compiled
`,
	})
	r.Env = map[string]string{
		"CONDA_DIR": "/srv/conda", "NB_PYTHON_PREFIX": Prefix, "KERNEL_PYTHON_PREFIX": Prefix, "VIRTUAL_ENV": Prefix,
		"APP_BASE": "/srv", "NPM_DIR": "/srv/npm", "NPM_CONFIG_GLOBALCONFIG": "/srv/npm/npmrc", "PYTHONUNBUFFERED": "1",
		"PATH": Home + "/.local/bin:" + Prefix + "/bin:/srv/conda/bin:/srv/npm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

// pipSteps installs requirements.txt in two steps. The first has the shared
// cache and takes only wheels, which run nothing when they are installed; the
// second has no cache, builds what has no wheel, and tells what is wrong.
func (r *reader) pipSteps() error {
	if !r.has("requirements.txt") {
		return nil
	}
	file := r.path("requirements.txt")
	r.use(file, "Python packages")
	q, err := r.readRequirements(file)
	if err != nil {
		return err
	}
	if r.has("requirements3.txt") {
		r.pass(r.path("requirements3.txt"), "it was for repositories with Python 2 kernels")
	}
	if len(q.lines) == 0 {
		r.note(file, 0, "requirements.txt names no package.", "")
		return nil
	}
	inputs := []Input{{Name: "requirements.txt", Content: []byte(strings.Join(q.lines, "\n") + "\n")}}
	install := `uv pip install --python ` + Prefix + ` -r ` + InputDir + `/requirements.txt`
	if q.local {
		r.note(file, 0, "requirements.txt names files of the repository, so its packages are installed again for every commit.",
			"Name packages of an index in it, and put the repository's own package into pyproject.toml.")
		r.Steps = append(r.Steps, Step{
			Name: "pip: " + file, Stage: StageContent, Tools: []string{"uv"}, Inputs: inputs, From: q.from, Packages: q.packages,
			Script: uvSetup + "export UV_NO_CACHE=1\n" + install + "\n" + compile,
		})
		return nil
	}
	r.Steps = append(r.Steps, Step{
		Name: "wheels: " + file, Stage: StageEnvironment, Tools: []string{"uv"}, Caches: uvCache(), Inputs: inputs, From: q.from,
		Script: uvSetup + "export UV_CACHE_DIR=" + uvCachePath + "\n" +
			install + ` --only-binary :all: || { echo "Not everything has a wheel that fits: the next step builds the rest."; touch ` + Prefix + "/.needs-source; }\n",
	}, Step{
		Name: "pip: " + file, Stage: StageEnvironment, Tools: []string{"uv"}, Inputs: inputs, From: q.from, Packages: q.packages,
		Script: uvSetup + "export UV_NO_CACHE=1\nif [ -e " + Prefix + "/.needs-source ]; then\n  " + install + "\n  rm " + Prefix + "/.needs-source\nfi\n" + compile,
	})
	return nil
}

// projectStep installs the repository itself when it is a Python package: only
// in the root and without a binder directory, and a pyproject.toml only when it
// has both [project] and [build-system], as in repo2docker.
func (r *reader) projectStep() error {
	if r.Dir != "" {
		return nil
	}
	var from []Location
	if r.has("setup.py") {
		from = append(from, Location{File: "setup.py"})
		r.use("setup.py", "the repository is a Python package")
	}
	p, ok, err := r.pyproject()
	if err != nil {
		return err
	}
	if ok {
		switch {
		case p.Project != nil && p.BuildSystem != nil:
			from = append(from, Location{File: "pyproject.toml"})
			r.use("pyproject.toml", "the repository is a Python package")
		case p.Project != nil:
			r.use("pyproject.toml", "says which Python; there is no [build-system], so it is not installed")
			r.note("pyproject.toml", 0, "The repository itself is not installed, because pyproject.toml has no [build-system].",
				`Add [build-system] with requires = ["hatchling"] and build-backend = "hatchling.build" if it should be.`)
		default:
			r.pass("pyproject.toml", "it has no [project]")
		}
	}
	if len(from) == 0 {
		return nil
	}
	r.Steps = append(r.Steps, Step{
		Name: "pip: the repository itself", Stage: StageContent, Tools: []string{"uv"}, From: from,
		Script: uvSetup + "export UV_NO_CACHE=1\nuv pip install --python " + Prefix + " .\n" + compile,
	})
	return nil
}

type pyproject struct {
	Project *struct {
		RequiresPython string `toml:"requires-python"`
	} `toml:"project"`
	BuildSystem map[string]any `toml:"build-system"`
}

// pyproject reads the root's; it does not count when there is a binder directory.
func (r *reader) pyproject() (pyproject, bool, error) {
	var p pyproject
	if r.Dir != "" {
		return p, false, nil
	}
	text, ok, err := r.text("pyproject.toml")
	if err != nil || !ok {
		return p, false, err
	}
	if err := toml.Unmarshal([]byte(text), &p); err != nil {
		return p, false, wrong("pyproject.toml", tomlLine(err), "pyproject.toml is not valid TOML: "+err.Error()+".", "Correct this line.")
	}
	return p, true, nil
}
