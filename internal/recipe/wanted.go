package recipe

import (
	"slices"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
)

// wanted are requirements whose versions a lock fixes: names, extras and markers
// from pyproject.toml, versions and hashes from the lock as constraints. uv finds
// which of the lock this Python and this machine need.
type wanted struct {
	r    *reader
	file string // the lock
	pins map[string][]pin
	q    *requirements
	free map[string]bool // names whose pins do not count
	all  []pin
}

func (r *reader) wanted(file string, pins []pin) *wanted {
	w := &wanted{r: r, file: file, pins: map[string][]pin{}, q: &requirements{sources: map[string]bool{}, files: []string{file}}, free: map[string]bool{}, all: pins}
	for _, p := range pins {
		w.pins[canonical(p.name)] = append(w.pins[canonical(p.name)], p)
	}
	return w
}

// add asks for a package. spec is what pyproject.toml allows: alternatives of PEP
// 440. Where the lock does not fit, it is older than pyproject.toml: what it has
// does not count then.
func (w *wanted) add(p pin, spec []string, at Location) error {
	name := canonical(p.name)
	locked := w.pins[name]
	if p.target == "" && p.path == "" {
		for _, l := range locked {
			if l.target != "" || l.path != "" { // the lock knows the commit
				p.target, p.path = l.target, l.path
			}
		}
	} else if len(locked) > 0 && locked[0].target != "" {
		p.target = locked[0].target
	}
	fits := slices.ContainsFunc(locked, func(l pin) bool { return fitsSpec(l.version, spec) })
	plain := p.target == "" && p.path == ""
	tool := strings.TrimSuffix(w.file[strings.LastIndexByte(w.file, '/')+1:], ".lock")
	switch {
	case plain && len(locked) == 0 && p.marker == "":
		w.r.note(at.File, at.Line, w.file+" is older than "+at.File+": it does not have "+p.name+", whose version is that of the commit's day.", "Run `"+tool+" lock` and commit it.")
	case plain && len(locked) > 0 && !fits && p.marker == "":
		w.r.note(at.File, at.Line, w.file+" is older than "+at.File+": its version of "+p.name+" does not fit.", "Run `"+tool+" lock` and commit it.")
		w.free[name] = true
	}
	if plain && !fits && len(spec) == 1 { // none of the lock's
		p.version = spec[0]
	}
	for _, l := range locked {
		if err := w.q.index(l.index, Location{w.file, l.line}); err != nil {
			return err
		}
	}
	text := p.requirement(w.r.Dir)
	if plain {
		text = strings.Replace(text, "==", "", 1)
	}
	if err := checkLine(p, text, at); err != nil {
		return err
	}
	if option, value := splitOption(text); option == "-e" {
		return w.r.requirementOption(w.q, option, value, at)
	}
	return w.q.requirement(text, at)
}

// fitsSpec says whether a version is one of the alternatives; what can't be read
// is left to uv.
func fitsSpec(version string, alternatives []string) bool {
	v, err := pep440.Parse(version)
	if err != nil || len(alternatives) == 0 {
		return true
	}
	return slices.ContainsFunc(alternatives, func(spec string) bool {
		want, err := pep440.NewSpecifiers(spec, pep440.WithPreRelease(true))
		return err != nil || want.Check(v)
	})
}

// projectWants adds [project.dependencies] and the extra that is for a Binder.
func (r *reader) projectWants(p pyproject, w *wanted) error {
	file := r.path("pyproject.toml")
	text, _, err := r.text(file)
	if err != nil {
		return err
	}
	wants := p.Project.Dependencies
	for _, name := range binderGroups() {
		if more, ok := p.Project.Optional[name]; ok {
			wants = slices.Concat(wants, more)
			break
		}
	}
	for _, one := range wants {
		if err := w.pep508(one, Location{file, quotedLine(text, one, 0)}); err != nil {
			return err
		}
	}
	return nil
}

// groupWants adds dependency groups.
func (r *reader) groupWants(p pyproject, w *wanted, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if _, err := r.chosenGroup(p); err != nil { // two of the same name
		return err
	}
	for _, name := range names {
		lines, err := r.groupRequirements(p, name)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if err := w.pep508(l.text, Location{r.path("pyproject.toml"), l.line}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pep508 adds a requirement of the standard notation.
func (w *wanted) pep508(text string, at Location) error {
	text = strings.Join(strings.Fields(text), " ")
	if err := checkRequirement(text, at); err != nil {
		return err
	}
	name, spec := splitRequirement(text)
	p := pin{name: name, line: at.Line}
	head, marker, _ := strings.Cut(text, ";")
	if before, address, ok := strings.Cut(text, "@"); ok && !strings.ContainsAny(before, ";<>=!~") {
		address, marker, _ = strings.Cut(strings.TrimSpace(address), " ;")
		head = before
		if p.target = strings.TrimSpace(address); strings.HasPrefix(p.target, "file:") {
			p.path, p.target = strings.TrimPrefix(strings.TrimPrefix(p.target, "file://"), "file:"), ""
		}
	}
	p.marker = strings.TrimSpace(marker)
	if _, rest, ok := strings.Cut(head, "["); ok {
		extras, _, _ := strings.Cut(rest, "]")
		for e := range strings.SplitSeq(extras, ",") {
			p.extras = append(p.extras, strings.TrimSpace(e))
		}
	}
	var alternatives []string
	if spec != "" {
		alternatives = []string{spec}
	}
	return w.add(p, alternatives, at)
}

// install adds the steps: a Lock in which uv picks from the pins what is needed,
// wheels with the hashes of the lock, and what must be built.
func (w *wanted) install(r *reader) error {
	q := w.q
	if len(q.packages) == 0 {
		r.note(w.file, 0, w.file+" has nothing to install.", "")
		return nil
	}
	several := map[string]int{}
	for _, p := range w.all {
		several[canonical(p.name)]++
	}
	for _, p := range w.all {
		// Two versions are for two Pythons; a constraint takes both, joined, as none.
		if p.target == "" && p.path == "" && !w.free[canonical(p.name)] && several[canonical(p.name)] == 1 {
			p.index, p.marker, p.extras = "", "", nil
			q.constraints = append(q.constraints, p.requirement(""))
		}
	}
	if q.local {
		r.note(w.file, 0, "Packages of the repository itself are among those of "+w.file+", so all are installed anew for every commit.", "")
		r.add(q.step("pip: "+w.file, StageContent, ""))
		return nil
	}
	whole := q.step("pip: "+w.file, StageEnvironment, "")
	whole.Branch = "python"
	whole.From = []Location{{File: w.file}}
	lock := r.pipLock(w.file, q)
	const list = LockDir + "/" + lockedFile
	whole.Script += q.keep(list)
	if lock == nil {
		r.add(whole)
		return nil
	}
	// What is not locked is as old as the commit, when it must be built, too.
	whole.Lock = lock
	inputs := []Input{linesInput("constraints.txt", q.constraints)}
	options := words(q.flags) + " --constraint " + InputDir + "/constraints.txt"
	if lines := q.optionLines(); len(lines) > 0 {
		options += " -r " + InputDir + "/" + optionsFile
		inputs = append(inputs, linesInput(optionsFile, lines))
	}
	r.add(wheelStep(w.file, list, options, lock, inputs...), whole)
	return nil
}
