package recipe_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
	"github.com/binnacle-hub/binnacle/test/olddebian"
	"github.com/binnacle-hub/binnacle/test/targz"
)

const knotsUUID, fathomUUID = "3d0f8c1e-6c3b-4c0a-9a55-0e2f4b1c7d21", "5b7c2f0a-1d2e-4f3a-8b9c-6d7e8f901a2b"

// standIn is a Julia that writes down what it is asked.
func standIn(t *testing.T, version string) []byte {
	t.Helper()
	b, err := targz.Pack("julia-"+version, map[string]string{"bin/julia": "#!/bin/sh\necho \"" + version + " $*\" >> \"$(dirname \"$0\")/../asked.txt\"\n"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func juliaServer(t *testing.T, releases []juliaserver.Release, packages ...juliaserver.Package) *httptest.Server {
	t.Helper()
	handler, err := juliaserver.New(releases, append(packages, juliaserver.Kernel()))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func (m *machine) julia(server *httptest.Server) {
	m.env = []string{
		"BINNACLE_JULIA_RELEASES=" + server.URL + "/bin", "JULIA_PKG_SERVER=" + server.URL, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"JULIA_PROJECT=" + filepath.Join(m.dir, "home"),
	}
}

// TestJuliaRelease runs the program that chooses and fetches a Julia.
func TestJuliaRelease(t *testing.T) {
	m := newMachine(t)
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	var releases []juliaserver.Release
	for version, at := range map[string]string{"1.6.7": "2022-07-19", "1.9.4": "2023-11-14", "1.10.0": "2023-12-25", "1.10.5": "2024-08-27", "1.11.1": "2024-10-16", "1.12.0-rc1": "2025-07-10"} {
		releases = append(releases, juliaserver.Release{Version: version, Time: day(at), Pre: strings.Contains(version, "-"), Tarball: standIn(t, version)})
	}
	releases = append(releases, juliaserver.Release{Version: "1.8.5", Time: day("2023-01-08"), Tarball: standIn(t, "1.8.5"), Damaged: true})
	m.julia(juliaServer(t, releases))
	compat := func(s string) map[string]string {
		return map[string]string{"Project.toml": juliaSimple + "[compat]\njulia = \"" + s + "\"\n"}
	}
	manifest := func(s string) map[string]string {
		return map[string]string{"Project.toml": juliaSimple, "Manifest.toml": juliaManifest(s)}
	}
	for name, c := range map[string]struct {
		files map[string]string
		date  string
		want  string // the version, or what is said of the failure
	}{
		"newest":          {compat("1"), "", "1.11.1"},
		"by date":         {compat("1"), "2024-09-01", "1.10.5"},
		"of that day":     {compat("1"), "2023-12-25", "1.10.0"},
		"range":           {compat("1.6 - 1.9, ~1.2"), "", "1.9.4"},
		"range and date":  {compat("1.6 - 1.9"), "2023-06-01", "1.8.5"}, // not yet fetched
		"after the day":   {compat("1.10"), "2020-01-01", "1.10.0"},
		"exact":           {manifest("1.6.7"), "2025-01-01", "1.6.7"},
		"pre-release":     {manifest("1.12.0-rc1"), "", "1.12.0-rc1"},
		"no such version": {manifest("1.9.9"), "", "There is no build of Julia 1.9.9"},
		"none allowed":    {compat("~1.7"), "", "No release of Julia is allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			opt := recipe.Options{}
			if c.date != "" {
				opt.Date = day(c.date)
			}
			r, err := recipe.Read(repo(c.files), opt)
			if err != nil {
				t.Fatal(err)
			}
			s := stepNamed(t, r, "Julia")
			out, err := m.step(t, recipe.Step{Name: s.Name, Lock: s.Lock, Script: "true"})
			if err != nil {
				if e := recipe.Explain(r, s.Lock.Name, strings.Split(out, "\n")); !strings.Contains(e.Message, c.want) || e.File == "" || e.Line == 0 {
					t.Errorf("%s:%d %s; want …%s…", e.File, e.Line, e.Message, c.want)
				}
				return
			}
			var chosen struct{ Version, Path string }
			b, err := os.ReadFile(filepath.Join(m.dir, "run/lock/julia.json"))
			if err != nil || json.Unmarshal(b, &chosen) != nil || chosen.Version != c.want || strings.Contains(chosen.Path, "://") {
				t.Errorf("chose %s, %v; want %s", b, err, c.want)
			}
		})
	}
	t.Run("no secret is told", func(t *testing.T) {
		m := *m
		m.env = append([]string{"BINNACLE_JULIA_RELEASES=http://me:hunter2@127.0.0.1:1/bin"}, m.env[1:]...)
		r := read(t, compat("1"))
		s := stepNamed(t, r, "Julia")
		out, err := m.step(t, recipe.Step{Name: s.Name, Lock: s.Lock, Script: "true"})
		if err == nil || strings.Contains(out, "hunter2") {
			t.Errorf("%v: %s", err, out)
		}
		if e := recipe.Explain(r, s.Lock.Name, strings.Split(out, "\n")); e.Code != binnacle.CodeUnavailable {
			t.Errorf("%s %s", e.Code, e.Message)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		r := read(t, manifest("1.8.5"))
		s := stepNamed(t, r, "Julia")
		out, err := m.step(t, s)
		if e := recipe.Explain(r, s.Name, strings.Split(out, "\n")); err == nil || !strings.Contains(e.Message, "damaged") {
			t.Errorf("%v: %s", err, e.Message)
		}
		if _, err := os.Stat(filepath.Join(m.dir, "julia/bin/julia")); err == nil {
			t.Error("it was installed all the same")
		}
	})
	t.Run("what Julia is asked", func(t *testing.T) {
		r := read(t, manifest("1.6.7"))
		for _, name := range []string{"Julia", "Julia's kernel", "Julia packages: Project.toml"} {
			if out, err := m.step(t, stepNamed(t, r, name)); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
		}
		b, err := os.ReadFile(filepath.Join(m.dir, "julia/asked.txt"))
		if err != nil {
			t.Fatal(err)
		}
		have := strings.NewReplacer(m.dir, "", "--startup-file=no ", "", "/run/in/", "").Replace(string(b))
		const want = "1.6.7 juliasteps.jl kernel /home\n1.6.7 -e import IJulia\n1.6.7 --project=/home juliasteps.jl install /store\n1.6.7 --project=/home juliasteps.jl precompile\n"
		if have != want {
			t.Errorf("asked\n%swant\n%s", have, want)
		}
	})
}

// TestJuliaSteps installs packages with a real Julia: the last that Debian had.
func TestJuliaSteps(t *testing.T) {
	m := newMachine(t)
	file, err := juliaserver.Debian(t.Context())
	if errors.Is(err, olddebian.ErrNone) {
		t.Skip(err) // Debian takes old releases away; the stand-in is tested above
	}
	if err != nil {
		t.Fatal(err)
	}
	tarball, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	knots := func(version string) juliaserver.Package {
		return juliaserver.Package{
			Name: "Knots", UUID: knotsUUID, Version: version, Deps: map[string]string{"Fathom": fathomUUID},
			Files: map[string]string{"src/Knots.jl": "module Knots\nimport Fathom\nconst version = \"" + version + "\"\nend\n"},
		}
	}
	m.julia(juliaServer(t, []juliaserver.Release{{Version: juliaserver.DebianVersion, Tarball: tarball}}, knots("1.0.0"), knots("1.1.0"), juliaserver.Package{
		Name: "Fathom", UUID: fathomUUID, Version: "6.0.0", Files: map[string]string{"src/Fathom.jl": "module Fathom\nend\n"},
	}))
	project := "[deps]\nKnots = \"" + knotsUUID + "\"\n"
	install := func(t *testing.T, r recipe.Recipe) (string, error) {
		t.Helper()
		for _, name := range []string{"Manifest.toml", "Project.toml"} {
			if err := os.RemoveAll(filepath.Join(m.dir, "home", name)); err != nil {
				t.Fatal(err)
			}
		}
		return m.step(t, stepNamed(t, r, "Julia packages: Project.toml"))
	}
	r := read(t, map[string]string{"Project.toml": project})
	for _, name := range []string{"Julia", "Julia's kernel"} {
		if out, err := m.step(t, stepNamed(t, r, name)); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := install(t, r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	locked, err := os.ReadFile(filepath.Join(m.dir, "store/Manifest.toml"))
	if err != nil || !strings.Contains(string(locked), `version = "1.1.0"`) {
		t.Fatalf("the lock is %s, %v", locked, err)
	}
	julia := func(code string) string {
		m.env = append(m.env, "JULIA_DEPOT_PATH="+m.dir+"/julia/pkg")
		return strings.TrimSpace(m.must(t, "", m.dir+"/julia/bin/julia", "-e", code))
	}
	if have := julia("using Knots; print(Knots.version)"); have != "1.1.0" {
		t.Errorf("has Knots %s", have)
	}
	if out := julia(`ENV["JULIA_DEBUG"] = "loading"; using Knots, IJulia`); out != "" {
		t.Errorf("was not compiled at build: %s", out)
	}
	t.Run("compat", func(t *testing.T) { juliaAgrees(t, julia) })
	kernel, err := os.ReadFile(filepath.Join(m.environment(), "share/jupyter/kernels/julia-1.5/kernel.json"))
	if err != nil || !strings.Contains(string(kernel), `"--project=`+m.dir+"/home") {
		t.Errorf("the kernel is %s, %v", kernel, err)
	}

	older := strings.ReplaceAll(string(locked), `version = "1.1.0"`, `version = "1.0.0"`)
	older = strings.ReplaceAll(older, knots("1.1.0").Tree(), knots("1.0.0").Tree())
	for name, project := range map[string]string{
		"manifest":                       project,
		"manifest that [compat] forbids": project + "[compat]\nKnots = \"1.1\"\n", // what is committed is what is meant
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, map[string]string{"Project.toml": project, "Manifest.toml": older})
			if out, err := install(t, r); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if have := julia("using Knots; print(Knots.version)"); have != "1.0.0" {
				t.Errorf("has Knots %s", have)
			}
			if told := strings.Contains(notes(r), "Manifest.toml has Knots 1.0.0, which [compat]"); told != strings.Contains(project, "compat") {
				t.Errorf("the notes are %s", notes(r))
			}
		})
	}
	for name, c := range map[string]struct {
		project, manifest string
		file              string
		line              int
		says, hint        string
	}{
		"not registered":                {"[deps]\nNosuch = \"aaaaaaaa-0000-4000-8000-000000000000\"\n" + project[len("[deps]\n"):], "", "Project.toml", 2, "Nosuch", "]add https://"},
		"manifest without a dependency": {project, strings.Split(string(locked), "[[Fathom]]")[0] + "[[Knots" + strings.Split(string(locked), "[[Knots")[1], "Manifest.toml", 0, "does not have Fathom", "]resolve"},
		"manifest of a newer format":    {project, "manifest_format = \"2.0\"\n\n[[deps.Knots]]\nuuid = \"" + knotsUUID + "\"\nversion = \"1.0.0\"\ngit-tree-sha1 = \"" + knots("1.0.0").Tree() + "\"\n", "Manifest.toml", 0, "newer format", "]resolve"},
		"no version":                    {project + "[compat]\nKnots = \"7\"\n", "", "Project.toml", 2, "No version of the Julia package Knots fits", "[compat]"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"Project.toml": c.project}
			if c.manifest != "" {
				files["Manifest.toml"] = c.manifest
			}
			r := read(t, files)
			out, err := install(t, r)
			e := recipe.Explain(r, "Julia packages: Project.toml", strings.Split(out, "\n"))
			t.Log(e.Message, e.Hint)
			if err == nil || e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) || len(e.Excerpt) == 0 {
				t.Errorf("%v %s:%d %s %s %q; want %s:%d …%s… %s", err, e.File, e.Line, e.Message, e.Hint, e.Excerpt, c.file, c.line, c.says, c.hint)
			}
		})
	}
}

// juliaAgrees asks Julia itself which versions each entry of [compat] allows.
func juliaAgrees(t *testing.T, julia func(code string) string) {
	t.Helper()
	versions := strings.Fields("0.0.1 0.0.2 0.0.3 0.0.4 0.0.9 0.1.0 0.2.2 0.2.3 0.2.4 0.3.0 0.7.0 0.9.9 1.0.0 1.0.1 1.1.9 1.2.0 1.2.1 1.2.2 1.2.3 1.2.4 1.2.10 1.3.0 1.3.4 1.3.5 1.4.0 1.6.0 1.6.1 1.7.0 1.8.2 1.8.3 1.9.0 1.9.9 1.10.0 2.0.0 2.0.2 2.0.3 4.9.0 5.0.0")
	specs := slices.Sorted(maps.Keys(juliaTable()))
	var want strings.Builder
	for _, spec := range specs {
		want.WriteString(spec + ":")
		for _, v := range versions {
			if recipe.JuliaMatch(spec, v) {
				want.WriteString(" " + v)
			}
		}
		want.WriteByte('\n')
	}
	have := julia(`using Pkg; for s in split("` + strings.Join(specs, ";") + `", ";"); print(s, ":"); for v in split("` + strings.Join(versions, " ") + `"); VersionNumber(v) in Pkg.Types.semver_spec(String(s)) && print(" ", v); end; println(); end`)
	if diff := cmp.Diff(strings.TrimSpace(want.String()), have); diff != "" {
		t.Errorf("what we allow (-) and what Julia does (+):\n%s", diff)
	}
}
