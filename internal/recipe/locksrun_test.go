package recipe_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// TestLockSteps runs the steps of the examples with locks for real, one after the
// other in one environment, and compares what is there with what each asks for.
func TestLockSteps(t *testing.T) {
	m := newMachine(t, "uv")
	m.env = []string{"PATH=" + m.environment() + "/bin:" + os.Getenv("PATH")}
	server := read(t, nil).Steps[0]
	if out, err := m.step(t, server); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const version = "from importlib.metadata import version, distributions; names = {d.name.lower() for d in distributions()}; "
	for _, c := range []struct{ name, code, want string }{
		{"uv-workspace", "import analysis, tides; print(analysis.height(0), 'docopt' in names, 'inflection' in names)", "2.75 True True"},
		{"poetry-library", "import rainfall; print(version('rainfall'), version('humanize') in open('poetry.lock').read(), 'inflection' in names)", "2.1.0 True True"},
		{"pylock-binder", "import docopt; print(version('humanize'))", "4.12.3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := filepath.Join(m.dir, "home")
			if err := os.RemoveAll(home); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(home, os.DirFS(filepath.Join("../../examples", c.name))); err != nil {
				t.Fatal(err)
			}
			r, err := recipe.Read(os.DirFS(home), recipe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.Steps[1:] {
				out, err := m.step(t, s)
				if err != nil {
					t.Fatalf("%s: %v\n%s", s.Name, err, out)
				}
				if strings.Contains(out, "once more") {
					t.Errorf("%s: what it was to be built with did not do: %s", s.Name, out)
				}
			}
			have, err := m.command(t, home, m.environment()+"/bin/python", "-c", version+c.code)
			if have = strings.TrimSpace(have); err != nil || have != c.want {
				t.Errorf("%q, %v; want %q", have, err, c.want)
			}
		})
	}

	t.Run("failing-hash", func(t *testing.T) {
		r, err := recipe.Read(os.DirFS("../../examples/failing-hash"), recipe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		m.must(t, "", m.dir+"/run/tools/uv/uv", "pip", "uninstall", "--python", m.environment(), "humanize")
		if out, err := m.step(t, r.Steps[1]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := m.step(t, r.Steps[2])
		if err == nil {
			t.Fatal("a file with another hash was installed")
		}
		if e := recipe.Explain(r, r.Steps[2].Name, strings.Split(out, "\n")); e.File != "Pipfile.lock" || e.Line != 11 || !strings.Contains(e.Message, "humanize") || !strings.Contains(e.Hint, "Renew the hashes") {
			t.Errorf("%+v", e)
		}
	})

	t.Run("git", m.git)
	t.Run("causes", m.causes)
	t.Run("outlines", m.outlines)
	t.Run("languages", m.languages)
}

// git installs what locks name by the commit of a repository, from a server of our
// own whose branch has gone on.
func (m *machine) git(t *testing.T) {
	host, err := githost.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	repo, err := host.Repo(t.Context(), "knots", "")
	if err != nil {
		t.Fatal(err)
	}
	commit, err := repo.Commit(t.Context(), map[string]string{
		"pyproject.toml": "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n[project]\nname = \"knots\"\nversion = \"1\"\n",
		"knots.py":       "speed = 12\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{"knots.py": "speed = 20\n"}); err != nil {
		t.Fatal(err)
	}
	project := "[project]\nname = \"course\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"knots @ git+" + repo.URL + "@" + commit + "\"]\n"
	uv := filepath.Join(m.dir, "uv") // where uv itself makes its lock
	if err := errors.Join(os.Mkdir(uv, 0o755), os.WriteFile(filepath.Join(uv, "pyproject.toml"), []byte(project), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.must(t, uv, m.dir+"/run/tools/uv/uv", "lock")
	m.must(t, uv, m.dir+"/run/tools/uv/uv", "export", "--format", "pylock.toml", "--no-emit-project", "-o", "pylock.toml")
	written := func(name string) string {
		b, err := os.ReadFile(filepath.Join(uv, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, files := range map[string]map[string]string{
		"requirements.txt": {"requirements.txt": "knots @ git+" + repo.URL + "@" + commit[:10] + "\nhumanize==4.12.3\n"},
		"uv.lock":          {"uv.lock": written("uv.lock"), "pyproject.toml": project},
		"pylock.toml":      {"pylock.toml": written("pylock.toml")},
		"Pipfile.lock":     {"Pipfile.lock": pipfileLock("", `"knots": {"git": "`+repo.URL+`", "ref": "`+commit+`"}`)},
		"poetry.lock": {
			"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = \">=3.11\"\nknots = {git = \"" + repo.URL + "\", branch = \"main\"}\n",
			"poetry.lock":    poetryPackage("knots", "1", "develop = false\n\n[package.source]\ntype = \"git\"\nurl = \""+repo.URL+"\"\nreference = \"main\"\nresolved_reference = \""+commit+"\"\n") + poetryHead,
		},
		"pdm.lock": {
			"pyproject.toml": strings.Replace(project, "@"+commit, "", 1),
			"pdm.lock":       "[metadata]\ngroups = [\"default\"]\nlock_version = \"4.5.0\"\n\n[[package]]\nname = \"knots\"\nversion = \"1\"\ngit = \"" + repo.URL + "\"\nrevision = \"" + commit + "\"\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m.place(t, files)
			for _, s := range read(t, files).Steps[1:] {
				if out, err := m.step(t, s); err != nil {
					t.Fatalf("%s: %v\n%s", s.Name, err, out)
				}
			}
			if have := m.exec(t, "import knots; print(knots.speed)"); have != "12" {
				t.Errorf("it is of another commit: %s", have)
			}
			store, err := os.ReadFile(filepath.Join(m.dir, "store/requirements.txt"))
			if err != nil || !strings.Contains(string(store), commit) || strings.Contains(files["requirements.txt"], "humanize") && !strings.Contains(string(store), "humanize==4.12.3 \\\n    --hash=") {
				t.Errorf("the image's list is %q, %v", store, err)
			}
			m.must(t, "", m.dir+"/run/tools/uv/uv", "pip", "uninstall", "--python", m.environment(), "knots")
		})
	}
}

// languages does the same with npm, Go and Deno. Cargo is not on every machine:
// the end-to-end test of Rust makes it fail.
func (m *machine) languages(t *testing.T) {
	for _, tool := range []string{"npm", "go"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatalf("%s is not installed", tool)
		} else if err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	m.env = append(m.env, "DENO_DIR="+m.dir+"/deno/cache", "GOFLAGS=-modcacherw", "GOMODCACHE="+m.dir+"/run/cache/go", "NPM_CONFIG_FETCH_RETRIES=0")
	// A lock for what is there, written by npm, beside what it does not know.
	js := filepath.Join(m.dir, "js")
	if err := os.MkdirAll(js, 0o755); err != nil {
		t.Fatal(err)
	}
	const small = `{"dependencies": {"dayjs": "1.11.10"}}`
	if err := os.WriteFile(filepath.Join(js, "package.json"), []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	m.must(t, js, "npm", "install", "--package-lock-only", "--no-audit", "--no-fund")
	lock, err := os.ReadFile(filepath.Join(js, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	const required = "module tides\n\ngo 1.21\n\nrequire github.com/dustin/go-humanize v1.0.0\n"
	wrongSum := "github.com/dustin/go-humanize v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\ngithub.com/dustin/go-humanize v1.0.0/go.mod h1:HtrtbFcZ19U5GC7JDqmcUSB87Iq5E25KnS6fMYU6eOk=\n"
	for name, c := range map[string]struct {
		files map[string]string
		step  string // which must fail
		file  string
		line  int
		says  []string // in message or hint
	}{
		"npm, no package":  {map[string]string{"binder/package.json": "{\"dependencies\": {\n\"@tides-of-nobody/not-there\": \"1\"}}"}, "npm: binder/package.json", "binder/package.json", 2, []string{"no package called @tides-of-nobody/not-there", "Check its name in package.json"}},
		"npm, no version":  {map[string]string{"binder/package.json": "{\"dependencies\": {\n\"dayjs\": \"99.0.0\"}}"}, "npm: binder/package.json", "binder/package.json", 2, []string{"version asked for of dayjs does not exist", "Choose one that does"}},
		"npm, stale lock":  {map[string]string{"package.json": "{\"dependencies\": {\n\"dayjs\": \"1.11.10\",\n\"left-pad\": \"1.3.0\"}}", "package-lock.json": string(lock)}, "npm: package-lock.json", "package.json", 3, []string{"do not agree", "left-pad", "Run `npm install` and commit"}},
		"npm, peers":       {map[string]string{"binder/package.json": "{\"dependencies\": {\n\"react\": \"17.0.2\",\n\"react-dom\": \"18.2.0\"}}"}, "npm: binder/package.json", "binder/package.json", 2, []string{"exclude each other. It said: peer react@\"^18.2.0\" from react-dom@18.2.0", "legacy-peer-deps=true"}},
		"npm, wrong hash":  {map[string]string{"package.json": small, "package-lock.json": regexp.MustCompile(`"sha512-[^"]{8}`).ReplaceAllString(string(lock), `"sha512-AAAAAAAA`)}, "npm: package-lock.json", "package.json", 0, []string{"not what the lock says", "Make the lock anew"}},
		"Go, no version":   {map[string]string{"go.mod": "module tides\n\ngo 1.21\n\nrequire github.com/dustin/go-humanize v1.99.0\n", "go.sum": ""}, "go: go.mod", "go.mod", 5, []string{"go-humanize could not be had", "Check its path and version"}},
		"Go, wrong hash":   {map[string]string{"go.mod": required, "go.sum": wrongSum}, "go: go.mod", "go.mod", 5, []string{"not what go.sum says", "go mod verify"}},
		"Deno, no package": {map[string]string{"deno.json": "{\"imports\": {\n\"tides\": \"npm:@tides-of-nobody/not-there@1\"}}"}, "deno: deno.json", "deno.json", 2, []string{"no package called @tides-of-nobody/not-there", "Check its name in deno.json"}},
		"Deno, stale lock": {map[string]string{"deno.json": "{\"imports\": {\n\"dayjs\": \"npm:dayjs@1.11.10\"}}", "deno.lock": "{\"version\": \"5\"}\n"}, "deno: deno.json", "deno.json", 2, []string{"do not agree", "commit deno.lock"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if strings.HasPrefix(name, "Deno") {
				if out, err := m.step(t, stepNamed(t, r, "Deno kernel")); err != nil {
					t.Fatal(err, out)
				}
			}
			if err := errors.Join(os.RemoveAll(m.dir+"/tmp"), os.Mkdir(m.dir+"/tmp", 0o755)); err != nil {
				t.Fatal(err) // as each step has a new one
			}
			s := stepNamed(t, r, c.step)
			out, err := m.step(t, s)
			if err == nil {
				t.Fatal("nothing failed")
			}
			e := recipe.Explain(r, s.Name, strings.Split(out, "\n"))
			if e.File != c.file || e.Line != c.line || len(e.Excerpt) == 0 {
				t.Errorf("in %s:%d, want %s:%d; %q", e.File, e.Line, c.file, c.line, e.Excerpt)
			}
			for _, want := range c.says {
				if !strings.Contains(e.Message+"\n"+e.Hint, want) {
					t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
				}
			}
		})
	}
}

// place makes files the repository.
func (m *machine) place(t *testing.T, files map[string]string) {
	t.Helper()
	home := filepath.Join(m.dir, "home")
	if err := os.RemoveAll(home); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		file = filepath.Join(home, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// programs is a directory with those of this machine, without some.
func (m *machine) programs(t *testing.T, without ...string) string {
	t.Helper()
	dir := filepath.Join(m.dir, "programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(without, e.Name()) {
			continue
		}
		if err := os.Symlink("/usr/bin/"+e.Name(), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// causes makes steps fail in the ways that are most frequent, with the real tools,
// and reads what authors are told.
func (m *machine) causes(t *testing.T) {
	env := m.env
	m.env = []string{"PATH=" + m.environment() + "/bin:" + m.programs(t, "python2", "rustc", "cargo", "pkg-config", "pkgconf", "mysql_config", "mariadb_config"), "UV_HTTP_RETRIES=0", "UV_PYTHON_INSTALL_MIRROR=http://127.0.0.1:9/python-build-standalone"}
	defer func() { m.env = env }()
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) }))
	defer ill.Close()
	extension := map[string]string{
		"pkg/setup.py": "from setuptools import Extension, setup\nsetup(name='pkg', ext_modules=[Extension('pkg', ['pkg.c'])])\n",
		"pkg/pkg.c":    "#include <suitesparse/nothing.h>\n", "requirements.txt": "# one\n./pkg\n",
	}
	// An extension is linked with a library that it does not bring along.
	linked := map[string]string{
		"pkg/setup.py": "import subprocess\nfrom setuptools import Extension, setup\nsubprocess.run(['gcc', '-shared', '-Wl,-soname,libtides.so.3', '-o', 'libtides.so', 'sea.c'], check=True)\n" +
			"setup(name='pkg', ext_modules=[Extension('tide', ['tide.c'], libraries=['tides'], library_dirs=['.'])])\n",
		"pkg/sea.c": "int height(void) { return 3; }\n", "pkg/tide.c": "#include <Python.h>\nint height(void);\nstatic struct PyModuleDef tide = {PyModuleDef_HEAD_INIT, \"tide\"};\nPyMODINIT_FUNC PyInit_tide(void) { return height() ? PyModule_Create(&tide) : NULL; }\n",
		"requirements.txt": "./pkg\n", "postBuild": "#!/bin/bash\nset -e\npython -c 'import tide'\n",
	}
	crate := map[string]string{
		"pkg/pyproject.toml": "[build-system]\nrequires = ['setuptools', 'setuptools-rust']\nbuild-backend = 'setuptools.build_meta'\n[project]\nname = 'pkg'\nversion = '1'\n[[tool.setuptools-rust.ext-modules]]\ntarget = 'pkg'\n",
		"pkg/Cargo.toml":     "[package]\nname = 'pkg'\nversion = '1.0.0'\n[lib]\ncrate-type = ['cdylib']\n", "pkg/src/lib.rs": "", "requirements.txt": "# one\n./pkg\n",
	}
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  []string // in message or hint
	}{
		"no wheel":        {map[string]string{"requirements.txt": "humanize\ntensorflow==2.6.0\n"}, "requirements.txt", 2, []string{"tensorflow has no build for this version of Python", "Name the Python in runtime.txt"}},
		"no Python":       {map[string]string{"runtime.txt": "python-3.11.99\n"}, "runtime.txt", 1, []string{"Python that is asked for could not be found", "Choose another version"}},
		"Python away":     {map[string]string{"runtime.txt": "python-3.12\n"}, "runtime.txt", 1, []string{"Python that is asked for could not be downloaded", "Leave the version out"}},
		"too new":         {map[string]string{"requirements.txt": "idna\nhumanize>=99\n"}, "requirements.txt", 2, []string{"No version of humanize fits", "Choose one that does"}},
		"twice":           {map[string]string{"requirements.txt": "humanize==4.12.3\nhumanize==4.11\n"}, "requirements.txt", 1, []string{"asks for humanize in versions that exclude each other"}},
		"no requirement":  {map[string]string{"requirements.txt": "idna\nhumanize>=4.x\n"}, "requirements.txt", 2, []string{"not a requirement", "name==1.2"}},
		"index fails":     {map[string]string{"requirements.txt": "--index-url " + ill.URL + "/simple\ntitlecase\n"}, "requirements.txt", 2, []string{"answered with an error of its own", "Try again"}},
		"no source":       {map[string]string{"requirements.txt": "idna\nsklearn==0.0.post12\n"}, "requirements.txt", 2, []string{"sklearn could not be built", "Did you mean scikit-learn?"}},
		"Rust":            {crate, "requirements.txt", 2, []string{"tool rustc is missing", "Write rustc and cargo into apt.txt"}},
		"library's name":  {map[string]string{"requirements.txt": "--no-binary mysqlclient\nmysqlclient==2.2.4\n"}, "requirements.txt", 2, []string{"library that mysqlclient is made of is missing", "Write default-libmysqlclient-dev and pkg-config into apt.txt"}},
		"library missing": {linked, "postBuild", 0, []string{"The library libtides.so.3 is missing", "ImportError: ", "Name the Debian package that has it in apt.txt"}},
		"Python 2":        {map[string]string{"postBuild": "#!/usr/bin/env python2\nprint 1\n"}, "postBuild", 0, []string{"program python2 is not installed", "begin the script with #!/usr/bin/env python3, or ask for python=2.7 in environment.yml"}},
		"no interpreter":  {map[string]string{"postBuild": "#!/usr/local/bin/no-such-shell\necho\n"}, "postBuild", 0, []string{"program is not there that ./postBuild names in its first line", "Begin it with #!/bin/bash"}},
		"Windows script":  {map[string]string{"postBuild": "#!/bin/bash\nset -e\n\nchmod +x get.sh\n./get.sh\n", "get.sh": "#!/bin/bash\r\necho\r\n"}, "postBuild", 5, []string{"program is not there that ./get.sh names in its first line", "Unix line ends"}},
		"Windows in bash": {map[string]string{"postBuild": "#!/bin/bash\nset -e\nbash get.sh\n", "get.sh": "set -e\r\ncd data\r\n"}, "postBuild", 0, []string{"script has Windows line ends", "Run `dos2unix get.sh`"}},
		"Windows in sh":   {map[string]string{"postBuild": "#!/bin/sh\nset -e\nsh get.sh\n", "get.sh": "date\r\n"}, "postBuild", 0, []string{"script has Windows line ends", "Run `dos2unix get.sh`"}},
		"Windows and env": {map[string]string{"postBuild": "#!/bin/sh\nset -e\nchmod +x get.sh\n./get.sh\n", "get.sh": "#!/usr/bin/env bash\r\necho\r\n"}, "postBuild", 0, []string{"script has Windows line ends", "dos2unix"}},
		"no program":      {map[string]string{"postBuild": "#!/bin/bash\nset -e\n./get.sh\n", "get.sh": "#!/bin/bash\n"}, "postBuild", 3, []string{"script ./get.sh is not executable", "Run it with `bash ./get.sh`"}},
		"no sudo":         {map[string]string{"postBuild": "#!/bin/bash\nset -e\nPATH=/nowhere\nsudo apt-get install tree\n"}, "postBuild", 4, []string{"command sudo is not installed", "name Debian packages in apt.txt"}},
		"no package":      {map[string]string{"requirements.txt": "humanize\nscikit-imagge\n"}, "requirements.txt", 2, []string{"no package called scikit-imagge", "Did you mean scikit-image?"}},
		"no version":      {map[string]string{"requirements.txt": "humanize==99.1\n"}, "requirements.txt", 1, []string{"version asked for of humanize does not exist", "There are 4.", "choose one"}},
		"conflict":        {map[string]string{"requirements.txt": "pandas==2.2.3\nnumpy<1.20\n"}, "requirements.txt", 1, []string{"together", "numpy<1.20"}},
		"other Python":    {map[string]string{"requirements.txt": "# one\n./pkg\n", "pkg/pyproject.toml": "[project]\nname = 'pkg'\nversion = '1'\nrequires-python = '>=3.99'\n"}, "requirements.txt", 2, []string{"another version of Python", "runtime.txt"}},
		"other platform":  {map[string]string{"requirements.txt": "pywin32==306\n"}, "requirements.txt", 1, []string{"pywin32 has no build for this", "Windows"}},
		"header":          {extension, "requirements.txt", 2, []string{"header suitesparse/nothing.h", "libsuitesparse-dev into apt.txt"}},
		"index away":      {map[string]string{"requirements.txt": "--index-url http://127.0.0.1:9/simple\ntitlecase\n"}, "requirements.txt", 2, []string{"could not be reached", "Try again in a few minutes"}},
		"git away":        {map[string]string{"requirements.txt": "x @ git+http://127.0.0.1:9/x.git\n"}, "requirements.txt", 1, []string{"git repository could not be fetched", "must be public"}},
		"no project":      {map[string]string{"requirements.txt": "./notes\n", "notes/a.txt": ""}, "requirements.txt", 1, []string{"no Python package", "needs a pyproject.toml or setup.py"}},
		"module missing":  {map[string]string{"postBuild": "#!/bin/bash\nset -e\npython -c 'import skimage'\n"}, "postBuild", 0, []string{"module skimage is missing", "Add scikit-image"}},
		"command missing": {map[string]string{"postBuild": "#!/bin/bash\nset -e\nno-such-command-here\n"}, "postBuild", 3, []string{"command no-such-command-here", "Name the Debian package that has it in apt.txt"}},
		"command known":   {map[string]string{"postBuild": "#!/bin/bash\nset -e\nPATH=/nowhere\n\npdflatex notes.tex\n"}, "postBuild", 5, []string{"command pdflatex", "Write texlive-latex-recommended into apt.txt."}},
	} {
		t.Run(name, func(t *testing.T) {
			m.place(t, c.files)
			r := read(t, c.files)
			for i, s := range r.Steps {
				if i == 0 && c.file != "runtime.txt" {
					continue // Jupyter is there
				}
				out, err := m.step(t, s)
				if err == nil {
					continue
				}
				e := recipe.Explain(r, s.Name, strings.FieldsFunc(out, func(c rune) bool { return c == '\n' || c == '\r' })) // as they come from a build
				if e.File != c.file || (e.Line != c.line && c.line > 0) {
					t.Errorf("in %s:%d, want %s:%d", e.File, e.Line, c.file, c.line)
				}
				for _, want := range c.says {
					if !strings.Contains(e.Message+"\n"+e.Hint, want) {
						t.Errorf("no %q in %q %q", want, e.Message, e.Hint)
					}
				}
				if len(e.Excerpt) == 0 || !strings.Contains(strings.ReplaceAll(out, "\r", `\r`), strings.TrimSpace(e.Excerpt[0])) {
					t.Errorf("the excerpt is %q", e.Excerpt)
				}
				return
			}
			t.Error("nothing failed")
		})
	}
}
