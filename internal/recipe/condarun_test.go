package recipe_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/condachannel"
)

// condaMachine runs steps with channels of our own.
type condaMachine struct {
	*machine
	version string // of its Python
	subdir  string
	forge   *condachannel.Channel
	server  *httptest.Server
}

func (m *condaMachine) minor() string { return strings.Join(strings.Split(m.version, ".")[:2], ".") }

// python is a virtual environment of this machine's, as a package.
func (m *condaMachine) python(version string) condachannel.Package {
	minor := strings.Join(strings.Split(version, ".")[:2], ".")
	return condachannel.Package{
		Name: "python", Version: version, Subdir: m.subdir,
		Files: map[string]string{"pyvenv.cfg": "home = " + filepath.Dir(m.machine.python) + "\ninclude-system-site-packages = false\n"},
		Links: map[string]string{"bin/python": m.machine.python, "bin/python3": "python", "bin/python" + minor: "python"},
	}
}

func condaModule(name, version string, depends ...string) condachannel.Package {
	file := strings.ReplaceAll(name, "-", "_")
	return condachannel.Package{
		Name: name, Version: version, Python: true, Depends: append([]string{"python"}, depends...), EntryPoints: []string{file + " = " + file + ":main"},
		Files: map[string]string{
			"site-packages/" + file + ".py":                                  fmt.Sprintf("version = %q\ndef main():\n    print(version)\n", version),
			"site-packages/" + file + "-" + version + ".dist-info/METADATA":  "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n",
			"site-packages/" + file + "-" + version + ".dist-info/INSTALLER": "conda\n",
		},
	}
}

// fakeR stands in for R: it writes the kernel it is asked to register.
const fakeR = `#!/bin/sh
prefix=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$prefix/share/jupyter/kernels/ir"
echo "$*" > "$prefix/share/jupyter/kernels/ir/kernel.json"
`

func newCondaMachine(t *testing.T) *condaMachine {
	t.Helper()
	m := &condaMachine{machine: newMachine(t, "conda", "uv"), subdir: "linux-64"}
	m.version = m.must(t, "", m.machine.python, "-c", "import sys; print('.'.join(map(str, sys.version_info[:3])), end='')")
	if out := m.must(t, "", "uname", "-m"); strings.HasPrefix(out, "aarch64") {
		m.subdir = "linux-aarch64"
	}
	undated := condaModule("ageless", "1.0")
	undated.Undated = true
	newest := condaModule("knots", "3.0")
	newest.Built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	buoy := condachannel.Package{
		Name: "buoy", Version: "1.0", Depends: []string{"knots"},
		Files: map[string]string{"bin/.buoy-post-link.sh": "echo \"$PKG_NAME $PKG_VERSION $(knots)\" > \"$PREFIX/buoy.txt\"\n"},
	}
	wreck := condachannel.Package{Name: "wreck", Version: "1.0", Files: map[string]string{"bin/.wreck-post-link.sh": "echo 'no harbour' > $PREFIX/.messages.txt; exit 3\n"}}
	ferry := condaModule("ferry", "1.0")
	ferry.Constrains = []string{"knots <2"}
	r := condachannel.Package{Name: "r-base", Version: "4.3.1", Files: map[string]string{"bin/R": fakeR}}
	kernel := condachannel.Package{Name: "r-irkernel", Version: "1.3", Depends: []string{"r-base"}, Files: map[string]string{"lib/R/library/IRkernel/DESCRIPTION": "Package: IRkernel\n"}}
	var err error
	m.forge, err = condachannel.New("conda-forge", m.python(m.version), m.python("3.99.0"), condaModule("pip", "25.0"), condaModule("knots", "1.0"), condaModule("knots", "2.0"), newest,
		condaModule("old", "1.0", "python <3.99", "knots <2"), undated, buoy, wreck, r, kernel,
		condaModule("sail", "1.0", "knots >=2"), condaModule("sail", "2.0", "knots >=3"), ferry, condaModule("past", "1.0", "python <3"), m.python("2.7.18"), condaModule("lost", "1.0", "charts >=1"),
		condaModule("chain", "1.0", "iron <2"), condaModule("anchor", "1.0", "chain"), condaModule("mast", "1.0", "iron >=2"), condaModule("iron", "1.0"), condaModule("iron", "2.0"))
	if err != nil {
		t.Fatal(err)
	}
	extra, err := condachannel.New("extra", condaModule("fathom", "6.0", "knots >=1"))
	if err != nil {
		t.Fatal(err)
	}
	m.server = condachannel.Start(m.forge, extra)
	t.Cleanup(m.server.Close)
	m.env = []string{
		"CONDA_CHANNEL_ALIAS=" + m.server.URL + "/", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"BINNACLE_RSTUDIO=http://127.0.0.1:9", // it is not to be installed on this machine
	}
	return m
}

// dated reads a repository as of a day.
func dated(t *testing.T, day string, files map[string]string) recipe.Recipe {
	t.Helper()
	date, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	r, err := recipe.Read(fsys, recipe.Options{Date: date})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCondaSteps runs the scripts of conda repositories for real, with channels
// of our own.
func TestCondaSteps(t *testing.T) {
	m := newCondaMachine(t)
	t.Run("environment.yml", m.whole)
	t.Run("failures", m.failures)
	t.Run("dates", m.dates)
	t.Run("locks", m.locks)
	t.Run("pixi", m.pixi)
}

// whole is an environment with all that may be in one: packages of two channels
// and of PyPI, commands, scripts that run at the end, R with its kernel.
func (m *condaMachine) whole(t *testing.T) {
	r := read(t, map[string]string{"environment.yml": "channels: [extra, defaults]\ndependencies:\n- python=" + m.minor() + "\n- fathom\n- conda-forge::old\n- buoy\n- r-base\n- pip:\n  - humanize==4.12.3\n  - markdown-it-py==4.0.0\n"})
	m.steps(t, r)
	if got := m.exec(t, "import fathom, knots, old, humanize, ipykernel; print(fathom.version, knots.version, humanize.__version__)"); got != "6.0 1.0 4.12.3" {
		t.Errorf("installed %q", got)
	}
	for name, want := range map[string]string{
		m.environment() + "/buoy.txt":                             "buoy 1.0 1.0\n",
		m.environment() + "/share/jupyter/kernels/ir/kernel.json": "IRkernel::installspec",
		m.environment() + "/conda-meta/old-1.0-0.json":            `"knots <2"`,
		m.dir + "/store/conda.txt":                                "/conda-forge/noarch/knots-1.0-0.conda#",
		m.dir + "/store/conda-pip.txt":                            "humanize==4.12.3 \\\n    --hash=sha256:",
		m.dir + "/store/conda-graph.txt":                          "\nfathom knots\n",
	} {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), want) || strings.Contains(string(b), m.server.URL) {
			t.Errorf("%s has %q, %v; want %q, and not where it was downloaded", name, b, err, want)
		}
	}
	b, err := os.ReadFile(m.dir + "/store/conda-pip.txt")
	if err != nil || !regexp.MustCompile(`(?m)^mdurl==\S+ \\$(\n    --hash=\S+( \\)?)+\n    # via markdown-it-py$`).Match(b) {
		t.Errorf("%s %v does not say who needs mdurl", b, err)
	}
}

func (m *condaMachine) failures(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		line int
		says []string // in message or hint
	}{
		"no package": {"dependencies:\n- knots\n- nosuch\n", 3, []string{"No channel has a package nosuch", "below `pip:`"}},
		"near name":  {"dependencies:\n- knots\n- fathoms\nchannels: [extra]\n", 3, []string{"like fathom", "some that are like it"}},
		"no version": {"dependencies:\n- knots=4\n", 2, []string{"the channels have 1.0, 2.0, 3.0", "Choose one of those"}},
		"conflict":   {"dependencies:\n- knots\n- sail\n- old\n", 3, []string{"sail and old can't be installed together: sail wants knots >=", "; old wants knots <2.", "sail is in line 3, old is in line 4"}},
		"with a pin": {"dependencies:\n- old\n- knots=2\n", 2, []string{"old and knots can't be installed together: old wants knots <2; the file asks for knots=2.", "old is in line 2, knots is in line 3"}},
		"pins":       {"dependencies:\n- sail=1\n- old=1\n", 2, []string{"sail and old can't be installed together: sail 1.* wants knots >=2; old 1.* wants knots <2."}},
		"twice":      {"dependencies:\n- knots=1\n- knots=2\n", 2, []string{"asks for versions that exclude each other: knots 1.* and knots 2.*.", "knots is in line 2, knots is in line 3"}},
		"third":      {"dependencies:\n- anchor\n- mast\n", 2, []string{"anchor and mast can't be installed together: anchor wants iron <2 (through chain); mast wants iron >=2."}},
		"constraint": {"dependencies:\n- ferry\n- knots>=2\n", 2, []string{"ferry and knots can't be installed together: ferry wants knots <2; the file asks for knots >=2."}},
		"Python":     {"dependencies:\n- python=3.99\n- old\n", 2, []string{"python and old can't be installed together: the file asks for python=3.99; old wants python <3.99."}},
		"Jupyter":    {"dependencies:\n- past\n", 2, []string{"past and Jupyter can't be installed together: past wants python <3; Jupyter wants python >=3"}},
		"needs more": {"dependencies:\n- lost\n", 2, []string{"lost can't be installed: lost wants charts >=1, and there is no such version", "list the channel"}},
		"no channel": {"channels: [harbour]\ndependencies:\n- knots\n", 0, []string{"no channel harbour", "below `channels:`"}},
		"odd spec":   {"dependencies:\n- knots\n- 'old >>1'\n", 3, []string{"way conda reads it", "channel::name=1.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, map[string]string{"environment.yml": c.yaml})
			e := m.explained(t, r, 0)
			if e.File != "environment.yml" || e.Line != c.line || len(e.Excerpt) == 0 || strings.Contains(e.Message, "├") {
				t.Errorf("%s:%d %s %q", e.File, e.Line, e.Message, e.Excerpt)
			}
			for _, want := range c.says {
				if !strings.Contains(e.Message+"\n"+e.Hint, want) {
					t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
				}
			}
		})
	}
	t.Run("a script", func(t *testing.T) {
		m.clear(t)
		r := read(t, map[string]string{"environment.yml": "dependencies:\n- python=" + m.minor() + "\n- wreck\n"})
		if out, err := m.step(t, r.Steps[0]); err != nil {
			t.Fatal(err, out)
		}
		if e := m.explained(t, r, 1); e.Line != 3 || !strings.Contains(e.Message, "wreck") {
			t.Errorf("%s:%d %s", e.File, e.Line, e.Message)
		}
	})
}

// explained runs a step that must fail, and says what is told of it.
func (m *condaMachine) explained(t *testing.T, r recipe.Recipe, step int) *binnacle.Error {
	t.Helper()
	s := r.Steps[step]
	out, err := m.step(t, s)
	if err == nil {
		t.Fatalf("%s did not fail", s.Name)
	}
	e := recipe.Explain(r, s.Name, strings.Split(out, "\n"))
	t.Log(e.File, e.Line, e.Message, e.Hint, strings.Join(e.Excerpt, "\n"))
	return e
}

func (m *condaMachine) clear(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(m.environment()); err != nil {
		t.Fatal(err)
	}
}

// dates: what came after the commit is not taken, unless nothing else fits.
func (m *condaMachine) dates(t *testing.T) {
	for name, c := range map[string]struct {
		day, yaml string
		has, says string
	}{
		"then":             {"2024-01-01", "dependencies: [knots]", "/knots-2.0-0.conda", "trying without"},
		"now":              {"2026-02-01", "dependencies: [knots]", "/knots-3.0-0.conda", ""},
		"newer is asked":   {"2024-01-01", "dependencies: [knots=3]", "/knots-3.0-0.conda", "taking today's"},
		"before all":       {"2019-01-01", "dependencies: [knots]", "/knots-3.0-0.conda", "taking today's"},
		"no dates of some": {"2024-01-01", "dependencies: [knots, ageless]", "/ageless-1.0-0.conda", "tells no dates of 1 packages (ageless)"},
	} {
		t.Run(name, func(t *testing.T) {
			lock := dated(t, c.day, map[string]string{"environment.yml": c.yaml}).Steps[0].Lock
			if err := os.MkdirAll(filepath.Join(m.dir, "run/lock"), 0o755); err != nil {
				t.Fatal(err)
			}
			out, err := m.script(t, lock.Name, lock.Script, lock.Inputs)
			if err != nil || c.says == "trying without" && m.minor() == "3.13" {
				c.says = ""
			}
			list, readErr := os.ReadFile(filepath.Join(m.dir, "run/lock/conda.txt"))
			if err != nil || readErr != nil || !strings.Contains(string(list), c.has) || !strings.Contains(out, c.says) {
				t.Errorf("%v %v: %s\n%s", err, readErr, out, list)
			}
		})
	}
}

// locks are installed as they are, and nothing that differs from them.
func (m *condaMachine) locks(t *testing.T) {
	at := func(subdir, name, version string) string { return m.forge.URL(m.server.URL, subdir, name, version) }
	python, knots := at(m.subdir, "python", m.version), at("noarch", "knots", "1.0")
	const file = "conda-linux-64.lock"
	without := func(url string) string { before, _, _ := strings.Cut(url, "#"); return before }
	for name, text := range map[string]string{"exact": python + "\n" + knots, "without hashes": without(python) + "\n" + without(knots)} {
		t.Run(name, func(t *testing.T) {
			m.clear(t)
			r := read(t, map[string]string{file: "@EXPLICIT\n" + text + "\n"})
			if out, err := m.step(t, r.Steps[0]); err != nil {
				t.Fatal(err, out)
			}
			if b, err := os.ReadFile(filepath.Join(m.dir, "store/conda.txt")); err != nil || !strings.Contains(string(b), knots) {
				t.Errorf("%v %s", err, b)
			}
			if got := m.exec(t, "import knots; print(knots.version)"); got != "1.0" {
				t.Error(got)
			}
		})
	}
	t.Run("without Python", func(t *testing.T) {
		m.clear(t)
		r := read(t, map[string]string{file: "@EXPLICIT\n" + at("noarch", "r-base", "4.3.1") + "\n" + at("noarch", "r-irkernel", "1.3") + "\n"})
		m.steps(t, r)
		if got := m.exec(t, "import ipykernel, os, sys; print(os.path.exists(sys.prefix + '/share/jupyter/kernels/ir/kernel.json'))"); got != "True" {
			t.Error(got)
		}
	})
	for name, text := range map[string]string{
		"another package": python + "\n" + without(knots) + "#" + strings.Repeat("0", 64) + "\n",
		"gone":            python + "\n" + strings.ReplaceAll(without(knots), "1.0", "1.1") + "\n",
		"gone, hashed":    python + "\n" + strings.ReplaceAll(knots, "1.0", "1.1") + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			m.clear(t)
			e := m.explained(t, read(t, map[string]string{file: "@EXPLICIT\n" + text}), 0)
			if e.File != file || e.Line != 3 || !strings.Contains(e.Message, "knots") {
				t.Errorf("%s:%d %s", e.File, e.Line, e.Message)
			}
		})
	}
}

// pixi is a lock with packages of conda, of the Python package index and of the
// repository; Jupyter is left out.
func (m *condaMachine) pixi(t *testing.T) {
	m.clear(t)
	const wheel = "https://files.example.org/packages/01/02/000000000000000000000000000000000000000000000000000000000003/humanize-4.12.3-py3-none-any.whl"
	var used, described strings.Builder
	for _, p := range [][3]string{{m.subdir, "python", m.version}, {"noarch", "knots", "1.0"}} {
		address, hash, _ := strings.Cut(m.forge.URL(m.server.URL, p[0], p[1], p[2]), "#")
		fmt.Fprintf(&used, "      - conda: %s\n", address)
		fmt.Fprintf(&described, "- conda: %s\n  sha256: %s\n", address, hash)
	}
	lock := func(sum string) string {
		return "version: 6\nenvironments:\n  default:\n    packages:\n      linux-64:\n" + used.String() + "      - pypi: " + wheel + "\n      - pypi: ./package\n" +
			"packages:\n" + described.String() + "- pypi: " + wheel + "\n  name: humanize\n  version: 4.12.3\n  sha256: " + sum + "\n- pypi: ./package\n  name: voyage\n  version: 0.1.0\n  editable: true\n"
	}
	for name, text := range map[string]string{"pyproject.toml": "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n[project]\nname = \"voyage\"\nversion = \"0.1.0\"\n", "voyage.py": "miles = 1200\n"} {
		at := filepath.Join(m.dir, "home/package", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	r := read(t, map[string]string{"pixi.toml": workspace, "pixi.lock": lock("2cbf6370af06568fa6d2da77c86edb7886f3160ecd19ee1ffef07979efc597f6")})
	for _, i := range []int{0, 2, 3} {
		if out, err := m.step(t, r.Steps[i]); err != nil {
			t.Fatalf("%s: %v\n%s", r.Steps[i].Name, err, out)
		}
	}
	if got := m.exec(t, "import humanize, knots, voyage; print(humanize.__version__, knots.version, voyage.miles)"); got != "4.12.3 1.0 1200" {
		t.Error(got)
	}
	r = read(t, map[string]string{"pixi.toml": workspace, "pixi.lock": lock(strings.Repeat("0", 64))})
	m.must(t, "", "rm", "-r", m.environment()+"/lib")
	if e := m.explained(t, r, 2); e.File != "pixi.lock" || e.Line == 0 || !strings.Contains(e.Message, "humanize") {
		t.Errorf("%s:%d %s", e.File, e.Line, e.Message)
	}
}
