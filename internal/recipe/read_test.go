package recipe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// repo is a repository of regular files.
func repo(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return out
}

func read(t *testing.T, files map[string]string) recipe.Recipe {
	t.Helper()
	r, err := recipe.Read(repo(files), recipe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// refused reads what must fail and gives the error.
func refused(t *testing.T, fsys fs.FS) *binnacle.Error {
	t.Helper()
	r, err := recipe.Read(fsys, recipe.Options{})
	e, ok := errors.AsType[*binnacle.Error](err)
	if !ok || e.Code != binnacle.CodeBuildFailed || e.Message == "" || e.Hint == "" {
		t.Fatalf("Read = %+v, %#v; want build_failed with a hint", r, err)
	}
	return e
}

func input(t *testing.T, r recipe.Recipe, step, name string) string {
	t.Helper()
	for _, s := range r.Steps {
		for _, in := range s.Inputs {
			if s.Name == step && in.Name == name {
				return string(in.Content)
			}
		}
		for _, l := range []*recipe.Lock{s.Lock, s.Build} {
			if l == nil || l.Name != step {
				continue
			}
			for _, in := range l.Inputs {
				if in.Name == name {
					return string(in.Content)
				}
			}
		}
	}
	t.Fatalf("no step %q with an input %q", step, name)
	return ""
}

func steps(r recipe.Recipe) []string {
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return names
}

func notes(r recipe.Recipe) string {
	var all strings.Builder
	for _, n := range r.Notes {
		all.WriteString(n.File + ": " + n.Message + "\n")
	}
	return all.String()
}

// TestExamples compares the recipe of every example with the kept one, and where it
// differs the one for linux/arm64, too. The programs and locks that we embed are
// left out: they are ours to update.
func TestExamples(t *testing.T) {
	dirs, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{"vscode": "vscode", "desktop": "desktop"} // as their links do
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		t.Run(d.Name(), func(t *testing.T) {
			text := map[string]string{}
			for _, arch := range []string{"amd64", "arm64"} {
				r, err := recipe.Read(os.DirFS(filepath.Join("../../examples", d.Name())), recipe.Options{Interface: asked[d.Name()], Arch: arch})
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.MarshalIndent(readable(r), "", " ")
				if err != nil {
					t.Fatal(err)
				}
				text[arch] = string(b) + "\n"
			}
			if text["arm64"] == text["amd64"] {
				text["arm64"] = "" // there is no file
			}
			golden(t, filepath.Join("testdata/golden", d.Name()+".json"), text["amd64"])
			golden(t, filepath.Join("testdata/golden", d.Name()+".arm64.json"), text["arm64"])
		})
	}
}

// TestCUDA: on a base of NVIDIA's, chosen as docs/operate.md tells, the recipe is for the
// Python of its Ubuntu, on either processor. Nothing else of it depends on the base.
func TestCUDA(t *testing.T) {
	for _, name := range []string{"requirements", "conda", "conda-lock"} {
		for _, arch := range []string{"amd64", "arm64"} {
			t.Run(name+"/"+arch, func(t *testing.T) {
				r, err := recipe.Read(os.DirFS(filepath.Join("../../examples", name)), recipe.Options{BasePython: "3.12", Arch: arch})
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.MarshalIndent(readable(r), "", " ")
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata/cuda", name+"."+arch+".json"), string(b)+"\n")
			})
		}
	}
}

// TestKindsAreShown: each has an example, and a page that leads to it; and each page
// has one.
func TestKindsAreShown(t *testing.T) {
	pages, err := filepath.Glob("../../docs/files/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var docs strings.Builder
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		docs.Write(b)
		shown := regexp.MustCompile("`examples/([a-z0-9-]+)`").FindAllStringSubmatch(string(b), -1)
		if len(shown) == 0 && filepath.Base(page) != "README.md" {
			t.Errorf("%s names no example", page)
		}
		for _, m := range shown {
			if _, err := os.Stat(filepath.Join("../../examples", m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	golden, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(golden) < 40 {
		t.Fatalf("%d examples, %v", len(golden), err)
	}
	shown := map[string]bool{}
	for _, file := range golden {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r recipe.Recipe
		if err := json.Unmarshal(bytes.ReplaceAll(b, []byte(`"steps"`), []byte(`"-"`)), &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); strings.Contains(docs.String(), "examples/"+name) {
			shown[r.Kind] = true
		}
	}
	for _, kind := range recipe.Kinds() {
		if !shown[kind] {
			t.Errorf("no page of docs/files names an example of the kind %s", kind)
		}
	}
}

// readable shows scripts as lines and inputs as text.
func readable(r recipe.Recipe) any {
	type lock struct {
		*recipe.Lock
		Script []string          `json:"script"`
		Inputs map[string]string `json:"inputs,omitempty"`
	}
	type step struct {
		recipe.Step
		Script []string          `json:"script"`
		Inputs map[string]string `json:"inputs,omitempty"`
		Lock   *lock             `json:"lock,omitempty"`
		Build  *lock             `json:"build,omitempty"`
	}
	lines := func(script string) []string { return strings.Split(strings.TrimSuffix(script, "\n"), "\n") }
	texts := func(inputs []recipe.Input) map[string]string {
		out := map[string]string{}
		for _, in := range inputs {
			out[in.Name] = string(in.Content)
			for _, ours := range [][]byte{recipe.ServerLock, recipe.CompileProgram, recipe.CondaProgram, recipe.CranProgram, recipe.RProgram, recipe.RProfile, recipe.DenoLock, recipe.ProxyLock, recipe.DesktopLock, recipe.NodeLock} {
				if bytes.Equal(in.Content, ours) {
					out[in.Name] = "(embedded)"
				}
			}
		}
		return out
	}
	out := struct {
		recipe.Recipe
		Steps []step `json:"steps,omitempty"`
	}{Recipe: r}
	for _, s := range r.Steps {
		v := step{Step: s, Script: lines(s.Script), Inputs: texts(s.Inputs)}
		if s.Lock != nil {
			v.Lock = &lock{s.Lock, lines(s.Lock.Script), texts(s.Lock.Inputs)}
		}
		if s.Build != nil {
			v.Build = &lock{s.Build, lines(s.Build.Script), texts(s.Build.Inputs)}
		}
		out.Steps = append(out.Steps, v)
	}
	return out
}

func TestPrecedence(t *testing.T) {
	const environment, pyproject = "dependencies: [numpy]\n", "[project]\nname = \"a\"\n[build-system]\n"
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		steps []string
		notes []string // parts of them
	}{
		"nothing":               {nil, "python", []string{"Python and Jupyter"}, nil},
		"Dockerfile wins":       {map[string]string{"Dockerfile": "FROM a\n", "apt.txt": "git\n", "requirements.txt": "a\n", "postBuild": "#!/bin/sh\n"}, "dockerfile", nil, []string{"apt.txt, postBuild", "requirements.txt"}},
		"Dockerfile in binder":  {map[string]string{"binder/Dockerfile": "FROM a\n"}, "dockerfile", nil, nil},
		"root Dockerfile":       {map[string]string{"binder/apt.txt": "git\n", "Dockerfile": "FROM andrewosh/binder-base\n"}, "python", []string{"Python and Jupyter", "apt: binder/apt.txt"}, []string{"passed over in the root: Dockerfile"}},
		"environment.yml wins":  {map[string]string{"environment.yml": environment, "requirements.txt": "a\n", "runtime.txt": "python-3.11", "Pipfile": ""}, "conda", []string{"conda: environment.yml", "Jupyter"}, []string{"requirements.txt is passed over", "runtime.txt is passed over", "Pipfile is passed over"}},
		"environment.yaml":      {map[string]string{"environment.yaml": environment}, "conda", []string{"conda: environment.yaml", "Jupyter"}, nil},
		"both environment":      {map[string]string{"environment.yml": environment, "environment.yaml": environment}, "conda", []string{"conda: environment.yml", "Jupyter"}, []string{"environment.yaml is passed over, because there is an environment.yml. Keep one of them."}},
		"runtime beside conda":  {map[string]string{"environment.yml": environment, "runtime.txt": "python-3.9"}, "conda", []string{"conda: environment.yml", "Jupyter"}, []string{"Write python=3.9 in environment.yml"}},
		"included by conda":     {map[string]string{"environment.yml": "dependencies:\n- pip:\n  - -r requirements.txt\n", "requirements.txt": "six\n"}, "conda", []string{"conda: environment.yml", "Jupyter", "pip: environment.yml"}, []string{"!requirements.txt is passed over"}},
		"after --pre":           {map[string]string{"requirements.txt": "six\n--pre pandas\n"}, "python", []string{"Python and Jupyter", "wheels: requirements.txt", "pip: requirements.txt"}, []string{`"pandas" is passed over: nothing counts that follows --pre`}},
		"other letters":         {map[string]string{"install.r": "", "environment.YML": "", "Postbuild": ""}, "python", []string{"Python and Jupyter"}, []string{"the name is install.R", "the name is environment.yml", "the name is postBuild"}},
		"Julia, R and Python":   {map[string]string{"Project.toml": "", "runtime.txt": "r-4.4-2025-01-01", "environment.yml": environment, "requirements.txt": "a\n", "setup.py": ""}, "julia", []string{"conda: environment.yml", "Jupyter", "Julia", "Julia's kernel", "pip: requirements.txt", "Julia packages: Project.toml", "pip: the repository itself"}, []string{"R is not installed, because there is a Project.toml", "!requirements.txt is passed over"}},
		"Pipfile and R":         {map[string]string{"Pipfile": "[packages]\na = \"*\"\n", "runtime.txt": "r-4.4-2025-01-01"}, "r", nil, []string{"Pipfile is there"}},
		"Nix with the rest":     {map[string]string{"default.nix": "{}", "apt.txt": "tree\n", "environment.yml": environment, "requirements.txt": "a\n", "postBuild": "#!/bin/sh\n"}, "nix", []string{"Python and Jupyter", "Nix", "apt: apt.txt", "Nix packages: default.nix", "postBuild"}, []string{"environment.yml is passed over", "requirements.txt is passed over"}},
		"everything":            {map[string]string{"requirements.txt": "a\n", "apt.txt": "git\n", "postBuild": "#!/bin/sh\n", "pyproject.toml": pyproject}, "python", []string{"Python and Jupyter", "apt: apt.txt", "wheels: requirements.txt", "pip: requirements.txt", "pip: the repository itself", "postBuild"}, nil},
		"setup.py":              {map[string]string{"setup.py": ""}, "python", []string{"Python and Jupyter", "pip: the repository itself"}, nil},
		"setup.py with binder":  {map[string]string{"setup.py": "", "binder/runtime.txt": "python-3.12"}, "python", []string{"Python and Jupyter"}, []string{"setup.py"}},
		"no build-system":       {map[string]string{"pyproject.toml": "[project]\nname = \"a\"\n"}, "python", []string{"Python and Jupyter"}, []string{"not installed"}},
		"pyproject of tools":    {map[string]string{"pyproject.toml": "[tool.ruff]\n"}, "python", []string{"Python and Jupyter"}, []string{"no [project]"}},
		"hints":                 {map[string]string{"uv.lock": "", "postbuild": ""}, "python", []string{"Python and Jupyter"}, []string{"uv.lock", "postBuild"}},
		"requirements3.txt":     {map[string]string{"requirements.txt": "a", "requirements3.txt": "b"}, "python", []string{"Python and Jupyter", "wheels: requirements.txt", "pip: requirements.txt"}, []string{"requirements3.txt"}},
		"directories":           {map[string]string{"requirements.txt/a": "", "start/b": "", "environment.yml/c": ""}, "python", []string{"Python and Jupyter"}, nil},
		"empty files":           {map[string]string{"requirements.txt": "# none\n", "apt.txt": "\n", "environment.txt": ""}, "python", []string{"Python and Jupyter"}, []string{"names no package"}},
		"root is for others":    {map[string]string{".binder/requirements.txt": "a", "environment.yml": "[", "postBuild": "x"}, "python", []string{"Python and Jupyter", "wheels: .binder/requirements.txt", "pip: .binder/requirements.txt"}, []string{"environment.yml, postBuild"}},
		"dependencies declared": {map[string]string{"pyproject.toml": "[project]\nname = \"a\"\ndependencies = [\"numpy >= 2\"]\n[build-system]\n"}, "python", []string{"Python and Jupyter", "wheels: pyproject.toml", "pip: pyproject.toml", "pip: the repository itself"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if r.Kind != c.kind {
				t.Errorf("kind %s, want %s", r.Kind, c.kind)
			}
			if diff := cmp.Diff(c.steps, steps(r)); diff != "" && r.Kind != "r" {
				t.Errorf("steps (-want +have):\n%s", diff)
			}
			var all strings.Builder
			for _, n := range r.Notes {
				all.WriteString(n.Message + " " + n.Hint + "\n")
			}
			for _, want := range c.notes {
				if without, not := strings.CutPrefix(want, "!"); strings.Contains(all.String(), without) == not {
					t.Errorf("notes with or without %q:\n%s", want, all.String())
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	large := strings.Repeat("# a comment\n", 1_000_000)
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"both binder directories": {map[string]string{"binder/apt.txt": "", ".binder/apt.txt": ""}, "", 0, "both"},
		"REQUIRE":                 {map[string]string{"REQUIRE": ""}, "REQUIRE", 0, "before Julia 1.0"},
		"Pipfile.lock":            {map[string]string{"Pipfile.lock": ""}, "Pipfile.lock", 1, "pipenv"},
		"old binder":              {map[string]string{"Dockerfile": "# x\n\nFROM andrewosh/binder-base\n"}, "Dockerfile", 3, "2017"},
		"empty Dockerfile":        {map[string]string{"Dockerfile": "\n"}, "Dockerfile", 1, "empty"},
		"shell in apt.txt":        {map[string]string{"apt.txt": "git\nfoo; id\n"}, "apt.txt", 2, `"foo; id"`},
		"too many packages":       {map[string]string{"apt.txt": strings.Repeat("abc\n", 2001)}, "apt.txt", 2001, "2,000"},
		"10 MB requirements.txt":  {map[string]string{"requirements.txt": large}, "requirements.txt", 0, "larger than 1024 KiB"},
		"binary requirements.txt": {map[string]string{"requirements.txt": "\x7fELF\x00"}, "requirements.txt", 0, "zero byte"},
		"CRLF postBuild":          {map[string]string{"postBuild": "#!/bin/bash\r\necho\r\n"}, "postBuild", 1, "Windows"},
		"CRLF below":              {map[string]string{"postBuild": "#!/usr/bin/env bash\necho\necho\r\n"}, "postBuild", 3, "Windows"},
		"CRLF without shebang":    {map[string]string{"binder/start": "echo\r\n"}, "binder/start", 1, "Windows"},
		"mark before shebang":     {map[string]string{"start": "\xef\xbb\xbf#!/bin/sh\n"}, "start", 1, "byte order mark"},
		"bad ignore pattern":      {map[string]string{".dockerignore": "data\n[\n"}, ".dockerignore", 2, "pattern"},
		"bad TOML":                {map[string]string{"pyproject.toml": "[project]\nname = \n"}, "pyproject.toml", 2, "can't be read"},
		"bad YAML":                {map[string]string{"environment.yml": "a: b\n\tc: d\n"}, "environment.yml", 2, "YAML"},
		"list in environment.yml": {map[string]string{"environment.yml": "# x\n- numpy\n"}, "environment.yml", 2, "mapping"},
		"text in environment.yml": {map[string]string{"environment.yml": "numpy\n"}, "environment.yml", 1, "mapping"},
		"odd dependency":          {map[string]string{"environment.yml": "dependencies:\n  - a\n  - {conda: b}\n"}, "environment.yml", 3, "neither"},
		"dependencies no list":    {map[string]string{"environment.yml": "name: x\ndependencies: numpy\n"}, "environment.yml", 2, "not a list"},
		"local channel":           {map[string]string{"environment.yml": "channels: ['file:///etc']\n"}, "environment.yml", 1, "channel"},
		"password in channel":     {map[string]string{"environment.yml": "channels: ['https://a:b@example.org/c']\n"}, "environment.yml", 1, "channel"},
		"conda Python 2.6":        {map[string]string{"environment.yml": "dependencies:\n- python=2.6\n"}, "environment.yml", 2, "can't run"},
		"conda's list":            {map[string]string{"requirements.txt": "# platform: linux-64\n_libgcc_mutex=0.1=main\n"}, "requirements.txt", 2, "conda's, not pip's"},
		"conda's pip freeze":      {map[string]string{"requirements.txt": "certifi @ file:///croot/certifi_1665076670883/work/certifi\n"}, "requirements.txt", 1, "is outside of the repository"},
		"variables no mapping":    {map[string]string{"environment.yml": "variables:\n- A=b\n"}, "environment.yml", 1, "with a value each"},
		"pip in environment.yml":  {map[string]string{"environment.yml": "dependencies:\n- pip:\n  - a\n  - b c\n"}, "environment.yml", 4, "not a requirement"},
		"many aliases":            {map[string]string{"environment.yml": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\ndependencies: [*c,*c,*c,*c,*c,*c]\n"}, "environment.yml", 3, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(c.files))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
			if e.Hint == "" || strings.HasPrefix(name, "CRLF") && !strings.Contains(e.Hint, "dos2unix") || strings.HasPrefix(name, "conda's") && !strings.Contains(e.Hint, "pip list --format=freeze") {
				t.Errorf("no help: %q", e.Hint)
			}
			if len(e.Message)+len(e.Hint) > 600 || strings.ContainsAny(e.Message, "\x00\x1b\n") {
				t.Errorf("nothing to show people: %q", e.Message)
			}
		})
	}
}

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

func TestLinks(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	}
	for name, fsys := range map[string]fstest.MapFS{
		"absolute":      {"requirements.txt": link("/etc/passwd")},
		"above":         {"binder/apt.txt": link("../../secret")},
		"directory":     {"binder": link("../other")},
		"circle":        {"runtime.txt": link("a"), "a": link("runtime.txt")},
		"above by link": {"a": link("."), "postBuild": link("a/../../x")},
	} {
		t.Run(name, func(t *testing.T) {
			if e := refused(t, fsys); !strings.Contains(e.Message, "symbolic link") {
				t.Error(e)
			}
		})
	}
	inside := fstest.MapFS{"binder": link("env"), "env/requirements.txt": link("../base.txt"), "base.txt": {Data: []byte("numpy")}}
	r, err := recipe.Read(inside, recipe.Options{})
	if err != nil || input(t, r, "pip: binder/requirements.txt", "requirements.txt") != "numpy\n" {
		t.Errorf("links inside: %v, %v", steps(r), err)
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "requirements.txt")); err != nil {
		t.Fatal(err)
	}
	if e := refused(t, os.DirFS(dir)); e.File != "requirements.txt" {
		t.Error(e)
	}
}

func TestScripts(t *testing.T) {
	r := read(t, map[string]string{"postBuild": "echo hello\n", "start": "#!/bin/sh\nexit\n", ".containerignore": "# c\n/data/\n!data/keep\n*.log\n"})
	post := r.Steps[len(r.Steps)-1]
	if !strings.Contains(post.Script, "bash ./'postBuild'") || !strings.Contains(notes(r), "bash does") || !strings.Contains(notes(r), `never runs "$@"`) || r.Start != "start" {
		t.Errorf("%s\n%s", post.Script, notes(r))
	}
	if diff := cmp.Diff([]string{"data", "!data/keep", "*.log", "!postBuild", "!start"}, r.Ignore); diff != "" {
		t.Error(diff)
	}
	binary := read(t, map[string]string{"binder/postBuild": "\x7fELF\x00" + strings.Repeat("x", 2<<20)})
	if post := binary.Steps[len(binary.Steps)-1]; !strings.Contains(post.Script, "\n./'binder/postBuild'\n") {
		t.Error(post.Script)
	}
}

// TestEnvironment has equal environments for what installs the same.
func TestEnvironment(t *testing.T) {
	base := read(t, map[string]string{"requirements.txt": "numpy==1.0\nrequests >=2 ; python_version<'4'\n"}).Environment()
	for name, c := range map[string]struct {
		files map[string]string
		same  bool
	}{
		"comments and blanks": {map[string]string{"requirements.txt": "# c\r\nnumpy == 1.0 # d\r\n\r\nrequests>= 2; python_version<'4'"}, true},
		"other place":         {map[string]string{"binder/requirements.txt": "numpy==1.0\nrequests>=2; python_version<'4'", "x.ipynb": "{}"}, true},
		"included":            {map[string]string{"requirements.txt": "-r a/b.txt", "a/b.txt": "numpy==1.0\n-r c.txt", "a/c.txt": "requests>=2; python_version<'4'"}, true},
		"UTF-16":              {map[string]string{"requirements.txt": utf16("numpy==1.0\nrequests>=2; python_version<'4'\n")}, true},
		"postBuild too":       {map[string]string{"requirements.txt": "numpy==1.0\nrequests>=2; python_version<'4'", "postBuild": "#!/bin/sh\n"}, true},
		"other version":       {map[string]string{"requirements.txt": "numpy==1.1\nrequests>=2; python_version<'4'"}, false},
		"apt too":             {map[string]string{"requirements.txt": "numpy==1.0\nrequests>=2; python_version<'4'", "apt.txt": "git"}, false},
		"other Python":        {map[string]string{"requirements.txt": "numpy==1.0\nrequests>=2; python_version<'4'", "runtime.txt": "python-3.12"}, false},
	} {
		if same := read(t, c.files).Environment() == base; same != c.same {
			t.Errorf("%s: same environment: %v, want %v", name, same, c.same)
		}
	}
	if a, b := read(t, map[string]string{"apt.txt": "a1\nb2\n"}), read(t, map[string]string{"apt.txt": "b2 # x\n\na1\na1"}); a.Environment() != b.Environment() {
		t.Error("the order of apt.txt matters")
	}
}

func utf16(s string) string {
	out := []byte{0xff, 0xfe}
	for _, r := range s {
		out = append(out, byte(r), byte(r>>8))
	}
	return string(out)
}

// TestNoSharedCacheWithCode: a step that runs code of the repository's choice
// must not write where others read.
func TestNoSharedCacheWithCode(t *testing.T) {
	for _, files := range []map[string]string{
		{"requirements.txt": "numpy\ngit+https://example.org/a\n-e git+https://example.org/b\nhttps://example.org/c.tar.gz\nd @ https://example.org/d.zip\n", "setup.py": "", "postBuild": "#!/bin/sh\n"},
		{"requirements.txt": "--no-binary :all:\nnumpy\n"},
		{"requirements.txt": "./local\n"},
		{"environment.yml": "dependencies: [python, {pip: [numpy]}]\n"},
		{"pixi.toml": "[workspace]\nchannels = ['conda-forge']\n[dependencies]\nnumpy = '*'\n[pypi-dependencies]\na = '*'\n"},
		{"conda-linux-64.lock": "@EXPLICIT\nhttps://example.org/a/linux-64/python-3.13.1-0.conda\n# pip b @ git+https://example.org/b\n"},
	} {
		tainted := false
		for _, s := range read(t, files).Steps {
			if strings.HasPrefix(s.Name, "apt") || len(s.Caches) == 0 {
				tainted = tainted || s.Stage != recipe.StageServer
				continue
			}
			if tainted || (slices.Contains(s.Tools, "uv") && !strings.Contains(s.Script, "--only-binary :all:")) || strings.Contains(s.Script, "UV_NO_CACHE") {
				t.Errorf("%q has a shared cache", s.Name)
			}
			if s.Build != nil && !strings.Contains(s.Build.Script, "--only-binary :all:") {
				t.Errorf("%q may build what it fetches", s.Build.Name)
			}
			if s.Lock == nil {
				continue
			}
			for _, in := range s.Lock.Inputs {
				if in.Name == "requirements.in" && strings.Contains(string(in.Content), "example.org") {
					t.Errorf("%q fetches what must be built: %s", s.Lock.Name, in.Content)
				}
			}
			if slices.Contains(s.Lock.Tools, "uv") && !strings.Contains(s.Lock.Script, "--only-binary :all:") {
				t.Errorf("%q may build what it resolves", s.Lock.Name)
			}
		}
	}
}

// TestServerLock: what every image gets is pinned, and comes from wherever the
// hub says.
func TestServerLock(t *testing.T) {
	var names []string
	for line := range strings.Lines(string(recipe.ServerLock)) {
		if strings.Contains(line, "://") || strings.HasPrefix(line, "--") {
			t.Errorf("the lock names a source: %s", line)
		}
		if name, _, ok := strings.Cut(line, "=="); ok && line[0] != ' ' {
			if !strings.HasSuffix(line, " \\\n") {
				t.Errorf("no hash follows %s", line)
			}
			names = append(names, name)
		}
	}
	if recipe.Pythons()[0] == "3.9" && !strings.Contains(string(recipe.ServerLock), "python_full_version < '3.10'") {
		t.Error("the lock is not for the oldest Python we offer: see --python-version of `make lock`")
	}
	for _, want := range []string{"jupyterlab", "notebook", "jupyter-server", "ipykernel", "ipywidgets", "jupyterhub", "pip", "setuptools", "wheel"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in the lock", want)
		}
	}
}

// TestPure: the package can't reach the network or start programs.
func TestPure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if slices.Contains([]string{"net", "net/http", "os/exec", "crypto/tls"}, dep) || strings.HasPrefix(dep, "github.com/binnacle-hub/binnacle/internal/") && !strings.HasSuffix(dep, "/recipe") {
			t.Errorf("it depends on %s", dep)
		}
	}
}

// TestLooksAtFixedNames: a repository may have millions of files.
func TestLooksAtFixedNames(t *testing.T) {
	c := &counting{FS: repo(map[string]string{"requirements.txt": "a", "data/x": ""})}
	if _, err := recipe.Read(c, recipe.Options{}); err != nil {
		t.Fatal(err)
	}
	if c.dirs > 0 || c.opened > 40 {
		t.Errorf("opened %d files and %d directories", c.opened, c.dirs)
	}
}

type counting struct {
	fs.FS
	opened, dirs int
}

func (c *counting) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err == nil {
		c.opened++
	}
	if _, ok := f.(fs.ReadDirFile); ok {
		c.dirs++
	}
	return f, err
}

// TestServerStartsFast: what makes every session wait is kept out of the lock.
func TestServerStartsFast(t *testing.T) {
	for line := range strings.SplitSeq(serverLock(t), "\n") {
		if strings.HasPrefix(line, "rfc3987-syntax==") && !strings.Contains(line, "sys_platform == 'never'") {
			t.Errorf("the lock installs %q; run `make lock`, which leaves it out", line)
		}
	}
}

func serverLock(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("server.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
