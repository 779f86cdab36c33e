package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGoAndRust(t *testing.T) {
	const server = "Python and Jupyter"
	const mod = "module example.org/x\n\ngo 1.23\n\nrequire example.org/y v1.0.0\n"
	const cargo = "[package]\nname = \"x\"\nversion = \"1.0.0\"\n[dependencies]\nitoa = \"1\"\n"
	for name, c := range map[string]struct {
		files   map[string]string
		kind    string
		steps   []string
		version string // of the first language
		notes   []string
	}{
		"go.mod":             {map[string]string{"go.mod": mod, "go.sum": "y\n"}, "go", []string{server, "apt: Go", "Go kernel", "go: go.mod"}, "1.24.4", nil},
		"no go.sum":          {map[string]string{"go.mod": mod}, "go", []string{server, "apt: Go", "Go kernel", "go: go.mod"}, "1.24.4", []string{"no go.sum"}},
		"requires nothing":   {map[string]string{"go.mod": "module x\n\ngo 1.20\n"}, "go", []string{server, "apt: Go", "Go kernel"}, "1.24.4", nil},
		"newer Go":           {map[string]string{"go.mod": "module x\n\ngo 1.25\n"}, "go", []string{server, "apt: Go", "Go kernel", "Go 1.25.0"}, "1.25.0", nil},
		"toolchain":          {map[string]string{"go.mod": "module x\n\ngo 1.23\n\ntoolchain go1.25.3\n"}, "go", []string{server, "apt: Go", "Go kernel", "Go 1.25.3"}, "1.25.3", nil},
		"release candidate":  {map[string]string{"go.mod": "module x\n\ngo 1.26rc2\n"}, "go", []string{server, "apt: Go", "Go kernel", "Go 1.26rc2"}, "1.26rc2", nil},
		"local replacement":  {map[string]string{"go.mod": mod + "replace example.org/y => ./y\n", "go.sum": ""}, "go", []string{server, "apt: Go", "Go kernel", "go: go.mod"}, "1.24.4", []string{"takes the place of a module"}},
		"workspace":          {map[string]string{"go.work": "go 1.24\nuse ./a\nuse ./b\n", "a/go.mod": mod, "a/go.sum": "y\n", "b/go.mod": "module b\n"}, "go", []string{server, "apt: Go", "Go kernel", "go: go.work"}, "1.24.4", nil},
		"both languages":     {map[string]string{"go.mod": "module x\n", "Cargo.toml": cargo, "Cargo.lock": "version = 4\n"}, "go", []string{server, "apt: Go", "apt: Rust", "Go kernel", "Rust kernel", "cargo: Cargo.lock"}, "1.24.4", nil},
		"beside Python":      {map[string]string{"go.mod": mod, "requirements.txt": "# none\n"}, "python", []string{server}, "", []string{"go.mod is passed over"}},
		"in binder":          {map[string]string{"binder/go.mod": mod, "binder/go.sum": "y\n", "binder/runtime.txt": "python-3.13"}, "python", []string{server, "apt: Go", "Go kernel", "go: binder/go.mod"}, "1.24.4", nil},
		"Cargo.toml":         {map[string]string{"Cargo.toml": cargo, "Cargo.lock": "version = 4\n"}, "rust", []string{server, "apt: Rust", "Rust kernel", "cargo: Cargo.lock"}, "1.85", nil},
		"no Cargo.lock":      {map[string]string{"Cargo.toml": cargo}, "rust", []string{server, "apt: Rust", "Rust kernel", "cargo: Cargo.toml"}, "1.85", []string{"no Cargo.lock"}},
		"workspace of Rust":  {map[string]string{"Cargo.toml": "[workspace]\nmembers = [\"a\"]\n", "Cargo.lock": ""}, "rust", []string{server, "apt: Rust", "Rust kernel", "cargo: Cargo.lock"}, "1.85", []string{"anew for every commit"}},
		"older toolchain":    {map[string]string{"Cargo.toml": "[package]\nname = \"x\"\n", "rust-toolchain": "1.70.0\n"}, "rust", []string{server, "apt: Rust", "Rust kernel"}, "1.85", []string{"1.70.0 can't be had"}},
		"the same toolchain": {map[string]string{"Cargo.toml": "[package]\nname = \"x\"\n", "rust-toolchain.toml": "[toolchain]\nchannel = \"1.85.0\"\n"}, "rust", []string{server, "apt: Rust", "Rust kernel"}, "1.85", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if r.Kind != c.kind {
				t.Errorf("kind %s, want %s", r.Kind, c.kind)
			}
			if diff := cmp.Diff(c.steps, steps(r)); diff != "" {
				t.Errorf("steps (-want +have):\n%s", diff)
			}
			if have := r.Versions["go"].Value + strings.Repeat(r.Versions["rust"].Value, 1-min(1, len(r.Versions["go"].Value))); have != c.version {
				t.Errorf("version %q, want %q", have, c.version)
			}
			for _, want := range c.notes {
				if !strings.Contains(notes(r), want) {
					t.Errorf("no note has %q:\n%s", want, notes(r))
				}
			}
			if len(c.notes) == 0 && len(r.Notes) > 0 {
				t.Errorf("notes:\n%s", notes(r))
			}
		})
	}
}

// TestKernelsAreShared: what all repositories of a language have is keyed by
// nothing of theirs.
func TestKernelsAreShared(t *testing.T) {
	one := read(t, map[string]string{"go.mod": "module a\n\ngo 1.20\n\nrequire example.org/a v1.0.0\n", "Cargo.toml": "[package]\nname = \"a\"\n", "package.json": "{}", "package-lock.json": emptyLock})
	two := read(t, map[string]string{"binder/go.mod": "module b\n", "binder/Cargo.toml": "[package]\nname = \"b\"\n", "binder/deno.json": "{}", "binder/apt.txt": "git"})
	for _, name := range []string{"apt: Go", "Go kernel", "apt: Rust", "Rust kernel", "Deno kernel"} {
		found := 0
		for _, a := range one.Steps {
			for _, b := range two.Steps {
				if a.Name == name && b.Name == name {
					found++
					a.From, b.From, a.Packages, b.Packages = nil, nil, nil, nil // who asks
					if cmp.Diff(a, b) != "" {
						t.Error(cmp.Diff(a, b))
					}
				}
			}
		}
		if found != 1 {
			t.Errorf("%q was found %d times", name, found)
		}
	}
}

func TestGoAndRustRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"bad go.mod":       {map[string]string{"go.mod": "module x\n\nrequire a b c d\n"}, "go.mod", 3, "can't be read"},
		"bad go.work":      {map[string]string{"go.work": "use (\n"}, "go.work", 2, "can't be read"},
		"use outside":      {map[string]string{"go.work": "go 1.24\nuse ../a\n"}, "go.work", 2, "not in the repository"},
		"use of nothing":   {map[string]string{"go.work": "go 1.24\nuse ./a\n"}, "go.work", 0, "no go.mod"},
		"bad Cargo.toml":   {map[string]string{"Cargo.toml": "[package]\nname = \n"}, "Cargo.toml", 2, "can't be read"},
		"newer Rust":       {map[string]string{"Cargo.toml": "[package]\nname = \"x\"\nrust-version = \"1.99\"\n"}, "Cargo.toml", 3, "Debian has"},
		"nightly":          {map[string]string{"Cargo.toml": "[package]\nname = \"x\"\n", "rust-toolchain.toml": "[toolchain]\nchannel = \"nightly-2025-01-01\"\n"}, "rust-toolchain.toml", 2, "Debian has"},
		"toolchain's path": {map[string]string{"Cargo.toml": "[package]\nname = \"x\"\n", "rust-toolchain.toml": "[toolchain]\npath = \"/opt/rust\"\n"}, "rust-toolchain.toml", 0, "by its path"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(c.files))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
		})
	}
}

func TestCargoManifest(t *testing.T) {
	r := read(t, map[string]string{"Cargo.toml": "[package]\nname = \"x\"\nversion = \"1.0.0\"\nbuild = \"make.rs\"\nreadme = \"a\"\n[[bin]]\nname = \"y\"\npath = \"y.rs\"\n[dependencies]\nitoa = { version = \"1\", features = [\"a\"] }\n[features]\nb = []\n", "Cargo.lock": "version = 4\n"})
	have := input(t, r, "cargo: Cargo.lock", "Cargo.toml")
	for _, not := range []string{"make.rs", "bin", "readme"} {
		if strings.Contains(have, not) {
			t.Errorf("it names %s:\n%s", not, have)
		}
	}
	for _, want := range []string{"itoa", "features", "1.0.0"} {
		if !strings.Contains(have, want) {
			t.Errorf("it lacks %s:\n%s", want, have)
		}
	}
}

func FuzzGoMod(f *testing.F) {
	for _, s := range []string{"module injected\n\ngo 1.99\n\nrequire injected.org/x v1.0.0\nreplace injected.org/x => ../injected\n", "go 1.24\nuse ./injected\n", "toolchain go1.25-injected"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, map[string]string{"go.mod": text, "go.sum": text})
		check(t, map[string]string{"go.work": text, "injected/go.mod": text, "go.work.sum": text})
	})
}

func FuzzCargo(f *testing.F) {
	for _, s := range []string{"[package]\nname='injected'\nrust-version='injected'\n[dependencies]\ninjected={path='a'}\n", "[workspace]\nmembers=['injected']", "[toolchain]\nchannel='injected'", "package=3", "[package]\nversion=1979-05-27"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, map[string]string{"Cargo.toml": text, "Cargo.lock": text})
		check(t, map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n", "rust-toolchain.toml": text})
	})
}
