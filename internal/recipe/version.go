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
	if err != nil || !ok {
		return false, err
	}
	file := r.path("runtime.txt")
	name, version, _ := strings.Cut(strings.TrimSpace(text), "-")
	const hint = "Write one line such as python-3.12."
	if name != "python" || !regexp.MustCompile(`^\d+(\.\d+){0,2}$`).MatchString(version) {
		return false, wrong(file, 1, "runtime.txt says "+short(strings.TrimSpace(text))+", which names no version Binnacle knows.", hint)
	}
	if version == "3" {
		r.use(file, "any Python 3")
		return false, nil
	}
	minor := minorOf(version)
	if !slices.Contains(r.opt.Pythons, minor) {
		return false, wrong(file, 1, "Python "+version+" can't run today's Jupyter.", "Choose one of "+strings.Join(r.opt.Pythons, ", ")+".")
	}
	r.use(file, "Python "+version)
	r.Python = Choice{version, file + " asks for it"}
	return true, nil
}

func (r *reader) requiresPython(spec string, fixed bool) error {
	const file = "pyproject.toml"
	want, err := pep440.NewSpecifiers(spec)
	if err != nil {
		return wrong(file, 0, "requires-python is not a version specifier: "+short(spec)+".", `Write it like requires-python = ">=3.11".`)
	}
	if fixed {
		if !accepts(want, r.Python.Value) {
			return wrong(r.path("runtime.txt"), 1, "runtime.txt asks for Python "+r.Python.Value+", but pyproject.toml requires "+spec+".", "Make the two agree.")
		}
		return nil
	}
	if r.Python.Value != "" && accepts(want, r.Python.Value) {
		return nil
	}
	if exact := regexp.MustCompile(`^\s*===?\s*(\d+\.\d+\.\d+)\s*$`).FindStringSubmatch(spec); exact != nil && slices.Contains(r.opt.Pythons, minorOf(exact[1])) {
		r.Python = Choice{exact[1], file + " requires " + spec}
		return nil
	}
	if r.Python.Value == "" && accepts(want, baseMinor) {
		r.Python.Why = "the Python of the base image; pyproject.toml requires " + spec
		return nil
	}
	for _, v := range slices.Backward(r.opt.Pythons) {
		if accepts(want, v) {
			r.Python = Choice{v, file + " requires " + spec}
			return nil
		}
	}
	return wrong(file, 0, "No Python that runs today's Jupyter fits requires-python "+short(spec)+".",
		"Allow one of "+strings.Join(r.opt.Pythons, ", ")+".")
}

// baseMinor is the Python of Debian trixie, the base we bootstrap.
const baseMinor = "3.13"

// accepts tests the newest patch release of a minor version, or an exact one.
func accepts(want pep440.Specifiers, version string) bool {
	if strings.Count(version, ".") == 1 {
		plain, err := pep440.Parse(version)
		if err == nil && want.Check(plain) {
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

// tomlLine is where a TOML file is wrong; 0 when that is not said.
func tomlLine(err error) int {
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := e.Position()
		return row
	}
	return 0
}

