package recipe

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"
	"github.com/pelletier/go-toml/v2"
)

// newestPatch stands for the latest patch release of a minor version when a
// bound like ">=3.10.5" is tested.
const newestPatch = 99

// choosePython decides the version and says why: runtime.txt, else a file such as
// .python-version, else what requires-python of pyproject.toml and of a lock allow,
// else the hub's default. pins are what a lock names: where it was made for an
// older Python, that has wheels of them.
func (r *reader) choosePython(said []pythonWish, pins []pin) error {
	r.defaultPython()
	fixed, err := r.runtimePython()
	if err != nil {
		return err
	}
	by := Location{}
	if fixed {
		by = r.asks
	}
	hint, err := r.pythonHint(fixed)
	if err != nil {
		return err
	}
	if !fixed {
		by = hint
	}
	all, err := r.projectWishes()
	if err != nil {
		return err
	}
	return r.fitPython(by, append(all, said...), pins)
}

func (r *reader) defaultPython() {
	if r.opt.DefaultPython != "" {
		r.Python = Choice{r.opt.DefaultPython, "the default of this hub"}
	} else {
		r.Python = Choice{"", "the Python of the base image"}
	}
}

// projectWishes is requires-python of pyproject.toml, or Poetry's older way to
// write it.
func (r *reader) projectWishes() ([]pythonWish, error) {
	p, ok, err := r.pyproject()
	if err != nil || !ok {
		return nil, err
	}
	file := r.path("pyproject.toml")
	if p.Project != nil && p.Project.RequiresPython != "" {
		spec, line := p.Project.RequiresPython, r.lineOf(file, "requires-python")
		if _, err := pep440.NewSpecifiers(spec); err != nil {
			return nil, wrong(file, line, "requires-python is not a version specifier: "+short(spec)+".", `Write it like requires-python = ">=3.11".`)
		}
		return wishes(file, line, spec)
	}
	if spec, ok := p.Tool.Poetry.Dependencies["python"].(string); ok && r.lock != "" {
		return wishes(file, r.lineOf(file, "python"), poetrySpec(spec)...)
	}
	return nil, nil
}

// noR says that the R of runtime.txt is not installed beside Julia, as in
// repo2docker.
func (r *reader) noR() {
	r.pass(r.path("runtime.txt"), "Julia's files decide, and it asks for R")
	r.note(r.path("runtime.txt"), 1, "R is not installed, because there is a Project.toml of Julia.", "Name r-base and other packages of R in environment.yml.")
}

// runtimePython reads runtime.txt: "python-3.12", on one line.
func (r *reader) runtimePython() (fixed bool, err error) {
	text, ok, err := r.file("runtime.txt")
	if err != nil || !ok || (r.Kind == "r" && rRuntime(text)) {
		return false, err
	}
	if r.Kind == "julia" && rRuntime(text) {
		r.noR()
		return false, nil
	}
	file := r.path("runtime.txt")
	version, dated, err := parseRuntime(file, text)
	if err != nil {
		return false, err
	}
	if dated {
		r.note(file, 1, "The date of runtime.txt is passed over: Python's packages are as of the commit's day.", "Leave the date out; a lock such as uv.lock fixes versions.")
	}
	switch version {
	case "3":
		r.use(file, "any Python 3")
		return false, nil
	case "2":
		version = "2.7"
	}
	why := Choice{version, file + " asks for it"}
	if r.isOld(version) {
		r.use(file, "Python "+version)
		r.chooseOld(why, Location{file, 1})
		return true, nil
	}
	if !slices.Contains(r.opt.Pythons, minorOf(version)) {
		return false, wrong(file, 1, "Python "+version+" can't run today's Jupyter.", "Choose one of "+r.pythons()+".")
	}
	r.use(file, "Python "+version)
	r.Python, r.asks = why, Location{file, 1}
	return true, nil
}

// parseRuntime gives the version of "python-3.12", which may be 3, 3.12 or 3.12.4,
// and whether there is a date, which repo2docker takes and passes over.
func parseRuntime(file, text string) (version string, dated bool, err error) {
	said, err := splitRuntime(file, text)
	if err != nil {
		return "", false, err
	}
	dated = !said.date.IsZero()
	if said.version == "" {
		said.version = "3"
	}
	if said.name != "python" || !regexp.MustCompile(`^\d{1,3}(\.\d{1,3}){0,2}$`).MatchString(said.version) {
		return "", false, wrong(file, 1, "runtime.txt says "+short(strings.TrimSpace(text))+", which names no version Binnacle knows.", "Write one line such as python-3.12.")
	}
	return said.version, dated, nil
}

// fitPython follows what files require. by is the one that names a version; the
// zero one leaves the choice.
func (r *reader) fitPython(by Location, all []pythonWish, pins []pin) error {
	if by.File != "" {
		for _, w := range all {
			if !w.accepts(r.Python.Value) {
				return wrong(by.File, by.Line, by.File+" asks for Python "+r.Python.Value+", but "+w.File+" requires "+w.spec+".", "Make the two agree.")
			}
		}
		return nil
	}
	var why []string
	for _, w := range all {
		if text := w.File + " requires " + w.spec; !slices.Contains(why, text) {
			why = append(why, text)
		}
		// "==3.11.4" is nothing that a minor version can promise.
		exact := regexp.MustCompile(`^\s*===?\s*(\d+\.\d+\.\d+)\s*$`).FindStringSubmatch(w.spec)
		if exact != nil && slices.Contains(r.opt.Pythons, minorOf(exact[1])) {
			r.Python, r.asks = Choice{exact[1], w.File + " requires " + w.spec}, w.Location
			return nil
		}
		if exact != nil && r.isOld(exact[1]) {
			r.chooseOld(Choice{exact[1], w.File + " requires " + w.spec}, w.Location)
			return nil
		}
	}
	at := r.opt.BasePython
	if r.Python.Value != "" {
		at = r.Python.Value
	}
	candidates := []string{at}
	for _, v := range slices.Backward(r.opt.Pythons) {
		candidates = append(candidates, v)
	}
	candidates = slices.DeleteFunc(candidates, func(v string) bool {
		return slices.ContainsFunc(all, func(w pythonWish) bool { return !w.accepts(v) })
	})
	if len(candidates) == 0 {
		for _, v := range slices.Backward(oldPythons()) {
			if r.isOld(v) && !slices.ContainsFunc(all, func(w pythonWish) bool { return !w.accepts(v) }) {
				r.chooseOld(Choice{v, strings.Join(why, ", ")}, all[0].Location)
				return nil
			}
		}
		return r.noPython(all)
	}
	best := candidates[0]
	for _, v := range candidates {
		if fitsPython(pins, minorOf(v)) {
			best = v
			break
		}
	}
	if best != candidates[0] {
		why = append(why, r.lock+" has no wheels for "+minorOf(candidates[0]))
	}
	if best == at {
		if len(why) > 0 {
			r.Python.Why += "; " + strings.Join(why, ", ")
		}
		return nil
	}
	r.Python = Choice{best, strings.Join(why, ", ")}
	r.asks = Location{File: r.lock}
	if len(all) > 0 {
		r.asks = all[0].Location
	}
	return nil
}

// noPython says which requirement can't be met.
func (r *reader) noPython(all []pythonWish) error {
	for _, w := range all {
		if !slices.ContainsFunc(append([]string{r.opt.BasePython}, r.opt.Pythons...), w.accepts) {
			return wrong(w.File, w.Line, "No Python that runs today's Jupyter fits requires-python "+short(w.spec)+".", "Allow one of "+strings.Join(r.opt.Pythons, ", ")+".")
		}
	}
	var said []string
	for _, w := range all {
		said = append(said, w.File+" requires "+w.spec)
	}
	return wrong(all[0].File, all[0].Line, "No Python fits all that is required: "+cut(strings.Join(said, ", "))+".", "Make them agree.")
}

// accepts tests the newest patch release of a minor version, or an exact one.
func accepts(want pep440.Specifiers, version string) bool {
	if strings.Count(version, ".") == 1 {
		if plain, err := pep440.Parse(version); err == nil && want.Check(plain) {
			return true
		}
		version += "." + strconv.Itoa(newestPatch)
	}
	v, err := pep440.Parse(version)
	return err == nil && want.Check(v)
}

func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

// lineOf finds the line that sets a name; 0 when there is none.
func (r *reader) lineOf(file, name string) int {
	text, _, err := r.text(file)
	if err != nil {
		return 0
	}
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimLeft(line, " \t\""), name) {
			return i + 1
		}
	}
	return 0
}

// tomlLine is where a TOML file is wrong; 0 when that is not said.
func tomlLine(err error) int {
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := e.Position()
		return row
	}
	return 0
}
