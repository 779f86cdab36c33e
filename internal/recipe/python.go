package recipe

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// serverLock pins JupyterLab and everything it needs, with hashes, for every
// Python we offer. `make lock` renews it from server.in.
//
//go:embed server.txt
var serverLock []byte

// serverOverrides keeps rfc3987-syntax out: jsonschema does without it, and
// importing it builds a parser, which was 0.7 of the 1.1 s that JupyterLab's
// imports took.
//
//go:embed overrides.txt
var serverOverrides []byte

// withoutSlow is the option that makes uv heed them.
const withoutSlow = " --overrides " + InputDir + "/overrides.txt "

// compileProgram writes the .pyc files that are missing: started without them,
// Jupyter takes three times as long.
//
//go:embed compile.py
var compileProgram []byte

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
	r.pythonServer()
	if err := r.pipFile(); err != nil {
		return err
	}
	return r.projectStep()
}

// pythonSide is the Python that Julia and R stand on: conda's when there is an
// environment.yml, and what the Python files beside it declare, as in
// repo2docker. With those languages environment.yml does not pass over
// requirements.txt.
func (r *reader) pythonSide() error {
	name := r.condaFile()
	if name == "" {
		return readPython(r)
	}
	if err := r.conda(name); err != nil {
		return err
	}
	if err := r.pipFile(); err != nil {
		return err
	}
	return r.projectStep()
}

// How uv behaves in steps: it copies because the cache is another file system,
// and takes the hub's configuration from variables only. .pyc files must not
// depend on the time of the file beside them, because layers may change it.
const uvSetup = `export UV_LINK_MODE=copy UV_BREAK_SYSTEM_PACKAGES=1 UV_PYTHON_PREFERENCE=managed UV_PYTHON_INSTALL_DIR=/srv/conda/python UV_NO_PROGRESS=1
export PYC_INVALIDATION_MODE=UNCHECKED_HASH PYTHONDONTWRITEBYTECODE=1
uv() { ` + ToolDir + `/uv/uv "$@"; }
`

// The cache of uv is shared by all repositories, so only steps that run none of
// their code may have it: they download wheels and copy files, and start no
// Python once something of a repository's choice is in the environment.
const (
	uvCachePath = "/run/binnacle/cache/uv"
	uvShared    = uvSetup + "export UV_NO_CONFIG=1 UV_CACHE_DIR=" + uvCachePath + "\n"
	uvAlone     = uvSetup + "export UV_NO_CACHE=1\n"
	// quietLab keeps JupyterLab from asking everybody, in every session, whether
	// it may fetch news from another host.
	quietLab = "mkdir -p " + Prefix + "/etc/jupyter/labconfig\n" +
		`echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > ` + Prefix + "/etc/jupyter/labconfig/page_config.json\n"
	finish = Prefix + "/bin/python -B " + InputDir + "/compile.py /srv/conda\n" + tidy
)

func uvCache() []Cache { return []Cache{{ID: "uv", Path: uvCachePath}} }

func compileInput() Input { return Input{Name: "compile.py", Content: compileProgram} }

func linesInput(name string, lines []string) Input {
	return Input{Name: name, Content: []byte(strings.Join(lines, "\n") + "\n")}
}

// pythonServer makes the environment: Python and Jupyter. It installs only what
// our lock names, so it may have the cache and compile in one step.
func (r *reader) pythonServer() {
	python := r.Python.Value
	if python == "" || python == r.opt.BasePython {
		python = "/usr/bin/python3"
	}
	var from []Location
	if r.asks.File != "" {
		from = append(from, r.asks)
	}
	r.add(Step{
		Name: "Python and Jupyter", From: from, Stage: StageServer, Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{{Name: "server.txt", Content: serverLock}, {Name: "overrides.txt", Content: serverOverrides}, compileInput()},
		Script: uvShared + `uv venv --quiet --python ` + quote(python) + ` ` + Prefix + `
uv pip install --quiet --python ` + Prefix + ` --only-binary :all: --require-hashes --compile-bytecode` + withoutSlow + `-r ` + InputDir + `/server.txt
` + quietLab + finish,
	})
	r.environment()
	r.Env["VIRTUAL_ENV"] = Prefix
}

// environment sets the variables that repo2docker's images have and that
// scripts in the wild rely on.
func (r *reader) environment() {
	r.Env = map[string]string{
		"CONDA_DIR": "/srv/conda", "NB_PYTHON_PREFIX": Prefix, "KERNEL_PYTHON_PREFIX": Prefix,
		"APP_BASE": "/srv", "NPM_DIR": "/srv/npm", "NPM_CONFIG_GLOBALCONFIG": "/srv/npm/npmrc", "PYTHONUNBUFFERED": "1",
		"PATH": Home + "/.local/bin:" + Prefix + "/bin:/srv/conda/bin:/srv/npm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

// pipFile installs requirements.txt.
func (r *reader) pipFile() error {
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
		r.pass(r.path("requirements3.txt"), "it was for servers beside a Python 2")
		r.note(r.path("requirements3.txt"), 0, "requirements3.txt is passed over: there is one environment, and requirements.txt describes it.", "Move what is needed into requirements.txt.")
	}
	if len(q.packages) == 0 {
		r.note(file, 0, "requirements.txt names no package.", "")
		return nil
	}
	if q.local {
		r.note(file, 0, "requirements.txt names files of the repository, so its packages are installed anew for every commit.",
			"Name only packages of an index in it, and let pyproject.toml describe the repository's own package.")
		r.add(q.step("pip: "+file, StageContent, "", uvAlone))
		return nil
	}
	r.add(r.pipSteps(file, q)...)
	return nil
}

// step installs everything at once, without the shared cache.
func (q *requirements) step(name string, stage Stage, dir, setup string) Step {
	if dir != "" {
		setup += "cd " + quote(dir) + "\n"
	}
	var from []Location
	for _, f := range q.files {
		if l := (Location{File: f}); !slices.Contains(from, l) {
			from = append(from, l)
		}
	}
	return Step{
		Name: name, Stage: stage, Tools: []string{"uv"}, From: from, Packages: q.packages,
		Inputs: append(q.inputs("requirements.txt", q.lines), compileInput()),
		Script: setup + "uv " + q.install("requirements.txt", "") + "\n" + finish,
	}
}

func (q *requirements) inputs(name string, lines []string) []Input {
	in := []Input{linesInput(name, lines)}
	if len(q.constraints) > 0 {
		in = append(in, linesInput("constraints.txt", q.constraints))
	}
	return in
}

// install is the command without uv's name.
func (q *requirements) install(input, more string) string {
	words := []string{"pip install --python " + Prefix}
	words = append(words, q.flags...)
	if more != "" {
		words = append(words, more)
	}
	if len(q.constraints) > 0 {
		words = append(words, "--constraint "+InputDir+"/constraints.txt")
	}
	return strings.Join(append(words, "-r "+InputDir+"/"+input), " ")
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
			r.projectDependencies(p)
		case p.Project != nil:
			r.use("pyproject.toml", "says which Python; there is no [build-system], so it is not installed")
			r.note("pyproject.toml", 0, "The repository itself is not installed, because pyproject.toml has no [build-system].",
				`Add [build-system] with requires = ["hatchling"] and build-backend = "hatchling.build" if it should be.`)
		default:
			r.pass("pyproject.toml", "it has no [project]")
			if len(from) == 0 {
				r.note("pyproject.toml", 0, "pyproject.toml has no [project], so nothing is installed for it.", "Describe the package in [project], or the packages it needs in requirements.txt.")
			}
		}
	}
	if len(from) == 0 {
		return nil
	}
	r.add(Step{
		Name: "pip: the repository itself", Stage: StageContent, Tools: []string{"uv"}, From: from, Inputs: []Input{compileInput()},
		Packages: []Package{{Manager: "pip", Name: ".", Spec: ".", From: from[0]}},
		Script:   uvAlone + "uv pip install --python " + Prefix + " .\n" + finish,
	})
	return nil
}

// projectDependencies installs what the package needs before the tree comes, so
// that a commit which changes only files does not install it again. With a
// requirements.txt the packages there come first, and `pip install .` adds the rest.
func (r *reader) projectDependencies(p pyproject) {
	if len(p.Project.Dependencies) == 0 || slices.Contains(p.Project.Dynamic, "dependencies") || r.has("requirements.txt") {
		return
	}
	q := &requirements{sources: map[string]bool{}, files: []string{"pyproject.toml"}}
	for _, d := range p.Project.Dependencies {
		if q.requirement(strings.Join(strings.Fields(d), " "), Location{File: "pyproject.toml"}) != nil || q.local {
			return // `pip install .` says what is wrong with it
		}
	}
	r.add(r.pipSteps("pyproject.toml", q)...)
}

type pyproject struct {
	Project *struct {
		RequiresPython string   `toml:"requires-python"`
		Dependencies   []string `toml:"dependencies"`
		Dynamic        []string `toml:"dynamic"`
	} `toml:"project"`
	BuildSystem *struct{} `toml:"build-system"`
}

// pyproject reads the root's; it does not count when there is a binder directory.
func (r *reader) pyproject() (pyproject, bool, error) {
	if r.Dir != "" {
		return pyproject{}, false, nil
	}
	text, ok, err := r.text("pyproject.toml")
	if err != nil || !ok {
		return pyproject{}, false, err
	}
	p, err := parsePyproject(text)
	return p, err == nil, err
}

func parsePyproject(text string) (pyproject, error) {
	var p pyproject
	if err := toml.Unmarshal([]byte(text), &p); err != nil {
		return p, wrong("pyproject.toml", tomlLine(err), "pyproject.toml can't be read: "+strings.TrimPrefix(err.Error(), "toml: ")+".", "Correct this line.")
	}
	return p, nil
}
