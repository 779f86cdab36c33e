package recipe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestCondaPins has repo2docker's table, and what it does not see.
func TestCondaPins(t *testing.T) {
	for spec, want := range map[string]string{
		"python=3.9": "3.9", "python==3.9.7": "3.9", "python = 3.10": "3.10", "python=3": "", "python=3.9.*": "3.9", "python=3.9=h123_cpython": "3.9",
		"python>=3.9": "", "python": "", "python 3.8": "3.8", "python~=3.9": "", "python~=3.9.1": "3.9", "conda-forge::python=3.11": "3.11", "python-dateutil=2.8": "",
		"Python=3.12": "3.12", "python >=3.9,<3.11": "", "python[version='3.9.*']": "", "python=3.9|3.10": "", "python=4": "", "python=2": "", "python=3.": "", "python 3.12.*": "3.12",
	} {
		if have := recipe.CondaPin(spec); have != want {
			t.Errorf("%q pins %q, want %q", spec, have, want)
		}
	}
}

// TestCondaWanted: what is solved for each file.
func TestCondaWanted(t *testing.T) {
	const free = `,"prefer":["python 3.13.*"],"constraints":["python \u003e=3.9"]}`
	for text, want := range map[string]string{
		"":                             `{"channels":["conda-forge"],"specs":["pip","python"]` + free,
		"dependencies:\n":              `{"channels":["conda-forge"],"specs":["pip","python"]` + free,
		"name: x\nprefix: /nowhere\n":  `{"channels":["conda-forge"],"specs":["pip","python"]` + free,
		"channels: [nodefaults, a]":    `{"channels":["a"],"specs":["pip","python"]` + free,
		"channels: [b, a]":             `{"channels":["b","a","conda-forge"],"specs":["pip","python"]` + free,
		"dependencies: [python=3.12]":  `{"channels":["conda-forge"],"specs":["pip","python=3.12"]}`,
		"dependencies: [python>=3.11]": `{"channels":["conda-forge"],"specs":["pip","python\u003e=3.11"]` + free,
		"dependencies: [b::x >= 1.2]":  `{"channels":["conda-forge","b"],"specs":["b::x \u003e= 1.2","pip","python"]` + free,
		"dependencies: [r-dplyr]":      `{"channels":["conda-forge"],"specs":["pip","python","r-base","r-dplyr","r-irkernel"]` + free,
		"dependencies: [r-base=4.3]":   `{"channels":["conda-forge"],"specs":["pip","python","r-base=4.3","r-irkernel"]` + free,
	} {
		for _, file := range []string{"environment.yml", "binder/environment.yaml"} {
			r := read(t, map[string]string{file: text})
			if diff := cmp.Diff(want, input(t, r, "Versions: "+file, "environment.json")); diff != "" {
				t.Errorf("%q: %s", text, diff)
			}
		}
	}
}

// TestCondaVariables: what conda would set when it activates the environment is set
// in every session, with a lock too; what is ours stays.
func TestCondaVariables(t *testing.T) {
	const yaml = "dependencies: [numpy]\nvariables:\n  DATA_DIR: /srv/data\n  THREADS: 2\n  PATH: /x\n  HOME: /y\n  BAD-NAME: z\n  FROM: $HOME/x\n"
	want := map[string]string{"DATA_DIR": "/srv/data", "THREADS": "2"}
	for name, files := range map[string]map[string]string{
		"alone":  {"environment.yml": yaml},
		"with R": {"environment.yml": yaml, "runtime.txt": "r-4.4-2025-01-01"},
	} {
		r := read(t, files)
		for key, value := range want {
			if r.LateEnv[key] != value {
				t.Errorf("%s: %s is %q in %v", name, key, r.LateEnv[key], r.LateEnv)
			}
		}
		for _, key := range []string{"HOME", "BAD-NAME", "FROM"} {
			if value, ok := r.LateEnv[key]; ok {
				t.Errorf("%s: %s is %q", name, key, value)
			}
		}
		if strings.HasPrefix(r.LateEnv["PATH"], "/x") || strings.Count(notes(r), "environment.yml: The variable") != 3 {
			t.Errorf("%s: PATH is %q, notes are\n%s", name, r.LateEnv["PATH"], notes(r))
		}
	}
}

func TestCondaR(t *testing.T) {
	for text, want := range map[string]string{
		"r-base=4.3": "4.3", "r-base 4.3.*": "4.3", "r-base==4.3.1": "4.3.1", "r-base": "", "r-dplyr": "", "r-base>=4": "", "numpy": "none", "conda-forge::r-base=4.2": "4.2",
	} {
		r := read(t, map[string]string{"environment.yml": "dependencies:\n- " + text + "\n"})
		have, ok := r.Versions["r"]
		if !ok {
			have.Value = "none"
		}
		if have.Value != want || ok && have.Why == "" {
			t.Errorf("%q brings R %+v, want %q", text, have, want)
		}
		if script := r.Steps[1].Script; strings.Contains(script, "IRkernel::installspec") != ok {
			t.Errorf("%q: the kernel of R is in the script: %v", text, !ok)
		}
	}
}

// TestCondaPip: what is to be had anywhere comes before the tree, the
// repository's own after it.
func TestCondaPip(t *testing.T) {
	r := read(t, map[string]string{"binder/environment.yml": `channels: &c
  - bioconda
  - defaults
dependencies:
  - pip
  - pip:
      - --pre
      - -r more.txt
      - -e ..
      - requests
`, "binder/more.txt": "humanize\n"})
	const name = "pip: binder/environment.yml"
	if diff := cmp.Diff([]string{"conda: binder/environment.yml", "Jupyter", name, name + ", the repository's own"}, steps(r)); diff != "" {
		t.Fatal(diff)
	}
	if have := input(t, r, name, "requirements.txt"); have != "humanize\nrequests\n" {
		t.Errorf("%q", have)
	}
	last := r.Steps[3]
	if last.Stage != recipe.StageContent || !strings.Contains(last.Script, "cd 'binder'\n") || input(t, r, last.Name, "requirements.txt") != "-e ..\n" {
		t.Errorf("%+v", last)
	}
	for _, s := range r.Steps[2:] {
		if !strings.Contains(s.Script, "--prerelease allow") {
			t.Errorf("%s: %s", s.Name, s.Script)
		}
	}
	if !strings.Contains(notes(r), "defaults is not used") {
		t.Error(notes(r))
	}
}

// TestCondaDate: the commit's day decides what is solved, and is in no step, so
// that commits of one environment share its layers.
func TestCondaDate(t *testing.T) {
	at := func(day string) recipe.Recipe {
		date, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		r, err := recipe.Read(repo(map[string]string{"environment.yml": "dependencies: [numpy, {pip: [requests]}]\n"}), recipe.Options{Date: date})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second, later := at("2024-05-02"), at("2024-05-20"), at("2024-07-01")
	if !strings.Contains(first.Steps[0].Lock.Script, "--before 2024-05-03T00:00:00Z") {
		t.Error(first.Steps[0].Lock.Script)
	}
	for i := range first.Steps {
		if first.Steps[i].Script != second.Steps[i].Script {
			t.Errorf("%s differs between days of a month: %s", first.Steps[i].Name, cmp.Diff(first.Steps[i].Script, second.Steps[i].Script))
		}
	}
	if pip := first.Steps[2].Script; !strings.Contains(pip, "--exclude-newer 2024-05-01T00:00:00Z") || pip == later.Steps[2].Script {
		t.Error(pip)
	}
}

const forge = "https://example.org/forge/"

func sum(c string) string { return strings.Repeat(c, 64) }

const condaLock = `version: 1
metadata:
  content_hash: {linux-64: aa}
package:
- name: python
  version: 3.12.4
  manager: conda
  platform: linux-64
  url: https://example.org/forge/linux-64/python-3.12.4-h1_0_cpython.conda
  hash: {md5: 00000000000000000000000000000000, sha256: 1111111111111111111111111111111111111111111111111111111111111111}
  category: main
- name: python
  version: 3.12.3
  manager: conda
  platform: linux-aarch64
  url: https://example.org/forge/linux-aarch64/python-3.12.3-h1_0_cpython.conda
  hash: {sha256: 3333333333333333333333333333333333333333333333333333333333333333}
- name: black
  version: "24"
  manager: conda
  platform: linux-64
  url: https://example.org/forge/noarch/black-24-0.conda
  hash: {sha256: 4444444444444444444444444444444444444444444444444444444444444444}
  category: dev
- name: Humanize
  version: 4.12.3
  manager: pip
  platform: linux-64
  url: https://files.example.org/packages/aa/bb/000000000000000000000000000000000000000000000000000000000000/humanize-4.12.3-py3-none-any.whl
  hash: {sha256: 2222222222222222222222222222222222222222222222222222222222222222}
- name: odd
  version: "1"
  manager: pip
  platform: linux-64
  url: https://example.org/odd-1-py3-none-any.whl
  hash: {sha256: 2222222222222222222222222222222222222222222222222222222222222222}
`

func TestCondaLock(t *testing.T) {
	const name = "conda: conda-lock.yml"
	list := "@EXPLICIT\n" + forge + "linux-64/python-3.12.4-h1_0_cpython.conda#" + sum("1") + "\n"
	pip := "Humanize==4.12.3 --hash=sha256:" + sum("2") + "\nodd @ https://example.org/odd-1-py3-none-any.whl --hash=sha256:" + sum("2") + "\n"
	t.Run("alone", func(t *testing.T) {
		r := read(t, map[string]string{"conda-lock.yml": condaLock})
		if r.Kind != "conda-lock" || r.Python.Value != "3.12" || r.Steps[0].Lock != nil {
			t.Errorf("%s, Python %+v, %+v", r.Kind, r.Python, r.Steps[0].Lock)
		}
		if diff := cmp.Diff(list, input(t, r, name, "conda.txt")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(pip, input(t, r, "pip: conda-lock.yml", "requirements.txt")); diff != "" {
			t.Error(diff)
		}
		if s := r.Steps[2].Script; !strings.Contains(s, "--require-hashes") || !strings.Contains(s, "--no-deps") {
			t.Error(s)
		}
	})
	t.Run("beside environment.yml", func(t *testing.T) {
		r := read(t, map[string]string{"conda-lock.yml": condaLock, "environment.yml": "dependencies:\n- python=3.11\n- scipy\n- pip:\n  - humanize\n  - -e .\n"})
		if diff := cmp.Diff([]string{name, "Jupyter", "pip: conda-lock.yml", "pip: environment.yml, the repository's own"}, steps(r)); r.Kind != "conda" || diff != "" {
			t.Error(r.Kind, diff)
		}
		for _, want := range []string{"it has python 3.12.4, which is installed", "does not have scipy"} {
			if !strings.Contains(notes(r), want) {
				t.Errorf("no note has %q: %s", want, notes(r))
			}
		}
		if r.Notes[0].Line != 2 || r.Notes[1].Line != 3 {
			t.Errorf("%+v", r.Notes)
		}
	})
	t.Run("another platform", func(t *testing.T) {
		r, err := recipe.Read(repo(map[string]string{"conda-lock.yml": condaLock}), recipe.Options{Arch: "arm64"})
		if err != nil {
			t.Fatal(err)
		}
		if have := input(t, r, name, "conda.txt"); have != "@EXPLICIT\n"+forge+"linux-aarch64/python-3.12.3-h1_0_cpython.conda#"+sum("3")+"\n" {
			t.Error(have)
		}
	})
	t.Run("passed over", func(t *testing.T) {
		for file, kind := range map[string]string{"requirements.txt": "python", "environment.yml": "conda", "binder/apt.txt": "python"} {
			r := read(t, map[string]string{"conda-lock.yml": strings.ReplaceAll(condaLock, "linux-64", "osx-64"), file: ""})
			if r.Kind != kind || file != "binder/apt.txt" && !strings.Contains(notes(r), "conda-lock.yml") {
				t.Errorf("beside %s the kind is %s: %s", file, r.Kind, notes(r))
			}
		}
	})
}

func TestExplicit(t *testing.T) {
	const name = "conda-linux-64.lock"
	url := forge + "linux-64/python-3.12.4-h1_0.conda"
	for text, want := range map[string]struct {
		list string
		lock bool // hashes are looked for
		pip  string
	}{
		"@EXPLICIT\n" + url + "#" + sum("1"):                                     {url + "#" + sum("1"), false, ""},
		"# platform: linux-64\n@EXPLICIT\n" + url + "#sha256:" + sum("A") + "\n": {url + "#" + sum("a"), false, ""},
		"@EXPLICIT\n" + url + "#" + strings.Repeat("0", 32):                      {url + "#" + strings.Repeat("0", 32), true, ""},
		"@EXPLICIT\n" + url: {url, true, ""},
		"@EXPLICIT\n" + url + "#" + sum("1") + "\n# pip a @ https://example.org/a-1-py3-none-any.whl --hash=sha256:" + sum("2"): {
			url + "#" + sum("1"), false, "a @ https://example.org/a-1-py3-none-any.whl --hash=sha256:" + sum("2") + "\n",
		},
	} {
		r := read(t, map[string]string{name: text})
		at := "conda: " + name
		if want.lock {
			at = "Versions: " + name
		}
		if have := input(t, r, at, "conda.txt"); strings.TrimPrefix(have, "@EXPLICIT\n") != want.list+"\n" || (r.Steps[0].Lock != nil) != want.lock {
			t.Errorf("%q gives %q", text, have)
		}
		if want.pip != "" && input(t, r, "pip: "+name, "requirements.txt") != want.pip {
			t.Errorf("%+v", r.Steps[2])
		}
	}
	r := read(t, map[string]string{name: "@EXPLICIT\n" + forge + "linux-64/r-base-4.3.1-h1_0.conda#" + sum("1")})
	if !strings.Contains(r.Steps[1].Script, "uv venv --quiet --allow-existing") || r.Versions["r"].Value != "4.3.1" || !strings.Contains(notes(r), "no kernel") {
		t.Errorf("%+v", r)
	}
	// What the lock does not know of, environment.yml still says.
	r = read(t, map[string]string{name: "@EXPLICIT\n" + url + "#" + sum("1"), "environment.yml": "dependencies: [python=3.12, {pip: [humanize]}]\n"})
	if input(t, r, "pip: environment.yml", "requirements.txt") != "humanize\n" || notes(r) != "" {
		t.Errorf("%v %s", steps(r), notes(r))
	}
}

func TestCondaLockRefused(t *testing.T) {
	line := func(old, now string) string { return strings.Replace(condaLock, old, now, 1) }
	for name, c := range map[string]struct {
		file, text string
		line       int
		says       string
	}{
		"version":       {"conda-lock.yml", "version: 2\n", 0, "version 2"},
		"no lock":       {"conda-lock.yml", "- a\n", 1, "is not a lock"},
		"bad YAML":      {"conda-lock.yml", "a: b\n\tc: d\n", 2, "is not a lock"},
		"not for us":    {"conda-lock.yml", "version: 1\npackage: []\n", 0, "no packages for linux-64"},
		"file address":  {"conda-lock.yml", line(forge+"linux-64/", "file:///tmp/linux-64/"), 5, "address"},
		"password":      {"conda-lock.yml", line("https://example.org/forge/linux-64", "https://a:b@example.org/forge/linux-64"), 5, "address"},
		"odd file":      {"conda-lock.yml", line("python-3.12.4-h1_0_cpython.conda", "python.exe"), 5, "file of a conda package"},
		"odd hash":      {"conda-lock.yml", line(sum("1"), "12"), 5, "hash"},
		"old Python":    {"conda-lock.yml", strings.ReplaceAll(condaLock, "3.12.4", "3.4.1"), 5, "can't run"},
		"odd name":      {"conda-lock.yml", line("Humanize", "-r x"), 25, "can't be read"},
		"no list":       {"conda-linux-64.lock", "numpy=1.2\n", 1, "address"},
		"not explicit":  {"conda-linux-64.lock", "# x\n", 0, "@EXPLICIT"},
		"shell in list": {"conda-linux-64.lock", "@EXPLICIT\nhttps://example.org/a/linux-64/a-1-$(id).conda\n", 2, "file of a conda package"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(map[string]string{c.file: c.text}))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want line %d, …%s…", e.File, e.Line, e.Message, c.line, c.says)
			}
		})
	}
}
