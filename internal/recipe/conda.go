package recipe

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

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

// isConda says that conda makes the environment of Jupyter.
func (r *reader) isConda() bool { return r.Env["CONDA_PREFIX"] == Prefix }

func readConda(r *reader) error {
	name := r.condaFile()
	if err := r.conda(name); err != nil {
		return err
	}
	for _, other := range []string{"requirements.txt", "runtime.txt", "environment.yaml", "Pipfile", "Pipfile.lock", "setup.py", "pyproject.toml"} {
		if other == name || !r.has(other) || (r.Dir != "" && (other == "setup.py" || other == "pyproject.toml")) {
			continue
		}
		if strings.HasSuffix(other, ".txt") && slices.ContainsFunc(r.Files, func(f File) bool { return f.Path == r.path(other) && f.Used }) {
			continue // `- -r requirements.txt` below pip:
		}
		r.pass(r.path(other), name+" decides")
		hint := "Move its packages below `pip:` in " + name + "."
		switch other {
		case "environment.yaml":
			hint = "Keep one of them."
		case "runtime.txt":
			hint = "Write python=" + runtimeExample(r) + " in " + name + "."
		case "setup.py", "pyproject.toml":
			hint = "Write `- -e .` below `pip:` in " + name + " if the package is to be installed."
		}
		r.note(r.path(other), 0, other+" is passed over, because there is an "+name+".", hint)
	}
	return nil
}

// runtimeExample is the version that runtime.txt asks for, as an example for another
// file.
func runtimeExample(r *reader) string {
	text, _, err := r.file("runtime.txt")
	if m := regexp.MustCompile(`^\s*python-(3\.\d+)`).FindStringSubmatch(text); err == nil && m != nil {
		return m[1]
	}
	return r.opt.BasePython
}

// conda adds what the file of that name declares, or the lock that was made
// from it.
func (r *reader) conda(name string) (err error) {
	file := r.path(name)
	text, _, err := r.file(name)
	if err != nil {
		return err
	}
	env, err := parseConda(file, text)
	if err != nil {
		return err
	}
	lock, err := r.condaLock()
	if err != nil {
		return err
	}
	defer func() {
		for _, v := range env.vars {
			if err == nil && r.variable(v.name, v.value, Location{file, v.line}) {
				r.late(v.name, v.value)
			}
		}
	}()
	if lock != nil {
		r.use(file, lock.file+" has the versions")
		lock.stale(r, env.conda)
		return r.condaLocked(lock, file, env.pip)
	}
	r.use(file, "conda packages")
	if err := r.condaPython(file, env.conda); err != nil {
		return err
	}
	wanted := r.condaWanted(env.conda)
	wanted.Channels = r.condaChannels(file, env.channels, env.conda)
	if err := r.condaSteps(condaPlan{file: file, from: []Location{{File: file}}, packages: env.conda, wanted: &wanted, r: r.condaBringsR(file, env.conda)}); err != nil {
		return err
	}
	return r.condaPip(pipPart{file: file, dir: r.Dir, lines: env.pip, dated: true})
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
		if regexp.MustCompile(`=\s*2(\.\*)?\s*$`).MatchString(p.Spec) {
			version = "2.7"
		}
		r.Python = Choice{version, file + " asks for " + p.Spec}
		if !tooOld(version) {
			continue
		}
		if !r.isOld(version) {
			return wrong(file, p.From.Line, "The Python of "+short(p.Spec)+" can't run today's Jupyter.", "Choose one of "+r.pythons()+".")
		}
		r.chooseOld(r.Python, p.From)
	}
	return nil
}

// tooOld says that no Jupyter of ours runs on it. conda-forge has builds of 3.8
// still, and Jupyter versions for it.
func tooOld(python string) bool {
	return regexp.MustCompile(`^(2|3\.[0-7])(\.|$)`).MatchString(python)
}

// condaBringsR says whether the packages bring R, and notes which.
func (r *reader) condaBringsR(file string, packages []Package) bool {
	found := false
	why := file + " names packages of R"
	version := ""
	for _, p := range packages {
		if !strings.HasPrefix(p.Name, "r-") {
			continue
		}
		found = true
		if p.Name == "r-base" {
			why = file + " asks for " + p.Spec
			if m := regexp.MustCompile(`^[^=<>~!]*?(?:=+|\s)\s*(\d+(?:\.\d+)*)`).FindStringSubmatch(p.Spec); m != nil {
				version = m[1]
			}
		}
	}
	if found {
		r.chose("r", Choice{version, why})
	}
	return found
}

// chose notes a language that came along; a file that asks for it goes first.
func (r *reader) chose(language string, c Choice) {
	if _, ok := r.Versions[language]; ok {
		return
	}
	if r.Versions == nil {
		r.Versions = map[string]Choice{}
	}
	r.Versions[language] = c
}

// condaWanted is what the program solves: equal wishes give equal bytes.
type condaWanted struct {
	Channels    []string `json:"channels"`
	Specs       []string `json:"specs"`
	Prefer      []string `json:"prefer,omitempty"`      // as long as it can be solved with it
	Constraints []string `json:"constraints,omitempty"` // of what is installed anyway
	Priority    string   `json:"priority,omitempty"`    // of channels: "strict", "disabled"; else the first that works
	CUDA        string   `json:"cuda,omitempty"`        // the version that packages may expect
}

func (w condaWanted) input() Input {
	b, err := json.Marshal(w)
	if err != nil {
		panic(err) // strings always marshal
	}
	return Input{Name: "environment.json", Content: b}
}

// condaWanted adds what every session needs to what an author asks for: Python,
// pip, and the kernel of R when there is R, with what scripts install more with.
func (r *reader) condaWanted(packages []Package) condaWanted {
	var w condaWanted
	named := map[string]bool{}
	needed, brings := []string{"pip", "python"}, false
	for _, p := range packages {
		w.Specs = append(w.Specs, strings.Join(strings.Fields(p.Spec), " "))
		named[p.Name] = true
		brings = brings || strings.HasPrefix(p.Name, "r-")
	}
	if brings {
		needed = append(needed, "r-base", "r-irkernel")
		for _, tool := range []string{"devtools", "remotes"} { // repo2docker's images have them
			if r.scriptsName(tool) {
				needed = append(needed, "r-"+tool)
			}
		}
	}
	for _, name := range append(needed, r.condaCommands()...) {
		if !named[name] {
			w.Specs = append(w.Specs, name)
		}
	}
	if r.old && !named["ipykernel"] {
		w.Specs = append(w.Specs, "ipykernel")
	}
	if r.Python.Value == "" {
		prefer := r.opt.BasePython
		if r.opt.DefaultPython != "" {
			prefer = r.opt.DefaultPython
		}
		w.Prefer = []string{"python " + prefer + ".*"}
		w.Constraints = []string{"python >=" + r.opt.Pythons[0]} // what was newest for an old commit may be too old
	}
	slices.Sort(w.Specs)
	w.Specs = slices.Compact(w.Specs)
	return w
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
