package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func TestParseApt(t *testing.T) {
	for line, want := range map[string]string{ // "" is refused
		"gfortran": "gfortran", "unp  # c": "unp", " 0ad ": "0ad", "g++": "g++", "libfoo=1.2": "libfoo=1.2", "libstdc++-12-dev": "libstdc++-12-dev",
		"foo:i386": "foo:i386", "foo/bookworm": "foo/bookworm", "foo/bookworm-backports": "foo/bookworm-backports", "foo:amd64=1:2.3~rc1-4+b1": "foo:amd64=1:2.3~rc1-4+b1",
		"foo bar": "", "foo; id": "", "foo;id": "", "Foo": "", "_x": "", "foo-": "", "foo=": "", "$(id)": "", "`id`": "", "--yes": "", "-o=x": "", "foo=1;id": "",
		"foo\x00": "", "foo|bar": "", "foo,bar": "", "foo*": "", "foo^": "", "^foo": "", "f": "", "foo=1 bar": "", "foo@1": "", "é": "", "a/b/c": "", "foo=$HOME": "",
	} {
		have, err := recipe.ParseApt("apt.txt", "# x\n\n"+line+"\n")
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was taken: %+v", line, have)
		case want != "" && (err != nil || len(have) != 1 || have[0].Spec != want || have[0].From != (recipe.Location{File: "apt.txt", Line: 3})):
			t.Errorf("%q gives %+v, %v", line, have, err)
		}
	}
	p, err := recipe.ParseApt("apt.txt", "foo:amd64=1.2\nlibpython3.11/sid\n")
	if err != nil || p[0].Name != "foo" || p[1].Name != "libpython3.11" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestRequirements gives each line alone: what is installed and when. The first
// cases are repo2docker's.
func TestRequirements(t *testing.T) {
	const early, late = "wheels: requirements.txt", "pip: requirements.txt"
	for line, c := range map[string]struct {
		want  string // of the input; "" is refused
		stage recipe.Stage
		first string // the first step after Jupyter
	}{
		"-e .":                                {"-e .", recipe.StageContent, late},
		"--editable=.":                        {"-e .", recipe.StageContent, late},
		"file://subdir":                       {"file://subdir", recipe.StageContent, late},
		"file://./subdir":                     {"file://./subdir", recipe.StageContent, late},
		"./x":                                 {"./x", recipe.StageContent, late},
		"../x":                                {},
		"/etc":                                {},
		"-e ../x":                             {},
		"-e .[dev]":                           {"-e .[dev]", recipe.StageContent, late},
		"/home/jovyan/pkg":                    {"/home/jovyan/pkg", recipe.StageContent, late},
		"file:///etc/x":                       {},
		"libs/foo":                            {"libs/foo", recipe.StageContent, late},
		"foo-1.0.whl":                         {"foo-1.0.whl", recipe.StageContent, late},
		"foo @ file:./foo":                    {"foo @ file:./foo", recipe.StageContent, late},
		"--find-links wheels/":                {"--find-links wheels/\nnumpy", recipe.StageContent, late},
		"-e":                                  {},
		"--unrecognized":                      {},
		"numpy":                               {"numpy", recipe.StageBinary, early},
		"numpy == 1.2 , < 2":                  {"numpy==1.2,<2", recipe.StageBinary, early},
		"a[x, y]>=1; sys_platform == 'linux'": {"a[x,y]>=1; sys_platform == 'linux'", recipe.StageBinary, early},
		"git+https://example.org/a#egg=b":     {"git+https://example.org/a#egg=b", recipe.StageEnvironment, late},
		"-e git+https://example.org/a":        {"-e git+https://example.org/a", recipe.StageEnvironment, late},
		"a @ https://example.org/a-1-py3-none-any.whl":  {"a @ https://example.org/a-1-py3-none-any.whl", recipe.StageBinary, early},
		"https://example.org/a.tar.gz":                  {"https://example.org/a.tar.gz", recipe.StageEnvironment, late},
		"numpy --hash=sha256:00 \\\n  --hash=sha256:11": {"numpy --hash=sha256:00 --hash=sha256:11", recipe.StageBinary, early},
		"num\\\npy":                    {"numpy", recipe.StageBinary, early},
		"numpy # -e .":                 {"numpy", recipe.StageBinary, early},
		"numpy=1.2":                    {},
		"numpy 1.2":                    {},
		"numpy --user":                 {},
		"import numpy":                 {},
		"<!DOCTYPE html>":              {},
		"-r https://example.org/r.txt": {},
		"-r ../r.txt":                  {},
		"-c /etc/passwd":               {},
		"-r missing.txt":               {},
		"-r requirements.txt":          {},
		"--trusted-host a;id":          {},
	} {
		t.Run(line, func(t *testing.T) {
			text := line + "\n"
			if strings.HasPrefix(line, "--find-links") {
				text += "numpy\n"
			}
			files := map[string]string{"requirements.txt": text}
			if c.want == "" {
				if e := refused(t, repo(files)); e.File != "requirements.txt" || e.Line != 1 {
					t.Errorf("%+v", e)
				}
				return
			}
			r := read(t, files)
			if diff := cmp.Diff(c.want+"\n", input(t, r, late, "requirements.txt")); diff != "" {
				t.Error(diff)
			}
			if r.Steps[1].Name != c.first || r.Steps[1].Stage != c.stage {
				t.Errorf("%q in stage %s; want %q in %s", r.Steps[1].Name, r.Steps[1].Stage, c.first, c.stage)
			}
		})
	}
}

func TestRequirementFiles(t *testing.T) {
	r := read(t, map[string]string{
		"binder/requirements.txt": "--pre\n--index-url=https://example.org/simple\n--trusted-host example.org\n--prefer-binary\n-r more/a.txt\nlast\n",
		"binder/more/a.txt":       "first\n-cb.txt\n",
		"binder/more/b.txt":       "numpy < 2 # not yet\n-r c.txt\n",
		"binder/more/c.txt":       "pandas<3\n",
	})
	const late = "pip: binder/requirements.txt"
	if diff := cmp.Diff("--index-url https://example.org/simple\nfirst\nlast\n", input(t, r, late, "requirements.txt")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("numpy<2\npandas<3\n", input(t, r, late, "constraints.txt")); diff != "" {
		t.Error(diff)
	}
	script := r.Steps[2].Script
	for _, want := range []string{"--prerelease allow", "--allow-insecure-host 'example.org'", "--constraint /run/binnacle/in/constraints.txt", "--index-strategy unsafe-best-match"} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
	if diff := cmp.Diff([]recipe.Package{
		{Manager: "pip", Name: "first", Spec: "first", From: recipe.Location{File: "binder/more/a.txt", Line: 1}},
		{Manager: "pip", Name: "last", Spec: "last", From: recipe.Location{File: "binder/requirements.txt", Line: 6}},
	}, r.Packages()); diff != "" {
		t.Error(diff)
	}
	for name, files := range map[string]map[string]string{
		"circle": {"requirements.txt": "a\n-r b.txt", "b.txt": "\n-r requirements.txt"},
		"deep": {
			"requirements.txt": "-r 1", "1": "-r 2", "2": "-r 3", "3": "-r 4", "4": "-r 5", "5": "-r 6", "6": "-r 7", "7": "-r 8", "8": "-r 9", "9": "-r 10", "10": "-r 11", "11": "a",
		},
		"wide": {
			"requirements.txt": strings.Repeat("-r 1\n", 1000), "1": strings.Repeat("-r 2\n", 1000), "2": strings.Repeat("-r 3\n", 1000), "3": strings.Repeat("# c\n", 200_000),
		},
		"many": {"requirements.txt": "-r a\n-r a", "a": "-r b\n-r b", "b": strings.Repeat("x\n", 9000)},
	} {
		t.Run(name, func(t *testing.T) {
			if e := refused(t, repo(files)); e.Line == 0 {
				t.Errorf("%+v", e)
			}
		})
	}
	// repo2docker reads this, too.
	r = read(t, map[string]string{"requirements.txt": utf16("# Rică nu știa să zică râu, rățușcă, rămurică.\nthere\n")})
	if have := input(t, r, "pip: requirements.txt", "requirements.txt"); have != "there\n" {
		t.Errorf("%q", have)
	}
	if r := read(t, map[string]string{"requirements.txt": "# caf\xe9\nthere\n"}); len(r.Packages()) != 1 {
		t.Error("Latin-1 is not read")
	}
}

// TestPython is the table of facts, with the better rule: a bound is tested
// with the newest patch release, and the default stays where it fits.
func TestPython(t *testing.T) {
	for _, c := range []struct {
		runtime, requires string
		fallback          string // the hub's default
		want              string // "!" is an error
	}{
		{"", "", "", ""},
		{"", "", "3.12", "3.12"},
		{"", ">=3.10", "", ""},
		{"", ">=3.10", "3.10", "3.10"},
		{"", ">=3.12", "3.10", "3.14"},
		{"", ">=3.10.5", "3.10", "3.10"},
		{"", "<3.10", "3.10", "3.9"},
		{"", ">=3.11,<3.13", "3.10", "3.12"},
		{"", ">=3.11,<3.13", "", "3.12"},
		{"", "==3.11.*", "", "3.11"},
		{"", "==3.11", "", "3.11"},
		{"", "==3.11.4", "", "3.11.4"},
		{"", "===3.12.1", "", "3.12.1"},
		{"", "~=3.10", "3.10", "3.10"},
		{"", "~=3.11", "3.10", "3.14"},
		{"", "~=3.11.2", "3.10", "3.11"},
		{"", ">=3.15", "", "!"},
		{"", "<3.9", "", "3.8"},
		{"", "newest", "", "!"},
		{"", "==3.7.1", "", "3.7.1"},
		{"", "<3.8,>=3.4", "", "3.7"},
		{"", "==3.4.*", "", "!"},
		{"python-3.9", ">=3.10", "", "!"},
		{"python-3", ">=3.12", "3.10", "3.14"},
		{"python-3.12", ">=3.10", "", "3.12"},
		{"python-3.11.4", "", "", "3.11.4"},
		{"python-3.11.4", ">=3.11.5", "", "!"},
		{"python-2", "", "", "2.7"},
		{"python-2.7", "", "", "2.7"},
		{"python-3.6.8", "", "3.12", "3.6.8"},
		{"python-3.7", ">=3.8", "", "!"},
		{"python-3.4", "", "", "!"},
		{"python-2.6", "", "", "!"},
		{"python-3.99", "", "", "!"},
		{"python-3.0", "", "", "!"},
		{"python-4.10", "", "", "!"},
		{"python-4", "", "", "!"},
		{"python-3.9.7", "", "", "3.9.7"},
		{"python-3.13\n", "", "", "3.13"},
		{"python-3.12-2025-06-22", "", "", "3.12"},
		{"python-2025-06-22", "", "3.11", "3.11"},
		{"python-3.12-2025-06-31", "", "", "!"},
		{"abc-001", "", "", "!"},
		{"abc-2025-06-22", "", "", "!"},
		{"\n", "", "", "!"},
		{"abc", "", "", "!"},
		{"python-3.12\n# no", "", "", "!"},
		{"python-3.12; id", "", "", "!"},
		{"3.12", "", "", "!"},
	} {
		files := map[string]string{}
		if c.runtime != "" {
			files["runtime.txt"] = c.runtime
		}
		if c.requires != "" {
			files["pyproject.toml"] = "[project]\nrequires-python = \"" + c.requires + "\"\n"
		}
		r, err := recipe.Read(repo(files), recipe.Options{DefaultPython: c.fallback})
		if c.want == "!" {
			if e := refused(t, repo(files)); e.Line == 0 {
				t.Errorf("%+v: no line in %+v", c, e)
			}
			continue
		}
		if err != nil || r.Python.Value != c.want || r.Python.Why == "" {
			t.Errorf("%+v gives %+v, %v", c, r.Python, err)
		}
	}
}
