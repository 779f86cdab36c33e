package recipe_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestExcerpt has whole outputs of the real tools, as they were captured (but for
// names of machines and directories), and what is shown of each.
func TestExcerpt(t *testing.T) {
	python := map[string]string{"requirements.txt": "pandas==2.2.3\nnumpy<1.20\n./pkg\n", "postBuild": "#!/bin/bash\n", "apt.txt": "tree=99\n"}
	js := map[string]string{"package.json": "{\n \"dependencies\": {\n  \"dayjs\": \"99.0.0\",\n  \"left-pad\": \"1\",\n  \"@nobody/not-there\": \"1\"\n }\n}", "package-lock.json": emptyLock}
	mod := map[string]string{"go.mod": "module x\n\ngo 1.23\n\nrequire github.com/dustin/go-humanize v1.99.0\n", "go.sum": "x\n"}
	rust := map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n[dependencies]\nitoa = \"99\"\n", "Cargo.lock": "version = 3\n"}
	r := map[string]string{"install.R": "install.packages('knots')\n"}
	const pip, npm = "pip: requirements.txt", "npm: package-lock.json"
	for name, c := range map[string]struct {
		files map[string]string
		step  string
		says  []string // in message or hint
		not   string   // in no line of the excerpt
	}{
		"uv-conflict":         {python, pip, []string{"together", "numpy<1.20"}, "Using CPython"},
		"uv-header":           {python, pip, []string{"libsuitesparse-dev into apt.txt"}, "gcc -W"},
		"uv-compile":          {python, pip, []string{"could not be built", "too many arguments to function"}, "warning:"},
		"uv-fortran":          {python, pip, []string{"gfortran is missing", "Write gfortran into apt.txt"}, "g95 -V"},
		"uv-rust":             {python, pip, []string{"rustc is missing", "rustc and cargo into apt.txt"}, "retry package"},
		"uv-mysql":            {python, pip, []string{"pkg-config", "default-libmysqlclient-dev"}, "setuptools/build_meta.py"},
		"uv-pg":               {python, pip, []string{"pg_config is missing", "Write libpq-dev into apt.txt"}, "License"},
		"pip-resolve":         {python, "postBuild", []string{"postBuild failed", "numpy<1.20 and pandas==2.2.3"}, "━"},
		"postbuild-traceback": {python, "postBuild", []string{"postBuild failed", "settings.json cannot be read"}, "Collecting"},
		"postbuild-command":   {python, "postBuild", []string{"command jupyter is not installed"}, ""},
		"apt-version":         {python, "apt: apt.txt", []string{"version asked for of tree"}, "Reading package lists"},
		"R-header":            {r, "R packages: install.R", []string{"header hdf5.h is missing", "libhdf5-dev"}, "** libs"},
		"npm-noversion":       {js, npm, []string{"version asked for of dayjs does not exist"}, "complete log"},
		"npm-nopkg":           {js, npm, []string{"no package called @nobody/not-there"}, "tarball"},
		"npm-stale":           {js, npm, []string{"do not agree", "Missing: left-pad@1.3.0"}, "--workspaces"},
		"npm-script":          {js, npm, []string{"Cannot find module 'nope'"}, "node:internal/process"},
		"go-noversion":        {mod, "go: go.mod", []string{"github.com/dustin/go-humanize could not be had"}, ""},
		"cargo-noversion":     {rust, "cargo: Cargo.lock", []string{"No version of itoa fits"}, "Updating"},
		"cargo-stale":         {rust, "cargo: Cargo.lock", []string{"do not agree"}, "edition"},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := os.ReadFile(filepath.Join("testdata/failures", name+".log"))
			if err != nil {
				t.Fatal(err)
			}
			e := recipe.Explain(read(t, c.files), c.step, strings.Split(string(log), "\n"))
			for _, want := range c.says {
				if !strings.Contains(e.Message+"\n"+e.Hint, want) {
					t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
				}
			}
			text := strings.Join(e.Excerpt, "\n") + "\n"
			if lines := len(e.Excerpt) - strings.Count("\n"+text, "\n…\n"); lines < 1 || lines > 10 {
				t.Errorf("%d lines", lines)
			}
			if c.not != "" && strings.Contains(text, c.not) {
				t.Errorf("it has %q", c.not)
			}
			golden(t, filepath.Join("testdata/failures", name+".excerpt"), text)
		})
	}
}

// golden compares with a file of testdata, or writes it with -update. No file is an
// empty text.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		err := os.Remove(file)
		if got != "" {
			err = os.WriteFile(file, []byte(got), 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestExcerptLines are made up: what no tool shall bring into an excerpt.
func TestExcerptLines(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"nothing":            {"", ""},
		"only progress":      {"Collecting numpy\n   ━━━━━━━━━━ 1.2/3.4 MB 5.0 MB/s eta 0:00:01\n", ""},
		"colours":            {"\x1b[31merror\x1b[0m: \x1b]0;title\x07no\n", "error: no"},
		"written over":       {" 10%\r 50%\rerror: no\n", "error: no"},
		"twice":              {"error: try 1 failed\nerror: try 2 failed\nerror: try 3 failed\nso it ends\n", "error: try 1 failed\nso it ends"},
		"a terminal's":       {"error: a\x08b\u202ec\u009bd\te\n", "error: abcd e"},
		"long":               {"error: " + strings.Repeat("x", 500) + "\n", "error: " + strings.Repeat("x", 233) + "…"},
		"indented":           {"    error: no\n      | code\n", "error: no\n  | code"},
		"last words":         {"one\ntwo\n\nDownloading x\nthree\n", "one\ntwo\nthree"},
		"password":           {"error: https://me:s3cret@example.org/x?access_token=s3cret&a=1 Bearer s3cret-s3cret failed\n", "error: https://…@example.org/x?access_token=…&a=1 Bearer … failed"},
		"far":                {"error: first\na\nb\nc\nd\ne\nf\ng\nh\nerror: last\n", "error: first\na\nb\nc\n…\nerror: last"},
		"one between":        {"error: first\na\nb\nc\nd\nerror: last\n", "error: first\na\nb\nc\nd\nerror: last"},
		"traceback, not its": {"Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\n  File \"b.py\", line 2, in f\n    g()\n    ^^^\nKeyError: 'x'\n", "  File \"b.py\", line 2, in f\n    g()\n    ^^^\nKeyError: 'x'"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, strings.Join(recipe.Excerpt(strings.Split(c.log, "\n")), "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := strings.Join(recipe.LastWords([]string{"Collecting x", "a", "", "\x1b[1mb", " 10% ━━━━━"}), "\n"); got != "a\nb" {
		t.Errorf("last words %q", got)
	}
}
