package recipe_test

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// check is what holds for whatever a repository contains: an error for people,
// or steps that hold none of its text outside of inputs and quotes.
func check(t *testing.T, files map[string]string) {
	t.Helper()
	r, err := recipe.Read(repo(files), recipe.Options{})
	if err != nil {
		if e, ok := errors.AsType[*binnacle.Error](err); !ok || e.Message == "" || e.Hint == "" || strings.ContainsAny(e.Message, "\x00\x1b\r") {
			t.Errorf("no error for people: %#v", err)
		}
		return
	}
	words := regexp.MustCompile(`'[^']*'`)
	for _, s := range r.Steps {
		if rest := words.ReplaceAllString(s.Script, ""); strings.Contains(rest, "injected") {
			t.Errorf("text of the repository is in a script: %s", s.Script)
		}
		for _, in := range s.Inputs {
			if in.Name == "" || strings.Contains(in.Name, "..") {
				t.Errorf("an input is called %q", in.Name)
			}
		}
	}
	again, err := recipe.Read(repo(files), recipe.Options{})
	if err != nil || again.Environment() != r.Environment() {
		t.Error("the second reading differs")
	}
	if e := recipe.Explain(r, "postBuild", strings.Split(files["requirements.txt"]+files["postBuild"], "\n")); e.Hint == "" {
		t.Error("a failure without a hint")
	}
}

func FuzzRequirements(f *testing.F) {
	for _, s := range []string{"numpy==1\n-r b.txt\n", "-e .\n", "a @ https://example.org/x.whl#sha256=0\n", "--trusted-host injected;injected\n", "a\\\nb # c\n", "\xff\xfea\x00", "-r ../x", "a;b", "a @ file:///x", "--pre\n-f injected"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, map[string]string{"requirements.txt": text, "b.txt": text})
	})
}

func FuzzApt(f *testing.F) {
	for _, s := range []string{"git\n", "foo; injected", "foo=1.2~$injected", "a:b/c", "#\n\n"} {
		f.Add(s)
	}
	whole := regexp.MustCompile(`^[A-Za-z0-9+.~:/=-]+$`)
	f.Fuzz(func(t *testing.T, text string) {
		packages, err := recipe.ParseApt("apt.txt", text)
		for _, p := range packages {
			if err == nil && (!whole.MatchString(p.Spec) || strings.HasSuffix(p.Name, "-") || strings.HasPrefix(p.Spec, "-")) {
				t.Errorf("took %q", p.Spec)
			}
		}
		check(t, map[string]string{"apt.txt": text})
	})
}

func FuzzRuntime(f *testing.F) {
	for _, s := range []string{"python-3.12", "r-4.3-2024-01-01", "python-injected", "-", "python-3.12\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, _, err := recipe.ParseRuntime("runtime.txt", text); err == nil && !regexp.MustCompile(`^[0-9.]+$`).MatchString(v) {
			t.Errorf("took %q", v)
		}
		check(t, map[string]string{"runtime.txt": text})
	})
}

func FuzzConda(f *testing.F) {
	for _, s := range []string{"dependencies:\n- python=3.9\n- pip:\n  - -e .\n", "channels: [a, 'https://injected']\n", "a: &a [*a]\n", "- x", "dependencies: {pip: x}", "dependencies: [&a b, *a, null, 3, {pip: null}]", "\t", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{"environment.yml": text}) })
}

func FuzzCondaLock(f *testing.F) {
	for _, s := range []string{condaLock, "version: 1\npackage: [{name: a, platform: linux-64, url: injected}]\n", "package: &a [*a]\n"} {
		f.Add(s, "@EXPLICIT\n")
	}
	f.Add("", "@EXPLICIT\nhttps://example.org/a/linux-64/a-1-injected.conda#sha256:00\n# pip a @ injected --hash=x\n")
	f.Fuzz(func(t *testing.T, unified, explicit string) {
		check(t, map[string]string{"conda-lock.yml": unified, "environment.yml": "dependencies: [a]\n"})
		check(t, map[string]string{"conda-linux-64.lock": explicit})
	})
}

func FuzzPixi(f *testing.F) {
	f.Add(workspace+"[dependencies]\na = 'injected'\n[environments]\nbinder = ['x']\n", pixiLock)
	f.Add(workspace+"[pypi-dependencies]\na = { path = 'injected', extras = ['x'] }\n[activation.env]\nA = 'injected'\n", "")
	f.Add("[project]\ndependencies = ['injected']\n[dependency-groups]\nbinder = [{include-group = 'binder'}]\n[tool.pixi.workspace]\nchannels = ['a']\n", "version: 6\nenvironments: {default: {packages: {linux-64: [{conda: x}]}}}\n")
	f.Fuzz(func(t *testing.T, manifest, lock string) {
		check(t, map[string]string{"pixi.toml": manifest, "pixi.lock": lock})
		check(t, map[string]string{"pyproject.toml": manifest, "pixi.lock": lock})
	})
}

func FuzzPyproject(f *testing.F) {
	for _, s := range []string{"[project]\nrequires-python='>=3.11'\ndependencies=['a','injected; x']\n[build-system]\n", "[[project]]", "project=3", "[project]\nrequires-python='==3.11.4'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := recipe.ParsePyproject(text); err == nil {
			check(t, map[string]string{"pyproject.toml": text})
		}
	})
}

func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"data\n!data/x\n# c\n", "[", "/", "!", "**/*.log\n", "\\", "../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		patterns, err := recipe.ParseIgnore(".dockerignore", text)
		for _, p := range patterns {
			if p == "" || p == "!" || strings.Contains(p, "\n") || err != nil {
				t.Errorf("took %q", p)
			}
		}
		check(t, map[string]string{".dockerignore": text})
	})
}

func FuzzScripts(f *testing.F) {
	for _, s := range []string{"#!/bin/bash\nexec \"$@\"\n", "#!/bin/sh\r\n", "#!", "\x7fELF", "#!/usr/bin/env -S bash -x\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{"postBuild": text, "binder/start": text}) })
}

func FuzzLinks(f *testing.F) {
	for _, s := range []string{"../x", "/etc/passwd", "a/../../b", ".", "apt.txt", "a/a/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		files := repo(map[string]string{"a/b": "git\n"})
		files["apt.txt"] = link(target)
		files["a/c"] = link("../apt.txt")
		if _, err := recipe.Read(files, recipe.Options{}); err != nil {
			if _, ok := errors.AsType[*binnacle.Error](err); !ok && fs.ValidPath(target) {
				t.Errorf("no error for people: %v", err)
			}
		}
	})
}

func FuzzJulia(f *testing.F) {
	f.Add("[deps]\nDates = \"ade2ca70-3891-5945-98fb-dc099432e06a\"\n[compat]\njulia = \"1.6 - 1.8, ~1\"\n[sources]\nA = {path = \"injected\"}\n", "julia_version = \"1.10.4\"\nmanifest_format = \"2.0\"\n[[deps.Dates]]\nuuid = \"ade2ca70-3891-5945-98fb-dc099432e06a\"\npath = \"../injected\"\n")
	f.Add("name = \"injected\"\nuuid = 3\n[compat]\njulia = \"injected\"", "[[A]]\n[[A]]\npath = 3")
	f.Add("[workspace]", "julia_version = \"1.10.0-injected+injected\"")
	f.Fuzz(func(t *testing.T, project, manifest string) {
		check(t, map[string]string{"Project.toml": project, "Manifest.toml": manifest})
	})
}

func FuzzJuliaCompat(f *testing.F) {
	for _, s := range []string{"1.6 - 1.8, ~1", "^0.0.3", "≥ 1, <2", "=v1.2", "1.6.1-rc1", "*", "9999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		if ranges, ok := recipe.JuliaRange(spec); ok && !regexp.MustCompile(`^(\[\d+\.\d+\.\d+, (\d+\.\d+\.\d+|∞)\)( or |$))+$`).MatchString(ranges) {
			t.Errorf("%q is %q", spec, ranges)
		}
	})
}

func FuzzNix(f *testing.F) {
	for _, s := range []string{"{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }", "\"${./injected}\" + ''''${a} ''\\n ${ \"}\" }''", "/* # */ ./injected", "\"\\", "''", "}}{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(recipe.NixCode(text)) > len(text) {
			t.Error("there is more code than text")
		}
		_ = recipe.NixNamesFiles(text)
		if len(text)%16 == 0 { // reading a whole repository takes longer
			check(t, map[string]string{"default.nix": text, "binder/flake.nix": text})
		}
	})
}
