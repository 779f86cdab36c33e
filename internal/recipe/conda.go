package recipe

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// condaProgram solves and installs an environment.yml with rattler, a conda
// implementation that PyPI has, so that no other host is needed for the tool.
//
//go:embed condaenv.py
var condaProgram []byte

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

// condaEnvironment is what of environment.yml counts.
type condaEnvironment struct {
	Channels     []string    `yaml:"channels"`
	Dependencies []yaml.Node `yaml:"dependencies"`
}

func readConda(r *reader) error {
	name := r.condaFile()
	file := r.path(name)
	text, _, err := r.file(name)
	if err != nil {
		return err
	}
	channels, packages, pip, err := parseConda(file, text)
	if err != nil {
		return err
	}
	r.use(file, "conda packages")
	python := Location{}
	for _, p := range packages {
		if p.Name == "python" {
			python = p.From
			r.Python = Choice{condaPython(p.Spec), file + " asks for " + p.Spec}
		}
	}
	if python.File == "" {
		r.Python = Choice{"", "the newest that conda finds; " + file + " names none"}
	}
	for _, other := range []string{"requirements.txt", "runtime.txt", "environment.yaml"} {
		if other != name && r.has(other) {
			r.pass(r.path(other), name+" decides")
			r.note(r.path(other), 0, other+" is passed over, because there is an "+name+".", "Move its packages below `pip:` in "+name+".")
		}
	}
	wanted, err := condaWanted(channels, packages, python.File == "")
	if err != nil {
		return err
	}
	r.serverStep()
	server := &r.Steps[len(r.Steps)-1]
	*server = Step{
		Name: "conda: " + file, Stage: StageServer, Tools: []string{"conda"}, From: []Location{{File: file}}, Packages: packages,
		Caches: []Cache{{ID: "conda", Path: condaCachePath}},
		Inputs: []Input{{Name: "environment.json", Content: wanted}, {Name: "condaenv.py", Content: condaProgram}},
		Script: `export PYTHONDONTWRITEBYTECODE=1
` + ToolDir + `/conda/bin/python ` + InputDir + `/condaenv.py --file ` + InputDir + `/environment.json --prefix ` + Prefix + ` --cache ` + condaCachePath + "\n",
	}
	// What the author pinned stays: the lock only says what else Jupyter needs.
	r.Steps = append(r.Steps, Step{
		Name: "Jupyter", Stage: StageServer, Tools: []string{"uv"}, Caches: uvCache(), Inputs: []Input{{Name: "server.txt", Content: serverLock}},
		Script: uvSetup + `export UV_CACHE_DIR=` + uvCachePath + `
sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' ` + InputDir + `/server.txt | sort -u > /tmp/wanted
uv pip freeze --quiet --python ` + Prefix + ` | sed -n 's/^\([A-Za-z0-9._-]*\) *[=@].*/\1/p' | tr 'A-Z_.' 'a-z--' | sort -u > /tmp/present
comm -23 /tmp/wanted /tmp/present > /tmp/missing
if uv pip install --quiet --python ` + Prefix + ` --only-binary :all: jupyterlab notebook ipykernel jupyterhub pip --constraint <(sed 's/ *\\$//; /^ *--hash/d' ` + InputDir + `/server.txt | grep -F -f <(sed 's/$/==/' /tmp/missing)); then :; else
  uv pip install --quiet --python ` + Prefix + ` --only-binary :all: jupyterlab notebook ipykernel pip
fi
rm -f /tmp/wanted /tmp/present /tmp/missing
`,
	}, Step{
		Name: "compile", Stage: StageEnvironment,
		Script: Prefix + "/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash " + Prefix + "/lib/python3*/site-packages >/dev/null || true\n",
	})
	return r.condaPip(file, pip)
}

// condaWanted is what the program reads: equal environments give equal bytes.
func condaWanted(channels []string, packages []Package, anyPython bool) ([]byte, error) {
	specs := []string{"pip"}
	if anyPython {
		specs = append(specs, "python")
	}
	for _, p := range packages {
		specs = append(specs, p.Spec)
		if strings.HasPrefix(p.Name, "r-") {
			specs = append(specs, "r-irkernel")
		}
	}
	channels = slices.DeleteFunc(slices.Clone(channels), func(c string) bool { return c == "nodefaults" })
	if len(channels) == 0 || slices.Equal(channels, []string{"defaults"}) {
		channels = []string{"conda-forge"} // as repo2docker's condarc; "defaults" has terms of its own
	}
	slices.Sort(specs)
	return json.Marshal(map[string]any{"channels": channels, "specs": slices.Compact(specs)})
}

const condaCachePath = "/run/binnacle/cache/conda"

// condaPip installs the `pip:` part, whose paths are relative to the file.
func (r *reader) condaPip(file string, pip []Package) error {
	if len(pip) == 0 {
		return nil
	}
	q := requirements{}
	for _, p := range pip {
		if option, value, ok := includeOption(p.Spec); ok && !strings.Contains(value, "://") {
			q.local = true
			q.add(option+" "+RepoDir+"/"+r.path(value), p.From)
			continue
		}
		if err := q.requirement(p.Spec, p.From); err != nil {
			return err
		}
	}
	stage := StageEnvironment
	if q.local {
		stage = StageContent
	}
	r.Steps = append(r.Steps, Step{
		Name: "pip: " + file, Stage: stage, Tools: []string{"uv"}, From: q.from, Packages: q.packages,
		Inputs: []Input{{Name: "requirements.txt", Content: []byte(strings.Join(q.lines, "\n") + "\n")}},
		Script: uvSetup + "export UV_NO_CACHE=1\nuv pip install --python " + Prefix + " -r " + InputDir + "/requirements.txt\n",
	})
	return nil
}

// parseConda reads environment.yml. name: and prefix: do not count.
func parseConda(file, text string) (channels []string, conda, pip []Package, err error) {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return nil, nil, nil, wrong(file, yamlLine(err), file+" is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: ")+".", "Correct this line.")
	}
	if len(root.Content) == 0 {
		return nil, nil, nil, nil
	}
	if root.Content[0].Kind != yaml.MappingNode {
		return nil, nil, nil, wrong(file, root.Content[0].Line, file+" holds no mapping of names to values.", "Write `dependencies:` and a list below it.")
	}
	var env condaEnvironment
	if err := root.Content[0].Decode(&env); err != nil {
		return nil, nil, nil, wrong(file, yamlLine(err), file+" does not have the form of a conda environment.", "channels and dependencies are lists.")
	}
	for _, d := range env.Dependencies {
		switch {
		case d.Kind == yaml.ScalarNode && strings.TrimSpace(d.Value) != "":
			conda = append(conda, Package{Manager: "conda", Name: condaName(d.Value), Spec: d.Value, From: Location{file, d.Line}})
		case d.Kind == yaml.MappingNode && len(d.Content) == 2 && d.Content[0].Value == "pip" && d.Content[1].Kind == yaml.SequenceNode:
			for _, p := range d.Content[1].Content {
				pip = append(pip, Package{Manager: "pip", Name: requirementName(p.Value), Spec: strings.TrimSpace(p.Value), From: Location{file, p.Line}})
			}
		default:
			return nil, nil, nil, wrong(file, d.Line, "This dependency is neither a package nor a `pip:` list.", "Write one package on each line.")
		}
	}
	return env.Channels, conda, pip, nil
}

// condaName is the package of a match spec such as conda-forge::numpy>=1.2.
func condaName(spec string) string {
	if _, rest, ok := strings.Cut(spec, "::"); ok {
		spec = rest
	}
	return strings.ToLower(regexp.MustCompile(`^[A-Za-z0-9_.-]+`).FindString(strings.TrimSpace(spec)))
}

// condaPython is the X.Y a spec insists on; empty when it leaves it open.
func condaPython(spec string) string {
	m := regexp.MustCompile(`^(?:[^:]*::)?\s*python\s*=+\s*(\d+\.\d+)`).FindStringSubmatch(spec)
	if m == nil {
		return ""
	}
	return m[1]
}

func yamlLine(err error) int {
	m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n := 0
	for _, c := range m[1] {
		n = n*10 + int(c-'0')
	}
	return n
}
