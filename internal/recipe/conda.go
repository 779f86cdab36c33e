package recipe

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// condaProgram solves and installs an environment.yml with rattler, a conda
// implementation that PyPI has, so that no other host is needed for the tool.
//
//go:embed condaenv.py
var condaProgram []byte

const condaCachePath = "/run/binnacle/cache/conda"

// condaKind is environment.yml: conda makes the environment, Jupyter joins it.
// requirements.txt, runtime.txt and pyproject.toml beside it do not count, as
// in repo2docker.
func condaKind() kind {
	return kind{name: "conda", has: func(r *reader) bool { return r.condaFile() != "" }, read: readConda}
}

func (r *reader) condaFile() string {
	for _, name := range []string{"environment.yml", "environment.yaml"} {
		if r.has(name) {
			return name
		}
	}
	return ""
}

// isConda says that conda makes the environment.
func (r *reader) isConda() bool { return r.Env["CONDA_PREFIX"] != "" }

// condaEnv is what of an environment.yml counts.
type condaEnv struct {
	channels []condaChannel
	conda    []Package
	pip      []Package
}

type condaChannel struct {
	name string
	line int
}

func readConda(r *reader) error {
	name := r.condaFile()
	for _, other := range []string{"requirements.txt", "runtime.txt", "environment.yaml", "Pipfile", "Pipfile.lock", "setup.py", "pyproject.toml"} {
		if other == name || !r.has(other) || (r.Dir != "" && (other == "setup.py" || other == "pyproject.toml")) {
			continue
		}
		r.pass(r.path(other), name+" decides")
		hint := "Move its packages below `pip:` in " + name + "."
		switch other {
		case "runtime.txt":
			hint = "Write python=3.12 in " + name + "."
		case "setup.py", "pyproject.toml":
			hint = "Write `- -e .` below `pip:` in " + name + " if the package is to be installed."
		}
		r.note(r.path(other), 0, other+" is passed over, because there is an "+name+".", hint)
	}
	return r.conda(name)
}

// conda adds what the file of that name declares.
func (r *reader) conda(name string) error {
	file := r.path(name)
	text, _, err := r.file(name)
	if err != nil {
		return err
	}
	env, err := parseConda(file, text)
	if err != nil {
		return err
	}
	r.use(file, "conda packages")
	if err := r.condaPython(file, env.conda); err != nil {
		return err
	}
	wanted, err := r.condaWanted(file, env)
	if err != nil {
		return err
	}
	r.condaSteps(file, wanted, env)
	r.environment()
	r.Env["CONDA_PREFIX"], r.Env["CONDA_DEFAULT_ENV"] = Prefix, Prefix
	return r.condaPip(file, env.pip)
}

// condaSteps makes the environment, and lets Jupyter join it. The second step
// runs a Python of the repository's choice, so it has no shared cache; what the
// author pinned stays, our lock says only what else Jupyter needs.
func (r *reader) condaSteps(file string, wanted []byte, env condaEnv) {
	program := ToolDir + "/conda/bin/python -B " + InputDir + "/condaenv.py "
	r.add(Step{
		Name: "conda: " + file, Stage: StageServer, Tools: []string{"conda"}, From: []Location{{File: file}}, Packages: env.conda,
		Caches: []Cache{{ID: "conda", Path: condaCachePath}},
		Inputs: []Input{{Name: "environment.json", Content: wanted}, {Name: "condaenv.py", Content: condaProgram}},
		Script: program + `install --file ` + InputDir + `/environment.json --prefix ` + Prefix + ` --cache ` + condaCachePath + "\n" + tidy,
	}, Step{
		Name: "Jupyter", Stage: StageServer, Tools: []string{"conda", "uv"}, From: []Location{{File: file}},
		Inputs: []Input{
			{Name: "server.txt", Content: serverLock},
			{Name: "overrides.txt", Content: serverOverrides},
			{Name: "condaenv.py", Content: condaProgram},
			compileInput(),
		},
		Script: uvAlone + `export UV_NO_CONFIG=1
` + program + `constraints --lock ` + InputDir + `/server.txt --prefix ` + Prefix + ` --all /tmp/all.txt --installed /tmp/installed.txt
jupyter="jupyterlab notebook ipykernel ipywidgets jupyterhub pip"
if ! uv pip install --quiet --python ` + Prefix + ` --only-binary :all:` + withoutSlow + `--constraint /tmp/all.txt $jupyter; then
  echo "The Jupyter we tested does not fit this environment: looking for one that does."
  uv pip install --python ` + Prefix + ` --only-binary :all:` + withoutSlow + `--constraint /tmp/installed.txt $jupyter
fi
` + quietLab + finish,
	})
}

// condaPython says which Python conda will choose; without a pin, one that the
// hub prefers, as long as the other packages allow it.
func (r *reader) condaPython(file string, packages []Package) error {
	r.Python = Choice{"", "conda chooses; " + file + " names none"}
	for _, p := range packages {
		if p.Name != "python" {
			continue
		}
		version := condaPin(p.Spec)
		r.Python = Choice{version, file + " asks for " + p.Spec}
		// conda-forge has builds of 3.8 still, and Jupyter versions for it.
		if regexp.MustCompile(`^(2|3\.[0-7])(\.|$)`).MatchString(version) || regexp.MustCompile(`=\s*2(\.\*)?\s*$`).MatchString(p.Spec) {
			return wrong(file, p.From.Line, "The Python of "+short(p.Spec)+" can't run today's Jupyter.", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+".")
		}
	}
	return nil
}

// condaWanted is what the program reads: equal environments give equal bytes.
func (r *reader) condaWanted(file string, env condaEnv) ([]byte, error) {
	specs, kernel := []string{"pip"}, false
	for _, p := range env.conda {
		specs = append(specs, strings.Join(strings.Fields(p.Spec), " "))
		kernel = kernel || strings.HasPrefix(p.Name, "r-")
	}
	if kernel {
		specs = append(specs, "r-irkernel")
	}
	wanted := struct {
		Channels []string `json:"channels"`
		Specs    []string `json:"specs"`
		Prefer   []string `json:"prefer,omitempty"`
	}{r.condaChannels(file, env.channels, env.conda), specs, nil}
	if !slices.ContainsFunc(env.conda, func(p Package) bool { return p.Name == "python" }) {
		wanted.Specs = append(wanted.Specs, "python")
	}
	if r.Python.Value == "" {
		prefer := r.opt.BasePython
		if r.opt.DefaultPython != "" {
			prefer = r.opt.DefaultPython
		}
		wanted.Prefer = []string{"python " + prefer + ".*"}
	}
	slices.Sort(wanted.Specs)
	wanted.Specs = slices.Compact(wanted.Specs)
	return json.Marshal(wanted)
}

// condaChannels are the channels in order. Anaconda's own ("defaults") has
// terms that a hub can't accept for its users, and conda-forge has the same
// packages; conda-forge is added as repo2docker's settings do.
func (r *reader) condaChannels(file string, channels []condaChannel, packages []Package) []string {
	var out, later []string
	only := false
	for _, c := range channels {
		switch c.name {
		case "nodefaults":
			only = true
		case "defaults", "anaconda", "main":
			r.note(file, c.line, "The channel "+c.name+" is not used, because Anaconda's terms apply to it: conda-forge takes its place.", "Write conda-forge instead.")
		default:
			if !slices.Contains(out, c.name) {
				out = append(out, c.name)
			}
		}
	}
	for _, p := range packages { // channel::name needs no entry in the list
		if name, _, ok := strings.Cut(p.Spec, "::"); ok {
			name, _, _ = strings.Cut(strings.TrimSpace(name), "/")
			if name != "" && name != "defaults" && !slices.Contains(out, name) && !strings.Contains(p.Spec, "://") {
				later = append(later, name)
			}
		}
	}
	if len(out) == 0 || (!only && !slices.Contains(out, "conda-forge")) {
		out = append(out, "conda-forge")
	}
	for _, name := range later {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// condaPip installs the `pip:` part, whose paths are relative to the file.
func (r *reader) condaPip(file string, pip []Package) error {
	if len(pip) == 0 {
		return nil
	}
	q := &requirements{sources: map[string]bool{}, files: []string{file}, dir: r.Dir}
	for _, p := range pip {
		for _, l := range logicalLines(p.Spec) {
			l.number = p.From.Line
			if err := r.requirementLine(q, include{file: file}, l); err != nil {
				return err
			}
		}
	}
	if len(q.packages) == 0 {
		return nil
	}
	stage, dir := StageEnvironment, ""
	if q.local {
		stage, dir = StageContent, r.Dir
		r.note(file, 0, "`pip:` names files of the repository, so it is installed anew for every commit.", "")
	}
	r.add(q.step("pip: "+file, stage, dir))
	return nil
}

// parseConda reads environment.yml. name: and prefix: do not count.
func parseConda(file, text string) (condaEnv, error) {
	var env condaEnv
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return env, wrong(file, yamlLine(err), file+" is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: ")+".", "Correct this line; indent with blanks, not tabs.")
	}
	if len(root.Content) == 0 || (root.Content[0].Kind == yaml.ScalarNode && root.Content[0].Tag == "!!null") {
		return env, nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return env, wrong(file, top.Line, file+" holds no mapping of names to values.", "Write `dependencies:` and a list below it.")
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		var err error
		switch key := top.Content[i]; key.Value {
		case "channels":
			env.channels, err = condaChannelList(file, key.Line, resolved(top.Content[i+1]))
		case "dependencies":
			err = env.dependencies(file, key.Line, resolved(top.Content[i+1]))
		}
		if err != nil {
			return condaEnv{}, err
		}
	}
	return env, nil
}

// resolved follows one alias.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func listOf(file, name string, line int, n *yaml.Node) ([]*yaml.Node, error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, wrong(file, line, name+" is not a list.", "Write each of them on a line of its own, after a dash.")
	}
	return n.Content, nil
}

func condaChannelList(file string, line int, n *yaml.Node) ([]condaChannel, error) {
	list, err := listOf(file, "channels", line, n)
	if err != nil {
		return nil, err
	}
	valid := regexp.MustCompile(`^(https?://[^\s"'@]+|[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)$`)
	var out []condaChannel
	for _, c := range list {
		c = resolved(c)
		if c.Kind != yaml.ScalarNode || !valid.MatchString(c.Value) || strings.Contains(c.Value, "..") {
			return nil, wrong(file, c.Line, "This is not a conda channel: "+short(c.Value)+".", "Write a name such as conda-forge, or an https:// address without a password.")
		}
		out = append(out, condaChannel{strings.TrimSuffix(c.Value, "/"), c.Line})
	}
	return out, nil
}

func (env *condaEnv) dependencies(file string, line int, n *yaml.Node) error {
	list, err := listOf(file, "dependencies", line, n)
	if err != nil {
		return err
	}
	for _, d := range list {
		d = resolved(d)
		switch {
		case d.Kind == yaml.ScalarNode && condaName(d.Value) != "" && !strings.ContainsAny(d.Value, "\x00\n;&`$"):
			env.conda = append(env.conda, Package{Manager: "conda", Name: condaName(d.Value), Spec: strings.TrimSpace(d.Value), From: Location{file, d.Line}})
		case d.Kind == yaml.MappingNode && len(d.Content) == 2 && d.Content[0].Value == "pip":
			pip, err := listOf(file, "pip", d.Content[0].Line, resolved(d.Content[1]))
			if err != nil {
				return err
			}
			for _, p := range pip {
				p = resolved(p)
				if p.Kind != yaml.ScalarNode || strings.TrimSpace(p.Value) == "" {
					return wrong(file, p.Line, "This is not a requirement of pip.", "Write one on each line, like name or name==1.2.")
				}
				env.pip = append(env.pip, Package{Manager: "pip", Name: nameOf(p.Value), Spec: strings.TrimSpace(p.Value), From: Location{file, p.Line}})
			}
		default:
			return wrong(file, d.Line, "This dependency is neither a conda package nor a `pip:` list: "+short(d.Value)+".", "Write one package on each line, like name or name=1.2.")
		}
	}
	return nil
}

// condaName is the package of a match spec such as conda-forge::numpy>=1.2.
func condaName(spec string) string {
	if _, rest, ok := strings.Cut(spec, "::"); ok {
		spec = rest
	}
	return strings.ToLower(regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*`).FindString(strings.TrimSpace(spec)))
}

// condaPin is the X.Y that a spec of python fixes, in any of conda's
// spellings; empty when it leaves a choice.
func condaPin(spec string) string {
	if _, rest, ok := strings.Cut(spec, "::"); ok {
		spec = rest
	}
	m := regexp.MustCompile(`(?i)^\s*python\s*(?:\[version=['"]?)?(=+|~=|\s)\s*(\d+\.\d+)((?:\.\d+|\.\*|\*)*)`).FindStringSubmatch(spec)
	if m == nil || strings.ContainsAny(spec, "<>|!,") || (m[1] == "~=" && m[3] == "") {
		return "" // ~=3.9 allows every later Python 3
	}
	return m[2]
}

func yamlLine(err error) int {
	m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}
