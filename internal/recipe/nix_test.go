package recipe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func TestNixNamesFiles(t *testing.T) {
	for text, want := range map[string]bool{
		`{ pkgs ? import <nixpkgs> {} }: pkgs.mkShell { packages = [ pkgs.hello ]; }`:              false,
		`import (builtins.fetchTarball "https://example.org/nixpkgs/x.tar.gz") { }`:                false,
		`derivation { builder = "/bin/sh"; args = [ "-c" "echo $a/bin" ]; x = ''a/b ''${c}/d''; }`: false,
		`# see ./x.nix` + "\n" + `{ a = 1; /* ./y */ b = { } // { c = 6 / 2; }; }`:                 false,
		`import <nixpkgs/nixos> { }`:                  false,
		`{ outputs = { self, nixpkgs }: { }; }`:       false,
		`import ./shell.nix`:                          true,
		`import nix/sources.nix`:                      true,
		`{ src = ./.; }`:                              true,
		`"#" + ./x`:                                   true,
		`"a ${./x} b"`:                                true,
		`"a ${ { b = "}"; c = ''}''; }.b + ../x } b"`: true,
		`'' ${./x} ''`:                                true,
		`'' ''' ''\n $$ '' + ~/x`:                     true,
		`"\" " + ./x`:                                 true,
		`builtins.getEnv "PWD"`:                       true,
		`{ outputs = { self }: { src = self; }; }`:    true,
	} {
		if have := recipe.NixNamesFiles(text); have != want {
			t.Errorf("%s\nnames files: %v; want %v. Its code: %s", text, have, want, recipe.NixCode(text))
		}
	}
}

func TestNixChannel(t *testing.T) {
	for day, want := range map[string]string{
		"2024-03-10": "nixos-23.11", "2024-05-31": "nixos-23.11", "2024-06-01": "nixos-24.05", "2024-11-30": "nixos-24.05", "2024-12-01": "nixos-24.11", "2010-01-01": "nixos-09.11",
	} {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		if have := recipe.NixChannel(at); have != want {
			t.Errorf("%s has %s; want %s", day, have, want)
		}
	}
	if have := recipe.NixChannel(time.Time{}); have != "nixpkgs-unstable" {
		t.Errorf("without a date it is %s", have)
	}
}

func TestNixKinds(t *testing.T) {
	const shell, nixpkgs = "{ }", "import <nixpkgs> { }"
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		steps []string
		notes string
	}{
		"alone":              {map[string]string{"default.nix": shell}, "nix", []string{"Python and Jupyter", "Nix", "Nix packages: default.nix"}, ""},
		"nixpkgs":            {map[string]string{"default.nix": nixpkgs, "apt.txt": "git\n", "postBuild": "#!/bin/sh\n"}, "nix", []string{"Python and Jupyter", "Nix", "apt: apt.txt", "nixpkgs", "Nix packages: default.nix", "postBuild"}, ""},
		"elsewhere":          {map[string]string{"binder/default.nix": "import ../nix/shell.nix", "nix/shell.nix": nixpkgs}, "nix", []string{"Python and Jupyter", "Nix", "nixpkgs", "Nix packages: binder/default.nix"}, "evaluated anew"},
		"beats Python":       {map[string]string{"default.nix": shell, "environment.yml": "", "requirements.txt": "a"}, "nix", []string{"Python and Jupyter", "Nix", "Nix packages: default.nix"}, "requirements.txt is passed over"},
		"Julia is first":     {map[string]string{"default.nix": shell, "Project.toml": juliaSimple}, "julia", nil, ""},
		"flake":              {map[string]string{"flake.nix": "{ outputs = { self }: { }; }"}, "nix", []string{"Python and Jupyter", "Nix", "Nix packages: flake.nix"}, ""},
		"flake is last":      {map[string]string{"flake.nix": "{", "requirements.txt": "a"}, "python", nil, "flake.nix is there, but another file decides"},
		"only shell.nix":     {map[string]string{"shell.nix": shell}, "python", []string{"Python and Jupyter"}, "only default.nix"},
		"default over flake": {map[string]string{"default.nix": shell, "flake.nix": "{"}, "nix", []string{"Python and Jupyter", "Nix", "Nix packages: default.nix"}, "another file decides"},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			var steps []string
			for _, s := range r.Steps {
				steps = append(steps, s.Name)
			}
			if r.Kind != c.kind || (c.steps != nil && cmp.Diff(c.steps, steps) != "") {
				t.Errorf("%s with %q; want %s with %q", r.Kind, steps, c.kind, c.steps)
			}
			var notes []string
			for _, n := range r.Notes {
				notes = append(notes, n.Message)
			}
			if !strings.Contains(strings.Join(notes, " "), c.notes) {
				t.Errorf("notes %q; want %q", notes, c.notes)
			}
		})
	}
	if e := refused(t, repo(map[string]string{"flake.nix": "{\n  inputs.nixpkgs.url = \"github:a/b\";\n}"})); e.File != "flake.nix" || e.Line != 2 || !strings.Contains(e.Message, "flake.lock") {
		t.Errorf("a flake without its lock: %+v", e)
	}
}

func TestNixStart(t *testing.T) {
	r := read(t, map[string]string{"binder/default.nix": "{ }", "binder/start": "#!/bin/sh\nexec \"$@\"\n"})
	if r.LateEnv["R2D_START"] != recipe.RepoDir+"/binder/start" || r.LateEnv["R2D_ENTRYPOINT"] == "" || r.Start != "binder/start" {
		t.Errorf("start is %q, %v", r.Start, r.LateEnv)
	}
}
