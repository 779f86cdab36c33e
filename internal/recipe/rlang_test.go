package recipe_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// readAt reads as of a commit's day; an empty day is none.
func readAt(t *testing.T, day string, files map[string]string) recipe.Recipe {
	t.Helper()
	opt := recipe.Options{}
	if day != "" {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		opt.Date = at
	}
	r, err := recipe.Read(repo(files), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func step(t *testing.T, r recipe.Recipe, name string) recipe.Step {
	t.Helper()
	i := slices.IndexFunc(r.Steps, func(s recipe.Step) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no step %q in %q", name, steps(r))
	}
	return r.Steps[i]
}

// TestSplitRuntime has repo2docker's grammar.
func TestSplitRuntime(t *testing.T) {
	for text, want := range map[string][3]string{
		"abc-001":                  {"abc", "001", ""},
		"abc-001-2025-06-22":       {"abc", "001", "2025-06-22"},
		"abc-2025-06-22":           {"abc", "", "2025-06-22"},
		"a_b/c-0.0.1-2025-06-22\n": {"a_b/c", "0.0.1", "2025-06-22"},
		"r-4.1":                    {"r", "4.1", ""},
		"r-2019-01-01 \n\n":        {"r", "", "2019-01-01"},
	} {
		name, version, date, err := recipe.SplitRuntime(text)
		if diff := cmp.Diff(want, [3]string{name, version, date}); err != nil || diff != "" {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "abc", "abc-001-25-06-22", "r-2025-13-01", "r-4.1-2025-02-30", "r--2025-01-01", "r-", "r-4-1-2-3-4"} {
		if _, _, _, err := recipe.SplitRuntime(text); err == nil || !strings.Contains(err.Error(), "runtime.txt") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestR is which R and whose CRAN a repository gets.
func TestR(t *testing.T) {
	const debian, posit = "R 4.5", "IRkernel"
	for name, c := range map[string]struct {
		files   map[string]string
		commit  string
		version string
		day     string // "" is the newest
		says    string // in a note
	}{
		"date alone":          {map[string]string{"runtime.txt": "r-2025-01-01"}, "", "4.5", "2025-01-01", ""},
		"date is older":       {map[string]string{"runtime.txt": "r-2019-01-01"}, "", "4.5", "2019-01-01", "much newer"},
		"3.6":                 {map[string]string{"runtime.txt": "r-3.6-2019-01-01"}, "", "3.6.3", "2019-01-01", ""},
		"exact":               {map[string]string{"runtime.txt": "r-3.5.1-2019-01-01"}, "", "3.5.1", "2019-01-01", ""},
		"snapshot":            {map[string]string{"runtime.txt": "r-4.1-2021-10-22"}, "", "4.1.3", "2021-10-22", ""},
		"snapshot of a year":  {map[string]string{"runtime.txt": "r-4.1-2022-01-01"}, "", "4.1.3", "2022-01-01", ""},
		"of Debian":           {map[string]string{"runtime.txt": "r-4.5-2025-06-01"}, "", "4.5", "2025-06-01", ""},
		"exactly Debian's":    {map[string]string{"runtime.txt": "r-4.5.0-2025-06-01"}, "", "4.5", "2025-06-01", ""},
		"exactly another":     {map[string]string{"runtime.txt": "r-4.5.1-2025-07-01"}, "", "4.5.1", "2025-07-01", ""},
		"without a date":      {map[string]string{"runtime.txt": "r-4.1"}, "2022-03-17", "4.1.3", "2022-03-01", "names no date: the packages of CRAN are those of 2022-03-01"},
		"no date at all":      {map[string]string{"runtime.txt": "r-4.1"}, "", "4.1.3", "", "the newest"},
		"capital":             {map[string]string{"runtime.txt": "R-4.4-2025-01-01"}, "", "4.4.2", "2025-01-01", ""},
		"install.R alone":     {map[string]string{"install.R": "1"}, "2025-09-30", "4.5", "2025-09-01", "chooses R"},
		"before snapshots":    {map[string]string{"install.R": "1"}, "2016-02-01", "4.5", "2018-12-07", "much newer"},
		"DESCRIPTION":         {map[string]string{"DESCRIPTION": "Package: a\nVersion: 1\n"}, "2025-09-30", "4.5", "2025-09-01", ""},
		"needs R":             {map[string]string{"DESCRIPTION": "Package: a\nDepends: R (>= 4.1)\n"}, "", "4.5", "", "not installed"},
		"needs a newer R":     {map[string]string{"DESCRIPTION": "Package: a\nDepends: R (>= 4.6.0), utils\n"}, "", "4.6.1", "", ""},
		"needs an older R":    {map[string]string{"DESCRIPTION": "Package: a\nDepends: R (< 4.0)\n"}, "", "3.6.3", "", ""},
		"runtime and needs":   {map[string]string{"DESCRIPTION": "Package: a\nDepends: R (>= 4.1)\n", "runtime.txt": "r-4.2-2023-01-01"}, "", "4.2.3", "2023-01-01", ""},
		"lock":                {map[string]string{"renv.lock": `{"R": {"Version": "4.3.1"}, "Packages": {}}`}, "", "4.3.1", "", ""},
		"lock of Debian's":    {map[string]string{"renv.lock": `{"R": {"Version": "4.5.2"}, "Packages": {}}`}, "", "4.5", "", ""},
		"lock and runtime":    {map[string]string{"renv.lock": `{"R": {"Version": "4.3.1"}, "Packages": {}}`, "runtime.txt": "r-4.4-2025-01-01"}, "", "4.4.2", "2025-01-01", ""},
		"binder directory":    {map[string]string{".binder/runtime.txt": "r-2025-06-01", "DESCRIPTION": "Package: a\n"}, "", "4.5", "2025-06-01", "passed over in the root: DESCRIPTION"},
		"Python beside it":    {map[string]string{"DESCRIPTION": "Package: a\n", "runtime.txt": "python-3.12"}, "", "4.5", "", ""},
		"conda beside it":     {map[string]string{"runtime.txt": "r-2025-06-01", "environment.yml": "dependencies: [numpy]\n"}, "", "4.5", "2025-06-01", ""},
		"lock over install.R": {map[string]string{"renv.lock": `{"Packages": {}}`, "install.R": "renv::restore()"}, "", "4.5", "", "install.R does not run"},
	} {
		t.Run(name, func(t *testing.T) {
			r := readAt(t, c.commit, c.files)
			if r.Kind != "r" || r.Versions["r"].Value != c.version || r.Versions["r"].Why == "" {
				t.Errorf("%s with %+v; want R %s", r.Kind, r.Versions["r"], c.version)
			}
			if got := steps(r); slices.Contains(got, "R: CRAN as of "+c.day) != (c.day != "") || strings.Contains(strings.Join(got, "\n"), posit) == (c.version == "4.5") {
				t.Errorf("steps are %q", got)
			}
			if !strings.Contains(notes(r), c.says) {
				t.Errorf("no note says %q: %s", c.says, notes(r))
			}
			if c.version == "4.5" && (!slices.Contains(steps(r), debian) || r.LateEnv["R_HOME"] != "/usr/lib/R") {
				t.Errorf("not Debian's: %q %v", steps(r), r.LateEnv)
			}
		})
	}
}

// TestRVersions has repo2docker's table; 4.5 is Debian's own.
func TestRVersions(t *testing.T) {
	for minor, want := range map[string]string{
		"3.3": "3.3.3", "3.4": "3.4.4", "3.5": "3.5.3", "3.6": "3.6.3", "4.0": "4.0.5", "4.1": "4.1.3", "4.2": "4.2.3", "4.3": "4.3.3", "4.4": "4.4.2", "4.5": "4.5", "4.6": "4.6.1",
		"3.6.1": "3.6.1", "4.0.0": "4.0.0",
	} {
		if have := read(t, map[string]string{"runtime.txt": "r-" + minor + "-2025-01-01"}).Versions["r"].Value; have != want {
			t.Errorf("R %s is %s, want %s", minor, have, want)
		}
	}
}

// TestNotR: what names R and does not choose it.
func TestNotR(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		says  string
	}{
		"conda's R":        {map[string]string{"environment.yml": "dependencies: [r-base=4.3, r-ggplot2]\n", "install.R": "1"}, "conda", "the R of environment.yml is meant"},
		"another file":     {map[string]string{"DESCRIPTION": "A map of the harbour, in two sheets.\n", "requirements.txt": "humanize\n"}, "python", "no package of R"},
		"root with binder": {map[string]string{"install.R": "1", "binder/requirements.txt": "humanize\n"}, "python", "install.R"},
		"Dockerfile":       {map[string]string{"Dockerfile": "FROM a\n", "runtime.txt": "r-2025-06-01"}, "dockerfile", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if r := read(t, c.files); r.Kind != c.kind || !strings.Contains(notes(r), c.says) || r.LateEnv != nil {
				t.Errorf("%s: %s", r.Kind, notes(r))
			}
		})
	}
}

func TestRefusedR(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"MRAN":              {map[string]string{"runtime.txt": "r-3.6-2017-06-04"}, "runtime.txt", 1, "Microsoft has ended MRAN"},
		"long ago":          {map[string]string{"runtime.txt": "r-1691-09-05"}, "runtime.txt", 1, "1691-09-05"},
		"no version":        {map[string]string{"runtime.txt": "r-devel-2025-01-01"}, "runtime.txt", 1, "R has no version"},
		"unknown version":   {map[string]string{"runtime.txt": "r-2.15-2025-01-01"}, "runtime.txt", 1, "not known"},
		"nothing":           {map[string]string{"runtime.txt": "r"}, "runtime.txt", 1, "neither a version"},
		"short year":        {map[string]string{"runtime.txt": "r-4.1-25-06-22"}, "runtime.txt", 1, "no day"},
		"runtime and needs": {map[string]string{"DESCRIPTION": "Package: a\nDepends:\n  R (>= 4.3)\n", "runtime.txt": "r-4.2-2023-01-01"}, "DESCRIPTION", 3, "needs R >= 4.3"},
		"future R":          {map[string]string{"DESCRIPTION": "Package: a\nDepends: R (>= 9)\n"}, "DESCRIPTION", 2, "No R that Binnacle knows"},
		"bad dependency":    {map[string]string{"DESCRIPTION": "Package: a\nImports:\n  dplyr,\n  tidyr 1.0\n"}, "DESCRIPTION", 4, "not a dependency"},
		"bad line":          {map[string]string{"DESCRIPTION": "Package: a\nImports: b\nnothing\n"}, "DESCRIPTION", 3, "not of the form"},
		"bad remote":        {map[string]string{"DESCRIPTION": "Package: a\nRemotes: url::https://example.org/a.zip\n"}, "DESCRIPTION", 2, "Remotes"},
		"bad name":          {map[string]string{"DESCRIPTION": "Package: a b\n"}, "DESCRIPTION", 1, "not a name"},
		"lock no JSON":      {map[string]string{"renv.lock": "{\n\"R\": {,\n"}, "renv.lock", 2, "can't be read"},
		"lock source":       {map[string]string{"renv.lock": "{\"Packages\": {\n\"a\": {\"Package\": \"a\", \"Version\": \"1\", \"Source\": \"Local\"}}}"}, "renv.lock", 2, `"Local"`},
		"lock version":      {map[string]string{"renv.lock": "{\"Packages\": {\n\n\"a\": {\"Package\": \"a\", \"Version\": \"1; id\"}}}"}, "renv.lock", 3, "no package and version"},
		"lock commit":       {map[string]string{"renv.lock": "{\"Packages\": {\n\"a\": {\"Version\": \"1\", \"Source\": \"GitHub\", \"RemoteUsername\": \"x\", \"RemoteRepo\": \"y\"}}}"}, "renv.lock", 2, "which commit"},
		"lock password":     {map[string]string{"renv.lock": "{\"R\": {\"Repositories\": [\n{\"Name\": \"X\", \"URL\": \"https://a:b@example.org\"}]}}"}, "renv.lock", 2, "not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(c.files))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
		})
	}
}

// TestDaysOfCRAN: a day of which there can be no packages is refused when it is
// read, and the days there are are told.
func TestDaysOfCRAN(t *testing.T) {
	today := time.Date(2026, time.March, 10, 23, 0, 0, 0, time.UTC)
	for text, hint := range map[string]string{ // "" is taken
		"r-2018-12-07": "", "r-4.5-2026-03-10": "", "r-2026-03-11": "", "r-4.4": "",
		"r-2018-12-06": "a day since 2018-12-07", "r-2026-03-12": "from 2018-12-07 to 2026-03-10", "r-4.4-2099-01-01": "from 2018-12-07 to 2026-03-10",
		"r-4.4-2026-02-30": "year, month and day", "r-0000-00-00": "year, month and day", "r-4.4-2026-3-1": "year, month and day",
	} {
		_, err := recipe.Read(repo(map[string]string{"runtime.txt": text}), recipe.Options{Today: today})
		e, _ := errors.AsType[*binnacle.Error](err)
		if hint == "" && err == nil {
			continue
		}
		if hint == "" || e == nil || e.File != "runtime.txt" || e.Line != 1 || !strings.Contains(e.Hint, hint) {
			t.Errorf("%s: %v %+v; want a hint with %q", text, err, e, hint)
		}
	}
}

// TestInstallR: a script that reads nothing of the repository runs before its
// tree is there, so that a commit to a notebook does not run it again.
func TestInstallR(t *testing.T) {
	for text, tree := range map[string]bool{
		"install.packages('a')":                                            false,
		"install.packages(c(\"a\", \"b\"), Ncpus = 4)":                     false,
		"remotes::install_github(\"owner/name@v1\")":                       false,
		"if (!require(\"a\")) install.packages(\"a\")":                     false,
		"lapply(c('a', 'b'), install.packages)":                            false,
		"# source('x.R')\nprint('source(1)')":                              false,
		"add <- function(p) install.packages(p)\nadd('a')":                 false,
		"BiocManager::install('a')":                                        false,
		"install.packages('https://example.org/a_1.tar.gz', repos = NULL)": true,
		"source('packages.R')":                                             true,
		"install.packages(readLines('packages.txt'))":                      true,
		"remotes::install_local('.')":                                      true,
		"remotes::install_deps()":                                          true,
		"lapply('packages.txt', readLines)":                                true,
		"do.call(\"source\", list('packages.R'))":                          true,
		"install.packages('./a.tar.gz')":                                   true,
		"renv::restore()":                                                  true,
		"system('sh setup.sh')":                                            true,
		"`source`('a.R')":                                                  true,
		"eval(parse(text = 'x'))":                                          true,
		"f <- get('readLines')":                                            true,
		"unknown_function()":                                               true,
		"":                                                                 false,
	} {
		r := read(t, map[string]string{"install.R": text + "\n"})
		s := step(t, r, "R: install.R")
		if got := s.Stage == recipe.StageContent; got != tree {
			t.Errorf("%q: reads the tree: %v, want %v", text, got, tree)
		}
		if (s.Branch == "r") == tree || len(s.Caches) > 0 {
			t.Errorf("%q: %+v", text, s)
		}
		if says := strings.Contains(notes(r), "runs anew for every commit"); says != tree {
			t.Errorf("%q: %s", text, notes(r))
		}
	}
	r := read(t, map[string]string{"install.R": "pkgs <- c('dplyr',\n 'owner/tidyr@v1')\ninstall.packages(pkgs, repos = 'CRAN', type = \"source\")\ncat('done')\n"})
	var names []string
	for _, p := range step(t, r, "R: install.R").Packages {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"dplyr", "tidyr"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestDevtools: scripts of repo2docker's images count on it; it is installed where
// one names it.
func TestDevtools(t *testing.T) {
	const deb, libraries = "devtools", "Libraries of devtools"
	for name, c := range map[string]struct {
		files map[string]string
		step  string // that has it; "" is none
	}{
		"install.R":     {map[string]string{"install.R": "devtools::install_github('a/b')"}, deb},
		"postBuild":     {map[string]string{"runtime.txt": "r-4.5-2025-06-01", "postBuild": "#!/bin/sh\nRscript -e 'library(devtools)'\n"}, deb},
		"of Posit":      {map[string]string{"runtime.txt": "r-4.4-2025-06-01", "postBuild": "#!/bin/sh\nRscript -e 'library(devtools)'\n"}, libraries},
		"remotes":       {map[string]string{"install.R": "remotes::install_github('a/b')"}, ""},
		"another word":  {map[string]string{"install.R": "install.packages('mydevtools')"}, ""},
		"conda's":       {map[string]string{"environment.yml": "dependencies: [r-base]\n", "postBuild": "#!/bin/sh\nRscript -e 'devtools::install()'\n"}, ""},
		"Python's only": {map[string]string{"requirements.txt": "devtools\n"}, ""},
	} {
		r := read(t, c.files)
		for _, name := range []string{deb, libraries} {
			if slices.Contains(steps(r), name) != (c.step == name) {
				t.Errorf("%s: steps are %q", name, steps(r))
			}
		}
		if c.step == libraries && !strings.Contains(string(step(t, r, "R: IRkernel").Lock.Inputs[0].Content), `"devtools"`) {
			t.Errorf("%s: devtools is not resolved", name)
		}
		if r.Kind == "r" && c.step != libraries && !strings.Contains(step(t, r, "R 4.5").Script, "r-cran-remotes") {
			t.Errorf("%s: there is no remotes", name)
		}
		if r.Kind == "conda" && !strings.Contains(input(t, r, "Versions: environment.yml", "environment.json"), `"r-devtools"`) {
			t.Errorf("%s: conda brings no devtools", name)
		}
	}
}

// TestRKeys: what a commit's day may change, and what not.
func TestRKeys(t *testing.T) {
	scripts := func(r recipe.Recipe) string {
		var b strings.Builder
		for _, s := range r.Steps {
			b.WriteString(s.Script)
			for _, in := range s.Inputs {
				b.Write(in.Content)
			}
		}
		return b.String()
	}
	files := map[string]string{"DESCRIPTION": "Package: a\nVersion: 1\nImports: dplyr\n", "install.R": "install.packages('x')\n"}
	one, two, later := readAt(t, "2025-06-03", files), readAt(t, "2025-06-29", files), readAt(t, "2025-07-01", files)
	if scripts(one) != scripts(two) {
		t.Error("steps of two commits of a month differ")
	}
	if scripts(one) == scripts(later) {
		t.Error("steps of another month are the same")
	}
	if got := step(t, one, "R: DESCRIPTION"); got.Script != step(t, later, "R: DESCRIPTION").Script || !strings.Contains(string(got.Lock.Inputs[0].Content), "2025-06-03") {
		t.Errorf("the step of the lock knows the month, or its lock not the day: %s", got.Lock.Inputs[0].Content)
	}
	python := read(t, map[string]string{"requirements.txt": "humanize\n"})
	for i, s := range python.Steps {
		if r := read(t, map[string]string{"requirements.txt": "humanize\n", "runtime.txt": "r-2025-06-01"}); s.Stage != recipe.StageEnvironment {
			if diff := cmp.Diff(s, step(t, r, s.Name)); diff != "" {
				t.Errorf("step %d of Python differs beside R: %s", i, diff)
			}
			if diff := cmp.Diff(python.Env, r.Env); diff != "" {
				t.Errorf("Python's variables differ beside R: %s", diff)
			}
		}
	}
}

func TestCompareR(t *testing.T) {
	for _, c := range []struct {
		a, op, b string
		want     bool
	}{
		{"4.5.0", ">=", "4.5", true},
		{"4.5", "==", "4.5.0", true},
		{"1.2-5", "<", "1.2-6", true},
		{"1.2-5", "<", "1.2.6", true},
		{"0.10", ">", "0.9", true},
		{"3.6.3", "<", "4.0", true},
		{"2.0", "!=", "2.0.0", false},
		{"1", "<=", "0.9.9", false},
	} {
		if got := recipe.CompareR(c.a, c.op, c.b); got != c.want {
			t.Errorf("%s %s %s: %v", c.a, c.op, c.b, got)
		}
	}
}

// TestRenv: where the versions of a lock are looked for.
func TestRenv(t *testing.T) {
	r := read(t, map[string]string{"renv.lock": `{
  "R": {"Version": "4.5.1", "Repositories": [
    {"Name": "P3M", "URL": "https://packagemanager.posit.co/cran/2025-05-20"}, {"Name": "ours", "URL": "https://r.example.org/"}]},
  "Bioconductor": {"Version": "3.21"},
  "Packages": {
    "a": {"Package": "a", "Version": "1.0", "Source": "Repository", "Repository": "P3M"},
    "b": {"Package": "b", "Version": "2.0-1", "Source": "Repository", "Repository": "ours"},
    "c": {"Package": "c", "Version": "3", "Source": "GitHub", "RemoteType": "github", "RemoteHost": "api.github.com", "RemoteUsername": "u", "RemoteRepo": "c", "RemoteSha": "0123abc", "RemoteSubdir": "pkg"},
    "d": {"Package": "d", "Version": "4", "Source": "Bioconductor"},
    "stats": {"Package": "stats", "Version": "4.5.1", "Source": "Repository"}}}`})
	s := step(t, r, "R: renv.lock")
	want := `{"r":"4.5","date":"2025-05-20","locked":[{"name":"a","version":"1.0","source":"repository"},{"name":"b","version":"2.0-1","source":"repository","url":"https://r.example.org"},` +
		`{"name":"c","version":"3","source":"archive","url":"https://codeload.github.com/u/c/tar.gz/0123abc","subdir":"pkg","remote":{"RemoteHost":"api.github.com","RemoteRef":"0123abc","RemoteRepo":"c","RemoteSha":"0123abc","RemoteSubdir":"pkg","RemoteType":"github","RemoteUsername":"u"}},` +
		`{"name":"d","version":"4","source":"bioconductor"}],"bioconductor":"3.21"}`
	if diff := cmp.Diff(want, string(s.Lock.Inputs[0].Content)); diff != "" {
		t.Error(diff)
	}
	if len(s.Packages) != 4 || s.Packages[2].From.Line != 8 {
		t.Errorf("%+v", s.Packages)
	}
}

func FuzzDescription(f *testing.F) {
	for _, s := range []string{"Package: a\nVersion: 1\nDepends: R (>= 4.1), b\n", "Imports: a,\n  b (>= 1-2)\n\nRemotes: x/y@z, gitlab::a/b/c\n", "Package: injected; x\n", " x\n", "a\tb", "Imports: $(injected)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if recipe.ParseDescription(text) == nil {
			check(t, map[string]string{"DESCRIPTION": text, "install.R": text})
		}
	})
}

func FuzzRenv(f *testing.F) {
	for _, s := range []string{`{"R": {"Version": "4.5.1", "Repositories": [{"Name": "CRAN", "URL": "https://injected.example.org"}]}, "Packages": {"a": {"Package": "a", "Version": "1"}}}`, `{"Packages": {"a": {"Source": "GitHub", "Version": "1", "RemoteUsername": "injected'", "RemoteRepo": "b", "RemoteSha": "c"}}}`, `[]`, `{"Packages": {"a": 1}}`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if recipe.ParseRenv(text) == nil {
			check(t, map[string]string{"renv.lock": text})
		}
	})
}

func FuzzInstallR(f *testing.F) {
	for _, s := range []string{"install.packages(c('a',\"b\"))", "'", "\"\\", "# x", "((((", "))", "`a", "f <- function(x) { x }\nf('injected')", "r\"(x)\"", "é(\"\")"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, map[string]string{"install.R": text, "runtime.txt": "r-" + text})
	})
}
