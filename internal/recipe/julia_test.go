package recipe_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// juliaTable has repo2docker's table, and what Julia reads and it does not. Where the
// manual of Julia's package manager and its code differ ("~0.0.3" is [0.0.3, 0.0.4) in
// the manual, which repo2docker follows), its code decides, as it does when it installs.
func juliaTable() map[string]string {
	return map[string]string{
		"1.2.5": "[1.2.5, 2.0.0)", "^1.2.3": "[1.2.3, 2.0.0)", "^1.2": "[1.2.0, 2.0.0)", "^1": "[1.0.0, 2.0.0)",
		"^0.2.3": "[0.2.3, 0.3.0)", "^0.0.3": "[0.0.3, 0.0.4)", "^0.0": "[0.0.0, 0.1.0)", "^0": "[0.0.0, 1.0.0)",
		"~1.2.3": "[1.2.3, 1.3.0)", "~1.3.5": "[1.3.5, 1.4.0)", "~1.2": "[1.2.0, 1.3.0)", "~1": "[1.0.0, 2.0.0)",
		"~0.0.3": "[0.0.3, 0.1.0)", "~0.0": "[0.0.0, 0.1.0)", "~0": "[0.0.0, 1.0.0)",
		"1.2.3": "[1.2.3, 2.0.0)", "1.2": "[1.2.0, 2.0.0)", "1": "[1.0.0, 2.0.0)", "0.0.3": "[0.0.3, 0.0.4)", "0": "[0.0.0, 1.0.0)",
		"<1": "[0.0.0, 1.0.0)", "=1.2": "[1.2.0, 1.2.1)", "  =1": "[1.0.0, 1.0.1)", ">=   1.2.3": "[1.2.3, ∞)", "  >=  1": "[1.0.0, ∞)", "≥1.3.0": "[1.3.0, ∞)",
		// Julia's own grammar.
		"1.6, 1.7": "[1.6.0, 2.0.0) or [1.7.0, 2.0.0)", "~1.6, ~1.9": "[1.6.0, 1.7.0) or [1.9.0, 1.10.0)", ">=1.6, <1.7": "[1.6.0, ∞) or [0.0.0, 1.7.0)",
		"1.6 - 1.8": "[1.6.0, 1.9.0)", "1.6.1 - 1.8.2": "[1.6.1, 1.8.3)", "1.2.3 - 4": "[1.2.3, 5.0.0)", "0.7 - 1": "[0.7.0, 2.0.0)", "v1.6": "[1.6.0, 2.0.0)",
	}
}

func TestJuliaRanges(t *testing.T) {
	for spec, want := range juliaTable() {
		if have, ok := recipe.JuliaRange(spec); !ok || have != want {
			t.Errorf("%q is %q, %v; want %q", spec, have, ok, want)
		}
	}
	for _, spec := range []string{"*", "latest", "", "1.6,", "1.6.1-rc1", "1.6-1.8", "<=1.6", ">1.6", "^", "01.6", "1.6.1.2", "1.6 - ", "~>1.6", "1.x", "1.9999999"} {
		if have, ok := recipe.JuliaRange(spec); ok {
			t.Errorf("%q is taken as %q", spec, have)
		}
	}
}

// TestJuliaMatches has repo2docker's table; of "~0.0.3" see juliaTable.
func TestJuliaMatches(t *testing.T) {
	for _, c := range []struct {
		pairs string
		want  bool
	}{
		{"1.2.3,1.5.2 1.2.3,1.2.3 ~1.2.3,1.2.4 ~1.2.3,1.2.3 ~1.2,1.2.10 ~1,1.99 ~0.0.3,0.0.3 ~0.0.3,0.0.4 1.2,1.2.0 1.2,1.9.9 0.2.3,0.2.3 0,0.0.0 0,0.99.0 0.0,0.0.0 0.0,0.0.99 <2.0.3,2.0.2 <2.0.3,0.2.3 <2,0.0.1 >=1,1.0.0 >=0,0.0.1 >=1.2.3,1.2.3 =1.2.3,1.2.3", true},
		{"1.2.3,2.0.0 1.2.3,1.2.2 ~1.2.3,1.3 ~1.2,1.3 ~1,2 1.2,2.0.0 1.2,1.1.9 0.2.3,0.3.0 0.2.3,0.2.2 0,1.0.0 0.0,0.1.0 <0.2.4,0.2.4 >=1.2.3,1.2.2 =1.2.3,1.2.4 =1.2.3,1.2.2", false},
	} {
		for pair := range strings.FieldsSeq(c.pairs) {
			spec, version, _ := strings.Cut(pair, ",")
			if recipe.JuliaMatch(spec, version) != c.want {
				t.Errorf("%s and %s: want %v", spec, version, c.want)
			}
		}
	}
}

const (
	datesUUID   = "ade2ca70-3891-5945-98fb-dc099432e06a"
	juliaSimple = "[deps]\nDates = \"" + datesUUID + "\"\n"
)

func juliaManifest(version string) string {
	return "julia_version = \"" + version + "\"\nmanifest_format = \"2.0\"\n\n[[deps.Dates]]\nuuid = \"" + datesUUID + "\"\n"
}

// TestJuliaVersion gives what the program that chooses a release is asked for.
func TestJuliaVersion(t *testing.T) {
	date := time.Date(2024, 3, 10, 15, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		files  map[string]string
		date   time.Time
		value  string
		wanted string
		notes  string
	}{
		"nothing":        {map[string]string{"Project.toml": juliaSimple}, time.Time{}, "", `{"ranges":[["1.0.0",""]]}`, "no Manifest.toml"},
		"by date":        {map[string]string{"Project.toml": juliaSimple}, date, "", `{"ranges":[["1.0.0",""]],"before":"2024-03-11T00:00:00Z"}`, "no Manifest.toml"},
		"compat":         {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"1.6 - 1.8, ~1.10\"\n"}, date, "1.6 - 1.8, ~1.10", `{"ranges":[["1.6.0","1.9.0"],["1.10.0","1.11.0"]],"before":"2024-03-11T00:00:00Z"}`, "no Manifest.toml"},
		"comma is or":    {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \">=1.6, <1.7\"\n"}, time.Time{}, ">=1.6, <1.7", `{"ranges":[["1.6.0",""],["0.0.0","1.7.0"]]}`, "a comma means"},
		"manifest":       {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"1\"\n", "Manifest.toml": juliaManifest("1.10.4")}, date, "1.10.4", `{"exact":"1.10.4"}`, ""},
		"pre-release":    {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.12.0-rc1")}, date, "1.12.0-rc1", `{"exact":"1.12.0-rc1"}`, ""},
		"nightly":        {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.12.0-DEV.345")}, time.Time{}, "1.12.0-DEV.345", `{"ranges":[["1.12.0","1.13.0"]]}`, "never released"},
		"not allowed":    {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"~1.6\"\n", "Manifest.toml": juliaManifest("1.9.4")}, date, "1.9.4", `{"exact":"1.9.4"}`, "does not allow"},
		"stale":          {map[string]string{"Project.toml": juliaSimple + "[compat]\nDates = \"2\"\n", "Manifest.toml": juliaManifest("1.9.4") + "version = \"1.9.0\"\n"}, date, "1.9.4", `{"exact":"1.9.4"}`, "has Dates 1.9.0, which [compat]"},
		"first format":   {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": "[[Dates]]\nuuid = \"" + datesUUID + "\"\n"}, time.Time{}, "", `{"ranges":[["1.0.0",""]]}`, ""},
		"one of several": {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.9.0"), "Manifest-v1.11.toml": juliaManifest("1.11.2"), "Manifest-v1.10.toml": juliaManifest("1.10.9")}, date, "1.11.2", `{"exact":"1.11.2"}`, ""},
		"allowed one":    {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"~1.10\"\n", "Manifest-v1.11.toml": juliaManifest("1.11.2"), "Manifest-v1.10.toml": juliaManifest("1.10.9")}, date, "1.10.9", `{"exact":"1.10.9"}`, ""},
		"Julia's name":   {map[string]string{"JuliaProject.toml": juliaSimple, "Project.toml": "[", "JuliaManifest.toml": juliaManifest("1.9.1"), "Manifest.toml": juliaManifest("1.9.2")}, date, "1.9.1", `{"exact":"1.9.1"}`, ""},
		"binder":         {map[string]string{"binder/Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.9.2")}, time.Time{}, "", `{"ranges":[["1.0.0",""]]}`, "no Manifest.toml"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := recipe.Read(repo(c.files), recipe.Options{Date: c.date})
			if err != nil {
				t.Fatal(err)
			}
			s := stepNamed(t, r, "Julia")
			if have := string(s.Lock.Inputs[1].Content); have != c.wanted || r.Versions["julia"].Value != c.value {
				t.Errorf("asks for %s, %+v; want %s, %q", have, r.Versions["julia"], c.wanted, c.value)
			}
			if strings.Contains(s.Script, "2024") {
				t.Error("the date is in the step's script")
			}
			notes, err := json.Marshal(r.Notes)
			if err != nil || !strings.Contains(string(notes), c.notes) || (c.notes == "" && len(r.Notes) > 0) {
				t.Errorf("notes %s, %v; want %q", notes, err, c.notes)
			}
		})
	}
}

func stepNamed(t *testing.T, r recipe.Recipe, name string) recipe.Step {
	t.Helper()
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no step %q", name)
	return recipe.Step{}
}

// TestJuliaPackages says when they are installed, and from what.
func TestJuliaPackages(t *testing.T) {
	local := juliaManifest("1.9.4") + "\n[[deps.Knots]]\npath = \"lib/Knots\"\nuuid = \"3d0f8c1e-6c3b-4c0a-9a55-0e2f4b1c7d21\"\n"
	for name, c := range map[string]struct {
		files  map[string]string
		stage  recipe.Stage
		inputs string
	}{
		"project":   {map[string]string{"Project.toml": juliaSimple}, recipe.StageEnvironment, "juliasteps.jl project/Project.toml"},
		"manifest":  {map[string]string{"binder/Project.toml": juliaSimple, "binder/Manifest-v1.11.toml": juliaManifest("1.11.1")}, recipe.StageEnvironment, "juliasteps.jl project/Manifest-v1.11.toml project/Project.toml"},
		"package":   {map[string]string{"Project.toml": "name = \"A\"\nuuid = \"" + datesUUID + "\"\n" + juliaSimple}, recipe.StageContent, "juliasteps.jl"},
		"path":      {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": local}, recipe.StageContent, "juliasteps.jl"},
		"sources":   {map[string]string{"Project.toml": juliaSimple + "[sources]\nDates = {path = \"x\"}\n"}, recipe.StageContent, "juliasteps.jl"},
		"git":       {map[string]string{"Project.toml": juliaSimple + "[sources]\nDates = {url = \"https://example.org/x.git\"}\n"}, recipe.StageEnvironment, "juliasteps.jl project/Project.toml"},
		"workspace": {map[string]string{"Project.toml": juliaSimple + "[workspace]\nprojects = [\"docs\"]\n"}, recipe.StageContent, "juliasteps.jl"},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			file := "Project.toml"
			if r.Dir != "" {
				file = r.Dir + "/Project.toml"
			}
			s := stepNamed(t, r, "Julia packages: "+file)
			var inputs []string
			for _, in := range s.Inputs {
				inputs = append(inputs, in.Name)
			}
			if s.Stage != c.stage || strings.Join(inputs, " ") != c.inputs {
				t.Errorf("in %s with %q; want %s with %s", s.Stage, inputs, c.stage, c.inputs)
			}
			want := []recipe.Package{{Manager: "julia", Name: "Dates", Spec: "Dates", From: recipe.Location{File: file, Line: s.Packages[0].From.Line}}}
			if diff := cmp.Diff(want, s.Packages); diff != "" || s.Packages[0].From.Line == 0 {
				t.Error(diff, s.Packages)
			}
			if at := r.LateEnv["JULIA_PROJECT"]; at != strings.TrimSuffix(recipe.RepoDir+"/"+r.Dir, "/") || r.Env["JULIA_PROJECT"] != "" {
				t.Errorf("JULIA_PROJECT is %q", at)
			}
		})
	}
}

// TestJuliaAndPython: environment.yml and requirements.txt both count beside Julia.
func TestJuliaAndPython(t *testing.T) {
	r := read(t, map[string]string{"Project.toml": juliaSimple, "environment.yml": "dependencies:\n- numpy\n", "requirements.txt": "humanize\n", "apt.txt": "git\n", "runtime.txt": "r-4.3-2024-01-01"})
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"conda: environment.yml", "Jupyter", "apt: apt.txt", "Julia", "Julia's kernel", "pip: requirements.txt", "Julia packages: Project.toml"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestJuliaAndR: Julia wins, and R is not installed, as in repo2docker.
func TestJuliaAndR(t *testing.T) {
	r := read(t, map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.9.4"), "runtime.txt": "r-4.3-2024-01-01\n", "default.nix": "{ }"})
	if r.Kind != "julia" || len(r.Notes) != 2 || !strings.Contains(r.Notes[0].Message, "R is not installed") {
		t.Errorf("%s with %+v", r.Kind, r.Notes)
	}
}

func TestJuliaRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"REQUIRE":        {map[string]string{"REQUIRE": "julia 0.6\n"}, "REQUIRE", 0, "before Julia 1.0"},
		"bad TOML":       {map[string]string{"Project.toml": "[deps]\nDates = \n"}, "Project.toml", 2, "can't be read"},
		"bad manifest":   {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": "# x\n[[deps\n"}, "Manifest.toml", 2, "can't be read"},
		"star":           {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"*\"\n"}, "Project.toml", 4, "leave the entry out"},
		"pre-release":    {map[string]string{"Project.toml": juliaSimple + "\n[compat]\njulia = \"1.6.1-rc1\"\n"}, "Project.toml", 5, "pre-release"},
		"number":         {map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = 1.6\n"}, "Project.toml", 4, "no text"},
		"no identifier":  {map[string]string{"Project.toml": "[deps]\n\nDates = \"1.6\"\n"}, "Project.toml", 3, "identifier"},
		"older manifest": {map[string]string{"Project.toml": juliaSimple + "Random = \"9a3f8284-a2c9-5f02-9a11-845980a1fd5c\"\n", "Manifest.toml": juliaManifest("1.9.4")}, "Project.toml", 3, "does not have Random"},
		"outside":        {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("1.9.4") + "[[deps.B]]\npath = \"../B\"\n"}, "Manifest.toml", 6, "outside of the repository"},
		"odd version":    {map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest("$(id)")}, "Manifest.toml", 1, "no version"},
	} {
		t.Run(name, func(t *testing.T) {
			if e := refused(t, repo(c.files)); e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
		})
	}
}
