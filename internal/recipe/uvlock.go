package recipe

import (
	"path"
	"slices"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
)

// lockPlan is a lock of Python packages that decides what is installed.
type lockPlan struct {
	wishes  []pythonWish // what it says of the Python
	pins    []pin        // whose wheels say more of it
	install func(r *reader) error
}

// lockName is one that is looked for, and whether it stands for a pyproject.toml
// that must be beside it.
type lockName struct {
	name    string
	project bool
	read    func(r *reader, file string) (*lockPlan, error)
}

// lockNames in the order they are tried. PEP 751 has services look for a file of
// their own name first.
func lockNames() []lockName {
	return []lockName{
		{"pylock.binder.toml", false, readPylock},
		{"uv.lock", true, readUVLock},
		{"poetry.lock", true, readPoetryLock},
		{"pdm.lock", true, readPDMLock},
		{"pylock.notebook.toml", false, readPylock},
		{"pylock.jupyter.toml", false, readPylock},
		{"pylock.toml", false, readPylock},
	}
}

// readPythonLock reads the lock that decides; nil when none does. requirements.txt
// keeps what it decides with repo2docker; pylock.binder.toml is for us.
func (r *reader) readPythonLock() (*lockPlan, error) {
	for _, l := range lockNames() {
		if !r.has(l.name) || (l.project && !r.has("pyproject.toml")) {
			continue
		}
		file := r.path(l.name)
		if l.name != "pylock.binder.toml" && r.has("requirements.txt") {
			return nil, nil
		}
		r.lock = file
		plan, err := l.read(r, file)
		if plan == nil || err != nil {
			return nil, err
		}
		r.use(file, "Python packages, in exact versions")
		if r.has("requirements.txt") {
			r.pass(r.path("requirements.txt"), l.name+" decides")
			r.note(r.path("requirements.txt"), 0, "requirements.txt is passed over, because there is a "+l.name+".", "Remove one of them.")
		}
		return plan, nil
	}
	return nil, nil
}

// otherLocks tells of the locks that do not count.
func (r *reader) otherLocks() {
	seen := map[string]bool{}
	for _, f := range r.Files {
		seen[f.Path] = true
	}
	for _, l := range lockNames() {
		file := r.path(l.name)
		if seen[file] || !r.has(l.name) {
			continue
		}
		why, hint := "another file decides", ""
		switch {
		case r.has("requirements.txt"):
			why, hint = "requirements.txt decides", "Remove requirements.txt if the lock is to decide, or write pylock.binder.toml, which comes first."
		case r.lock != "":
			why = r.lock + " decides"
		case l.project:
			why, hint = "there is no pyproject.toml beside it", "Commit pyproject.toml, too."
		}
		r.pass(file, why)
		r.note(file, 0, l.name+" is passed over: "+why+".", hint)
	}
}

// uvLock is what of a uv.lock is read here; uv itself makes the list of what is
// installed.
type uvLock struct {
	Version        int    `toml:"version"`
	RequiresPython string `toml:"requires-python"`
	Package        []uvPackage
}

type uvPackage struct {
	Name    string         `toml:"name"`
	Version string         `toml:"version"`
	Source  map[string]any `toml:"source"`
	Wheels  []struct {
		URL      string `toml:"url"`
		Filename string `toml:"filename"`
		Path     string `toml:"path"`
	} `toml:"wheels"`
	Groups map[string][]any `toml:"dev-dependencies"`
}

// is gives the value of a kind of source: "registry", "editable", "virtual".
func (p uvPackage) is(kind string) string { return textOf(p.Source, kind) }

func parseUVLock(file, text string) (uvLock, error) {
	var l uvLock
	if err := readTOML(file, text, &l); err != nil {
		return l, err
	}
	if l.Version != 1 {
		return l, wrong(file, max(1, keyLine(text, "version", 0)), "uv.lock is not of the version that Binnacle knows.", "Write it anew with a current uv: `uv lock`.")
	}
	return l, nil
}

func readUVLock(r *reader, file string) (*lockPlan, error) {
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	l, err := parseUVLock(file, text)
	if err != nil {
		return nil, err
	}
	p, _, err := r.pyproject()
	if err != nil {
		return nil, err
	}
	plan := &lockPlan{}
	lines := nameLines(text)
	for _, k := range l.Package {
		one := pin{name: k.Name, version: k.Version, line: lines[canonical(k.Name)]}
		for _, w := range k.Wheels {
			one.files = append(one.files, path.Base(w.URL+w.Filename+w.Path))
		}
		plan.pins = append(plan.pins, one)
	}
	group, err := r.chosenGroup(p)
	if err != nil {
		return nil, err
	}
	old, err := r.stale(p, l, plan.pins, group)
	if err != nil {
		return nil, err
	}
	if old != "" {
		r.pass(file, "it is older than pyproject.toml")
		r.note(file, 0, "uv.lock is older than pyproject.toml: "+old+" It is passed over, and the packages are those of the commit's day.", "Run `uv lock` and commit uv.lock.")
		return nil, nil
	}
	plan.wishes, err = wishes(file, keyLine(text, "requires-python", 0), l.RequiresPython)
	if err != nil {
		return nil, err
	}
	r.use(r.path("pyproject.toml"), "uv.lock has its packages in exact versions")
	plan.install = func(r *reader) error { return r.uvSteps(file, l, plan.pins, group) }
	return plan, nil
}

// stale says what of pyproject.toml a lock does not have; empty when it fits.
func (r *reader) stale(p pyproject, l uvLock, pins []pin, group string) (string, error) {
	var wants []string
	if p.Project != nil {
		wants = p.Project.Dependencies
	}
	if group != "" {
		lines, err := r.groupRequirements(p, group)
		if err != nil {
			return "", err
		}
		for _, one := range lines {
			wants = append(slices.Clip(wants), one.text)
		}
		for _, k := range l.Package {
			if _, ok := k.Groups[canonical(group)]; !ok && (k.is("virtual") == "." || k.is("editable") == ".") {
				return "it does not have the group " + group + ".", nil
			}
		}
	}
	return missing(wants, pins), nil
}

// missing says which requirements no pin meets; empty when there is none.
func missing(wants []string, pins []pin) string {
	versions := map[string][]string{}
	for _, k := range pins {
		versions[canonical(k.name)] = append(versions[canonical(k.name)], k.version)
	}
	for _, text := range wants {
		name, spec := splitRequirement(text)
		have, ok := versions[canonical(name)]
		if !ok && !strings.Contains(text, ";") {
			return name + " is not in it."
		}
		if want, err := pep440.NewSpecifiers(spec, pep440.WithPreRelease(true)); ok && err == nil && spec != "" && !slices.ContainsFunc(have, func(v string) bool {
			version, err := pep440.Parse(v)
			return err != nil || want.Check(version)
		}) {
			return "it has " + name + " " + strings.Join(have, ", ") + ", which is not " + spec + "."
		}
	}
	return ""
}

// splitRequirement gives the name and the version specifiers of a requirement.
func splitRequirement(text string) (name, spec string) {
	name = nameOf(strings.TrimSpace(text))
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), name))
	if strings.HasPrefix(rest, "[") {
		_, rest, _ = strings.Cut(rest, "]")
	}
	rest, _, _ = strings.Cut(rest, ";")
	rest = strings.Trim(strings.TrimSpace(rest), "()")
	if strings.HasPrefix(rest, "@") {
		return name, ""
	}
	return name, strings.TrimSpace(rest)
}

// uvSteps lets uv say which packages the lock has for the project, and installs
// them from the index, so that the hub's mirror serves them. Paths of the tree
// follow when it is there.
func (r *reader) uvSteps(file string, l uvLock, pins []pin, group string) error {
	inputs, err := r.uvProject(file, l)
	if err != nil {
		return err
	}
	export := "uv export --frozen --quiet --no-header"
	if group != "" {
		export += " --group " + quote(group)
	}
	lock := &Lock{
		Name: "Versions: " + file, Tools: []string{"uv"}, Inputs: inputs,
		Script: uvAlone + `export UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never
cd ` + InputDir + `/project
` + export + ` --no-emit-local -o ` + OutDir + `/` + lockedFile + `
` + export + ` --no-hashes -o /tmp/all.txt
grep -E '^(-e |\.|file:|[A-Za-z0-9._-]+ @ file:)' /tmp/all.txt > ` + OutDir + `/local.txt || true
`,
	}
	q := &requirements{}
	var local []string
	copied := false // something is not editable
	for i, k := range l.Package {
		if at := (Location{file, pins[i].line}); strings.Contains(k.is("registry"), "://") {
			if err := q.index(k.is("registry"), at); err != nil {
				return err
			}
		}
		for _, kind := range []string{"editable", "directory", "path"} {
			if at := k.is(kind); at != "" {
				local = append(local, path.Join(r.Dir, at))
				copied = copied || kind != "editable"
			}
		}
	}
	options, more := words(q.flags), []Input(nil)
	if len(q.lines) > 0 {
		options += " -r " + InputDir + "/" + optionsFile
		more = append(more, linesInput(optionsFile, q.lines))
	}
	const list = LockDir + "/" + lockedFile
	exact := exactStep(file, list, options, lock, more...)
	for _, p := range pins {
		exact.Packages = append(exact.Packages, Package{Manager: "pip", Name: p.name, Spec: p.name + "==" + p.version, From: Location{file, p.line}})
	}
	r.add(wheelStep(file, list, options, lock, more...), exact)
	if len(local) > 0 {
		s := localStep(file, LockDir+"/local.txt", "--no-deps", lock)
		s.Build = r.buildTools(local...)
		if r.Dir != "" {
			s.Script = strings.Replace(s.Script, "[ ! -s", "cd "+quote(r.Dir)+"\n[ ! -s", 1)
		}
		if !copied {
			s = r.outlined(s, local)
		}
		r.add(s)
	}
	return nil
}

// uvProject is what uv reads to know the project: the lock, and the pyproject.toml
// of each package of the workspace.
func (r *reader) uvProject(file string, l uvLock) ([]Input, error) {
	text, err := r.lockText(file)
	if err != nil {
		return nil, err
	}
	inputs := []Input{{Name: "project/uv.lock", Content: []byte(text)}}
	dirs := []string{"."}
	for _, k := range l.Package {
		for _, kind := range []string{"editable", "virtual", "directory"} {
			if at := k.is(kind); at != "" && !slices.Contains(dirs, path.Clean(at)) {
				dirs = append(dirs, path.Clean(at))
			}
		}
	}
	if len(dirs) > mostFiles {
		return nil, wrong(file, 0, "The workspace has more than a hundred packages.", "Describe the one that is to be launched in binder/.")
	}
	for _, dir := range dirs {
		inside, ok := inTree(r.Dir, dir)
		if !ok {
			return nil, wrong(file, 0, "uv.lock names "+short(dir)+", which is outside of the repository.", "Commit it into the repository.")
		}
		if strings.HasPrefix(dir, "..") {
			continue // beside binder/: uv needs none of it to read the lock
		}
		project, ok, err := r.text(path.Join(inside, "pyproject.toml"))
		if err != nil {
			return nil, err
		}
		if ok {
			inputs = append(inputs, Input{Name: path.Join("project", dir, "pyproject.toml"), Content: []byte(project)})
		}
	}
	return inputs, nil
}

// lockCauses are the ways in which a lock fails, in the words of uv.
func lockCauses() []cause {
	const again = "Run `uv lock` and commit uv.lock."
	return []cause{
		{pattern: `The lockfile at \S+ needs to be updated`, message: "uv.lock is older than pyproject.toml.", hint: again, tools: true},
		{pattern: `[Gg]roup \S+ is not defined in`, message: "uv.lock does not have a dependency group of pyproject.toml.", hint: again, tools: true},
		{pattern: `(?i)failed to parse .?\S*uv\.lock|unsupported schema version`, message: "uv.lock can't be read.", hint: "Write it anew with a current uv: `uv lock`.", tools: true},
	}
}
