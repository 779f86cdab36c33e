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

// choosePython decides the version and says why: runtime.txt, else
// requires-python of the root's pyproject.toml, else the hub's default.
func (r *reader) choosePython() error {
	if r.opt.DefaultPython != "" {
		r.Python = Choice{r.opt.DefaultPython, "the default of this hub"}
	} else {
		r.Python = Choice{"", "the Python of the base image"}
	}
	fixed, err := r.runtimePython()
	if err != nil {
		return err
	}
	p, ok, err := r.pyproject()
	if err != nil || !ok || p.Project == nil || p.Project.RequiresPython == "" {
		return err
	}
	return r.requiresPython(p.Project.RequiresPython, fixed)
}

// runtimePython reads runtime.txt: "python-3.12", on one line.
func (r *reader) runtimePython() (fixed bool, err error) {
	text, ok, err := r.file("runtime.txt")
	if err != nil || !ok || (r.Kind == "r" && rRuntime(text)) {
		return false, err
	}
	if r.Kind == "julia" && rRuntime(text) { // as in repo2docker
		r.pass(r.path("runtime.txt"), "Julia's files decide, and it asks for R")
		r.note(r.path("runtime.txt"), 1, "R is not installed, because there is a Project.toml of Julia.", "Name r-base and other packages of R in environment.yml.")
		return false, nil
	}
	file := r.path("runtime.txt")
	version, err := parseRuntime(file, text)
	if err != nil {
		return false, err
	}
	if version == "3" {
		r.use(file, "any Python 3")
		return false, nil
	}
	if !slices.Contains(r.opt.Pythons, minorOf(version)) {
		return false, wrong(file, 1, "Python "+version+" can't run today's Jupyter.", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+".")
	}
	r.use(file, "Python "+version)
	r.Python, r.asks = Choice{version, file + " asks for it"}, Location{file, 1}
	return true, nil
}

// parseRuntime gives the version of "python-3.12", which may be 3, 3.12 or 3.12.4.
func parseRuntime(file, text string) (string, error) {
	line := strings.TrimSpace(text)
	name, version, _ := strings.Cut(line, "-")
	if name != "python" || !regexp.MustCompile(`^\d{1,3}(\.\d{1,3}){0,2}$`).MatchString(version) {
		return "", wrong(file, 1, "runtime.txt says "+short(line)+", which names no version Binnacle knows.", "Write one line such as python-3.12.")
	}
	return version, nil
}

// requiresPython follows requires-python of pyproject.toml, with the file and
// line of it found by the caller's text.
func (r *reader) requiresPython(spec string, fixed bool) error {
	const file = "pyproject.toml"
	line := r.lineOf(file, "requires-python")
	want, err := pep440.NewSpecifiers(spec)
	if err != nil {
		return wrong(file, line, "requires-python is not a version specifier: "+short(spec)+".", `Write it like requires-python = ">=3.11".`)
	}
	why := "pyproject.toml requires " + spec
	if fixed {
		if !accepts(want, r.Python.Value) {
			return wrong(r.path("runtime.txt"), 1, "runtime.txt asks for Python "+r.Python.Value+", but pyproject.toml requires "+spec+".", "Make the two agree.")
		}
		return nil
	}
	// "==3.11.4" is nothing that a minor version can promise.
	if exact := regexp.MustCompile(`^\s*===?\s*(\d+\.\d+\.\d+)\s*$`).FindStringSubmatch(spec); exact != nil && slices.Contains(r.opt.Pythons, minorOf(exact[1])) {
		r.Python, r.asks = Choice{exact[1], why}, Location{file, line}
		return nil
	}
	at := r.opt.BasePython
	if r.Python.Value != "" {
		at = r.Python.Value
	}
	if accepts(want, at) {
		r.Python.Why += "; " + why
		return nil
	}
	for _, v := range slices.Backward(r.opt.Pythons) {
		if accepts(want, v) {
			r.Python, r.asks = Choice{v, why}, Location{file, line}
			return nil
		}
	}
	return wrong(file, line, "No Python that runs today's Jupyter fits requires-python "+short(spec)+".",
		"Allow one of "+strings.Join(r.opt.Pythons, ", ")+".")
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
