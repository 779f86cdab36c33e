package recipe_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/cran"
)

// rMachine runs the scripts of R steps with this machine's R, which need not be
// the one that images get.
type rMachine struct {
	*machine
}

func needR(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("Rscript"); err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("R is not installed")
		}
		t.Skip("R is not installed")
	}
}

func newRMachine(t *testing.T, packages ...cran.Package) (rMachine, *cran.Server) {
	t.Helper()
	needR(t)
	m := newMachine(t)
	server := cran.Start(nil, packages...)
	t.Cleanup(server.Close)
	for _, d := range []string{"rlibs", "run/lock", "store"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	profile := filepath.Join(m.dir, "profile.R")
	text := strings.ReplaceAll(string(recipe.RProfile), recipe.LockStore, m.dir+"/store")
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	m.env = []string{
		"BINNACLE_CRAN=" + server.URL, "R_LIBS_USER=" + m.dir + "/rlibs", "R_PROFILE=" + profile, "LC_ALL=C.UTF-8",
		"NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
	}
	return rMachine{m}, server
}

// r runs the R steps of a recipe and stops at the first that fails.
func (m rMachine) r(t *testing.T, files map[string]string, date string) (recipe.Recipe, recipe.Step, string, error) {
	t.Helper()
	opt := recipe.Options{}
	if date != "" {
		at, err := time.Parse(time.DateOnly, date)
		if err != nil {
			t.Fatal(err)
		}
		opt.Date = at
	}
	rec, err := recipe.Read(repo(files), opt)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(m.dir, "home", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range rec.Steps {
		if !strings.HasPrefix(s.Name, "R: ") {
			continue
		}
		s.Script = strings.NewReplacer("/usr/bin/Rscript", "Rscript", "${url//'{codename}'/$VERSION_CODENAME}", "x").Replace(s.Script)
		if out, err := m.step(t, s); err != nil {
			return rec, s, out, err
		}
	}
	return rec, recipe.Step{}, "", nil
}

// clean takes away what another repository left.
func (m rMachine) clean(t *testing.T) {
	t.Helper()
	for _, d := range []string{"rlibs", "home", "store", "run/lock"} {
		at := filepath.Join(m.dir, d)
		if err := errors.Join(os.RemoveAll(at), os.MkdirAll(at, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

func (m rMachine) eval(t *testing.T, code string) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, "", "Rscript", "--no-save", "--no-restore", "-e", code))
}

// locked is the exported lock: versions by package.
func (m rMachine) locked(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, "store/renv.lock"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Packages map[string]struct{ Package, Version, Source, SHA256 string }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	out := map[string]string{}
	for name, p := range doc.Packages {
		out[name] = p.Version
	}
	return out
}

// rPackages are what our CRAN has: fathom needs knots, and knots has grown.
func rPackages() []cran.Package {
	return []cran.Package{
		{Name: "knots", Version: "1.0.0", Since: "2019-01-01", Code: "speed <- function() 10"},
		{Name: "knots", Version: "2.0.0", Since: "2024-01-20", Code: "speed <- function() 20"},
		{Name: "fathom", Version: "0.3-1", Since: "2019-01-01", Fields: map[string]string{"Imports": "knots (>= 1.0), utils"}, Code: "depth <- function() 6 * speed()"},
		{Name: "wreck", Version: "1.0", Files: map[string]string{"configure": "#!/bin/sh\necho '------ ANTICONF ERROR ------'\necho ' * deb: libwreck-dev (Debian, Ubuntu, etc)'\nexit 1\n"}},
		{Name: "headless", Version: "1.0", Files: map[string]string{"src/code.c": "#include <nosuchheader.h>\n"}},
	}
}

func TestRSteps(t *testing.T) {
	m, server := newRMachine(t, rPackages()...)
	for name, c := range map[string]struct {
		files map[string]string
		date  string
		want  string // what depth() is
		lock  map[string]string
	}{
		"install.R":   {map[string]string{"install.R": "install.packages(\"fathom\")\n"}, "", "120", map[string]string{"fathom": "0.3-1", "knots": "2.0.0"}},
		"of a day":    {map[string]string{"install.R": "install.packages(c(\"fathom\"))\n", "runtime.txt": "r-2023-06-13"}, "", "60", map[string]string{"fathom": "0.3-1", "knots": "1.0.0"}},
		"of a month":  {map[string]string{"install.R": "install.packages('fathom')\n"}, "2024-01-31", "60", map[string]string{"fathom": "0.3-1", "knots": "1.0.0"}},
		"DESCRIPTION": {map[string]string{"DESCRIPTION": "Package: voyage\nVersion: 0.1\nTitle: A\nDescription: B.\nLicense: MIT\nAuthor: C\nMaintainer: C <c@example.org>\nImports:\n    fathom (>= 0.3)\n"}, "2024-01-31", "120", map[string]string{"fathom": "0.3-1", "knots": "2.0.0", "voyage": "0.1"}},
		"renv.lock": {map[string]string{"renv.lock": `{"R": {"Version": "4.5.1", "Repositories": [{"Name": "CRAN", "URL": "https://cloud.r-project.org"}]}, "Packages": {
			"fathom": {"Package": "fathom", "Version": "0.3-1", "Source": "Repository", "Repository": "CRAN"},
			"knots": {"Package": "knots", "Version": "1.0.0", "Source": "Repository", "Repository": "CRAN"}}}`}, "", "60", map[string]string{"fathom": "0.3-1", "knots": "1.0.0"}},
		"tolerated": {map[string]string{"install.R": "try(install.packages(\"nosuch\"))\nif (!require(\"fathom\")) install.packages(\"fathom\")\n"}, "", "120", map[string]string{"fathom": "0.3-1", "knots": "2.0.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			m.clean(t)
			rec, s, out, err := m.r(t, c.files, c.date)
			if err != nil {
				t.Fatalf("%s: %v\n%s", s.Name, err, out)
			}
			if got := m.eval(t, "cat(fathom::depth())"); got != c.want {
				t.Errorf("depth is %s, want %s", got, c.want)
			}
			have := m.locked(t)
			for name, version := range c.lock {
				if have[name] != version {
					t.Errorf("the lock has %s %s, want %s: %v", name, have[name], version, have)
				}
			}
			text, err := os.ReadFile(filepath.Join(m.dir, "store/renv.lock"))
			why := recipe.Why(rec, map[string]string{"renv.lock": string(text)}, "knots")
			if len(why) == 0 || why[0].Package.From.File == "" || !slices.Contains(why[len(why)-1].Chain, "fathom 0.3-1") {
				t.Errorf("why knots: %+v, %v", why, err)
			}
		})
	}
	if asked := server.Asked(); !slices.ContainsFunc(asked, func(a string) bool { return strings.Contains(a, "R (4.5.0 ") }) {
		t.Errorf("nothing says which R it is for: %v", asked)
	}
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
		hint  string
	}{
		"no package":     {map[string]string{"install.R": "x <- 1\ninstall.packages(c(\n  \"knots\",\n  \"nosuch\"))\n"}, "install.R", 4, "called nosuch", "upper and lower case"},
		"hidden":         {map[string]string{"install.R": "pkgs <- c(\"knots\", \"nosuch\")\nsuppressWarnings(for (p in pkgs) utils::install.packages(p))\n"}, "install.R", 1, "called nosuch", "upper and lower case"},
		"does not build": {map[string]string{"install.R": "install.packages(\"wreck\")\n"}, "install.R", 1, "libwreck-dev", "Name it in apt.txt"},
		"header":         {map[string]string{"install.R": "\ninstall.packages(\"headless\")\n"}, "install.R", 2, "nosuchheader.h", "apt.txt"},
		"error":          {map[string]string{"install.R": "install.packages(\"knots\")\n\nstop(\"the moon is full\")\n"}, "install.R", 3, "the moon is full", ""},
		"syntax":         {map[string]string{"install.R": "x <- 1\ny <- (2\n"}, "install.R", 3, "unexpected", ""},
		"not imported":   {map[string]string{"install.R": "\nlibrary(nosuch)\n"}, "install.R", 2, "package nosuch of R is missing", "Install it with install.R"},
		"DESCRIPTION":    {map[string]string{"DESCRIPTION": "Package: a\nVersion: 1\nImports: knots,\n  Knotz\n"}, "DESCRIPTION", 4, "called Knotz", "upper and lower case"},
		"version":        {map[string]string{"DESCRIPTION": "Package: a\nVersion: 1\nImports: fathom,\n  knots (>= 3)\n"}, "DESCRIPTION", 4, "no such version of knots", "Loosen the version"},
		"renv.lock":      {map[string]string{"renv.lock": "{\"R\": {\"Version\": \"4.5.0\"}, \"Packages\": {\n\"knots\": {\"Package\": \"knots\", \"Version\": \"9\", \"Source\": \"Repository\"}}}\n"}, "renv.lock", 2, "called knots", "runtime.txt chooses it"},
	} {
		t.Run("failing "+name, func(t *testing.T) {
			m.clean(t)
			r, s, out, err := m.r(t, c.files, "")
			if err == nil {
				t.Fatal("nothing failed")
			}
			e := recipe.Explain(r, s.Name, strings.Split(out, "\n"))
			t.Log(e.Message, e.Hint)
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) || len(e.Excerpt) == 0 {
				t.Errorf("%s:%d %s %s %q; want %s:%d …%s… %s", e.File, e.Line, e.Message, e.Hint, e.Excerpt, c.file, c.line, c.says, c.hint)
			}
		})
	}
}

// TestRBinaries takes what is compiled from a server like Posit's package manager:
// its sources can't be compiled here, so what is installed was not.
func TestRBinaries(t *testing.T) {
	needR(t)
	const configure = "#!/bin/sh\n[ -n \"$COMPILED_HERE\" ] || { echo 'there is no quarry here'; exit 1; }\n"
	stone := cran.Package{Name: "stone", Version: "1.2.0", Since: "2024-01-01", Code: "weight <- function() 2 * mass()", Fields: map[string]string{"Imports": "ore"}, Files: map[string]string{"configure": configure}}
	compiled, err := cran.Compiled(t.Context(), cran.Package{Name: "ore", Version: "1.0", Code: "mass <- function() .C(\"twice\", n = 3L)$n", Files: map[string]string{
		"configure": configure, "src/code.c": "void twice(int *n) { *n *= 2; }\n",
	}}, stone)
	if err != nil {
		t.Fatal(err)
	}
	m, server := newRMachine(t, append(compiled, cran.Package{Name: "stone", Version: "2.0.0", Since: "2025-01-01", Code: "weight <- function() 0"})...)
	const packages = `"ore": {"Package": "ore", "Version": "1.0", "Source": "Repository", "Repository": "CRAN"}, "stone": {"Package": "stone", "Version": "1.2.0", "Source": "Repository", "Repository": "CRAN"}`
	for name, files := range map[string]map[string]string{
		"install.R":   {"install.R": "install.packages(\"stone\")\n", "runtime.txt": "r-2024-06-13"},
		"DESCRIPTION": {"DESCRIPTION": "Package: wall\nVersion: 0.1\nImports: stone\n", "runtime.txt": "r-2024-06-13"},
		"renv.lock":   {"renv.lock": `{"R": {"Version": "4.5.1", "Repositories": [{"Name": "CRAN", "URL": "https://packagemanager.example.org/cran/2024-06-14"}]}, "Packages": {` + packages + `}}`},
	} {
		t.Run(name, func(t *testing.T) {
			m.clean(t)
			if _, s, out, err := m.r(t, files, ""); err != nil {
				t.Fatalf("%s: %v\n%s", s.Name, err, out)
			}
			if got := m.eval(t, "cat(stone::weight())"); got != "12" {
				t.Errorf("weight is %s", got)
			}
			if have := m.locked(t)["stone"]; have != "1.2.0" {
				t.Errorf("the lock has stone %s", have)
			}
		})
	}
	// Who does not say which R it is gets the sources.
	m.clean(t)
	r, s, out, err := m.r(t, map[string]string{"install.R": "options(HTTPUserAgent = \"a browser\")\ninstall.packages(\"stone\")\n", "runtime.txt": "r-2024-06-13"}, "")
	if e := recipe.Explain(r, s.Name, strings.Split(out, "\n")); err == nil || e.Line != 2 || !strings.Contains(e.Message, "package ore of R could not be built") || !strings.Contains(strings.Join(e.Excerpt, "\n"), "no quarry here") {
		t.Errorf("%v %+v\n%s", err, e, strings.Join(server.Asked(), "\n"))
	}
}
