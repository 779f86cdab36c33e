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
		names := []string{"requirements.txt", "runtime.txt"}
		if r.Dir == "" {
			names = append(names, "setup.py", "pyproject.toml")
		}
		for _, l := range lockNames() {
			names = append(names, l.name)
		}
		return slices.ContainsFunc(names, r.has)
	}, read: readPython}
}

func readPython(r *reader) error {
	plan, err := r.readPythonLock()
	if err != nil {
		return err
	}
	declared, err := r.namesPackages()
	if err != nil {
		return err
	}
	if plan == nil && !declared && r.Kind == "python" {
		if plan, err = r.inlinePlan(); err != nil {
			return err
		}
	}
	if plan == nil {
		plan = &lockPlan{install: func(r *reader) error {
			if err := r.pipFile(); err != nil {
				return err
			}
			return r.projectStep()
		}}
	}
	if err := r.choosePython(plan.wishes, plan.pins); err != nil {
		return err
	}
	if err := r.pythonServer(); err != nil {
		return err
	}
	if err := r.serverRequirements(); err != nil {
		return err
	}
	if err := plan.install(r); err != nil {
		return err
	}
	r.otherLocks()
	return nil
}

// namesPackages says whether a file of the repository is there to name packages,
// even none.
func (r *reader) namesPackages() (bool, error) {
	if r.lock != "" || r.has("requirements.txt") || (r.Dir == "" && r.has("setup.py")) {
		return true, nil
	}
	p, ok, err := r.pyproject()
	return ok && (p.Project != nil || len(p.Groups) > 0), err
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
	if text, ok, err := r.file("runtime.txt"); err != nil {
		return err
	} else if ok && r.Kind == "julia" && rRuntime(text) {
		r.noR()
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
	// asking runs uv; when a version does not exist, it says which do.
	asking = uvAlone + `asking() {
  uv "$@" 2>&1 | tee /tmp/said && return
  for name in $(sed -nE 's/.*[Bb]ecause there (is|are) no versions? of ([A-Za-z0-9._-]+).*/\2/p' /tmp/said | sort -u | head -n 3); do
    ` + Prefix + `/bin/python -m pip index versions --disable-pip-version-check "$name" 2>/dev/null | sed -n "s/^Available versions:/binnacle: versions of $name:/p" | cut -c1-300
  done
  return 1
}
`
	// quietLab keeps JupyterLab from asking everybody, in every session, whether
	// it may fetch news from another host.
	quietLab = "mkdir -p " + Prefix + "/etc/jupyter/labconfig\n" +
		`echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > ` + Prefix + "/etc/jupyter/labconfig/page_config.json\n"
	finish = "PYTHONHASHSEED=0 " + Prefix + "/bin/python -B " + InputDir + "/compile.py /srv/conda\n" + tidy
)

// keepSums lets the image know the hashes of a lock of ours, of which it has a part.
func keepSums(lock string) string { return "cp " + InputDir + "/" + lock + " " + SumStore + "/\n" }

func uvCache() []Cache { return []Cache{{ID: "uv", Path: uvCachePath}} }

func compileInput() Input { return Input{Name: "compile.py", Content: compileProgram} }

func linesInput(name string, lines []string) Input {
	return Input{Name: name, Content: []byte(strings.Join(lines, "\n") + "\n")}
}

// pythonServer makes the environment: Python and Jupyter, and where that Python is
// too old for it, both apart.
func (r *reader) pythonServer() error {
	if r.condaServer() {
		return r.condaEnvironment()
	}
	r.jupyterStep()
	r.environment()
	r.Env["VIRTUAL_ENV"] = Prefix
	return nil
}

// jupyterStep installs only what our lock names, so it may have the cache and
// compile in one step.
func (r *reader) jupyterStep() {
	python := r.serverPython()
	if python == "" || python == r.opt.BasePython {
		python = "/usr/bin/python3"
	}
	var from []Location
	if r.asks.File != "" && !r.old {
		from = append(from, r.asks)
	}
	r.add(Step{
		Name: "Python and Jupyter", From: from, Stage: StageServer, Tools: []string{"uv"}, Caches: uvCache(),
		Inputs: []Input{{Name: "server.txt", Content: serverLock}, {Name: "overrides.txt", Content: serverOverrides}, compileInput()},
		Script: uvShared + `uv venv --quiet --python ` + quote(python) + ` ` + Prefix + `
uv pip install --quiet --python ` + Prefix + ` --only-binary :all: --require-hashes --no-compile-bytecode` + withoutSlow + `-r ` + InputDir + `/server.txt
` + keepSums("server.txt") + quietLab + finish,
	})
}

// environment sets the variables that repo2docker's images have and that
// scripts in the wild rely on.
func (r *reader) environment() {
	path := Home + "/.local/bin:" + Prefix + "/bin:"
	if r.old {
		path += KernelPrefix + "/bin:"
	}
	r.Env = map[string]string{
		"CONDA_DIR": "/srv/conda", "NB_PYTHON_PREFIX": Prefix, "KERNEL_PYTHON_PREFIX": r.condaPrefix(),
		"APP_BASE": "/srv", "NPM_DIR": "/srv/npm", "NPM_CONFIG_GLOBALCONFIG": "/srv/npm/npmrc", "PYTHONUNBUFFERED": "1",
		"PATH": path + "/srv/conda/bin:/srv/npm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
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
	if r.has("requirements3.txt") && !r.old {
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
		r.add(r.pipStep(q, "pip: "+file, StageContent, ""))
		return nil
	}
	r.add(r.pipSteps(file, q)...)
	return nil
}

// step installs everything at once, without the shared cache.
func (q *requirements) step(name string, stage Stage, dir string) Step {
	setup := asking
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
		Script: setup + "asking " + q.install("") + "\n" + finish,
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
func (q *requirements) install(more string) string {
	words := []string{"pip install --python " + Prefix}
	words = append(words, q.flags...)
	if more != "" {
		words = append(words, more)
	}
	if len(q.constraints) > 0 {
		words = append(words, "--constraint "+InputDir+"/constraints.txt")
	}
	return strings.Join(append(words, "-r "+InputDir+"/requirements.txt"), " ")
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
			if err := r.projectDependencies(p, true); err != nil {
				return err
			}
		case p.Project != nil && r.lock != "": // too old a lock: its project manager would install these
			r.use("pyproject.toml", "Python packages")
			if err := r.projectDependencies(p, true); err != nil {
				return err
			}
		case p.Project != nil:
			r.use("pyproject.toml", "says which Python; there is no [build-system], so it is not installed")
			if err := r.projectDependencies(p, false); err != nil {
				return err
			}
			r.note("pyproject.toml", 0, "The repository itself is not installed, because pyproject.toml has no [build-system].",
				`Add [build-system] with requires = ["hatchling"] and build-backend = "hatchling.build" if it should be.`)
		case len(p.Groups) > 0:
			if err := r.projectDependencies(p, false); err != nil {
				return err
			}
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
	s := Step{Name: "pip: the repository itself", Stage: StageContent, From: from, Packages: []Package{{Manager: "pip", Name: ".", Spec: ".", From: from[0]}}}
	if r.old {
		s.Script = oldInstall + ".\n" + finishOld
	} else {
		s.Tools, s.Inputs, s.Build = []string{"uv"}, []Input{compileInput()}, r.buildTools(".")
		s.Script = ownPackages + "own --python " + Prefix + " .\n" + finishOwn
	}
	r.add(s)
	return nil
}

// projectDependencies installs what the package needs, and the dependency group
// that is for a Binder, before the tree comes, so that a commit which changes only
// files does not install it again. With a requirements.txt the packages there come
// first, and `pip install .` adds the rest.
func (r *reader) projectDependencies(p pyproject, project bool) error {
	const file = "pyproject.toml"
	group, err := r.chosenGroup(p)
	if err != nil {
		return err
	}
	if r.has("requirements.txt") {
		if group != "" {
			r.note(file, 0, "The dependency group "+group+" is passed over, because there is a requirements.txt.", "Remove requirements.txt if the group is to decide.")
		}
		return nil
	}
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	q := &requirements{sources: map[string]bool{}, files: []string{file}}
	if project && p.Project != nil && !slices.Contains(p.Project.Dynamic, "dependencies") {
		for _, d := range p.Project.Dependencies {
			if q.requirement(strings.Join(strings.Fields(d), " "), Location{file, quotedLine(text, d, 0)}) != nil || q.local {
				q = &requirements{sources: map[string]bool{}, files: []string{file}}
				break // `pip install .` says what is wrong with it
			}
		}
	}
	if group != "" {
		lines, err := r.groupRequirements(p, group)
		if err != nil {
			return err
		}
		r.use(file, "the dependency group "+group)
		for _, l := range lines {
			if err := q.requirement(l.text, Location{file, l.line}); err != nil {
				return err
			}
		}
	}
	if len(q.packages) == 0 {
		return nil
	}
	if q.local {
		r.add(r.pipStep(q, "pip: "+file, StageContent, ""))
		return nil
	}
	r.add(r.pipSteps(file, q)...)
	return nil
}

type pyproject struct {
	Project *struct {
		Name           string              `toml:"name"`
		RequiresPython string              `toml:"requires-python"`
		Dependencies   []string            `toml:"dependencies"`
		Optional       map[string][]string `toml:"optional-dependencies"`
		Dynamic        []string            `toml:"dynamic"`
	} `toml:"project"`
	BuildSystem *struct{}        `toml:"build-system"`
	Groups      map[string][]any `toml:"dependency-groups"`
	Tool        projectTools     `toml:"-"` // only beside a lock: other tables than ours may hold anything
}

type projectTools struct {
	Poetry poetryTool `toml:"poetry"`
	PDM    pdmTool    `toml:"pdm"`
}

// pyproject reads the root's; in a binder directory it counts only beside its lock,
// as repo2docker does not read it there.
func (r *reader) pyproject() (pyproject, bool, error) {
	if r.Dir != "" && r.lock == "" {
		return pyproject{}, false, nil
	}
	file := r.path("pyproject.toml")
	text, ok, err := r.text(file)
	if err != nil || !ok {
		return pyproject{}, false, err
	}
	p, err := parsePyproject(file, text)
	if err == nil && r.lock != "" {
		p.Tool, err = parseTools(file, text)
	}
	return p, err == nil, err
}

func parsePyproject(file, text string) (pyproject, error) {
	var p pyproject
	return p, projectTOML(file, text, &p)
}

func parseTools(file, text string) (projectTools, error) {
	var f struct {
		Tool projectTools `toml:"tool"`
	}
	err := projectTOML(file, text, &f)
	return f.Tool, err
}

func projectTOML(file, text string, v any) error {
	if err := toml.Unmarshal([]byte(text), v); err != nil {
		return wrong(file, tomlLine(err), file+" can't be read: "+strings.TrimPrefix(err.Error(), "toml: ")+".", "Correct this line.")
	}
	return nil
}
