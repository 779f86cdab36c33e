package recipe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

const (
	hash0 = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	hash1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

// pipfileLock is a Pipfile.lock with packages, each a line.
func pipfileLock(requires string, packages ...string) string {
	return "{\n\"_meta\": {\"requires\": {" + requires + "}, \"sources\": [{\"name\": \"pypi\", \"url\": \"https://pypi.example/simple\"}, {\"name\": \"ours\", \"url\": \"https://a:injected@example.org/simple\"}]},\n\"default\": {\n" +
		strings.Join(packages, ",\n") + "\n},\n\"develop\": {}}\n"
}

// TestPipfileLock has each kind of entry: the line it becomes, and where.
func TestPipfileLock(t *testing.T) {
	const early, late = "pip: Pipfile.lock", "pip: packages of the repository"
	for entry, c := range map[string]struct {
		want string // "" is refused
		step string
	}{
		`"numpy": {"version": "==1.2", "hashes": ["` + hash1 + `", "` + hash0 + `"]}`: {"numpy==1.2 --hash=" + hash0 + " --hash=" + hash1, early},
		`"numpy": {"version": "==1.2", "hashes": ["sha256:00\n-r /etc/passwd"]}`:      {},
		`"numpy": {"version": "==1.2\n-r x"}`:                                         {},
		`"numpy": {"version": "*"}`:                                                   {},
		`"numpy": {"version": ">=1"}`:                                                 {},
		`"numpy": "==1.2"`:                                                            {"numpy==1.2", early},
		`"numpy": 1`:                                                                  {},
		`"num py": {"version": "==1"}`:                                                {},
		`"a": {"version": "==1", "extras": ["x", "y"], "markers": "python_version >= '3.9'"}`: {"a[x,y]==1; python_version >= '3.9'", early},
		`"a": {"version": "==1", "markers": "os_name == 'nt'", "sys_platform": "== 'win32'"}`: {"a==1; (os_name == 'nt') and (sys_platform == 'win32')", early},
		`"a": {"version": "==1", "index": "pypi"}`:                                            {"a==1", early},
		`"a": {"version": "==1", "index": "ours"}`:                                            {"--extra-index-url https://a:injected@example.org/simple\na==1", early},
		`"a": {"version": "==1", "index": "none"}`:                                            {},
		`"a": {"git": "https://example.org/a.git", "ref": "0123", "subdirectory": "b"}`:       {"a @ git+https://example.org/a.git@0123#subdirectory=b", early},
		`"a": {"git": "git@example.org:b/a.git", "ref": "0123"}`:                              {"a @ git+ssh://git@example.org/b/a.git@0123", early},
		`"a": {"hg": "https://example.org/a"}`:                                                {},
		`"a": {"git": "https://example.org/a --hash x"}`:                                      {},
		`"a": {"file": "https://example.org/a-1-py3-none-any.whl"}`:                           {"a @ https://example.org/a-1-py3-none-any.whl", early},
		`"a": {"path": ".", "editable": true}`:                                                {"-e ./.", late},
		`"a": {"path": "./libs/a"}`:                                                           {"./libs/a", late},
		`"a": {"file": "wheels/a-1-py3-none-any.whl"}`:                                        {"./wheels/a-1-py3-none-any.whl", late},
		`"a": {"path": "../a"}`:                                                               {},
		`"a": {"path": "/etc"}`:                                                               {},
		`"a": {"path": "./a", "markers": "os_name == 'nt'"}`:                                  {"a @ file:a ; os_name == 'nt'", late},
		`"a": {"version": "==1", "platform_machine": "== 'x86_64'", "hashes": []}`:            {"a==1; platform_machine == 'x86_64'", early},
	} {
		t.Run(entry, func(t *testing.T) {
			files := map[string]string{"Pipfile.lock": pipfileLock("", entry), "requirements.txt": "numpy"}
			if c.want == "" {
				if e := refused(t, repo(files)); e.File != "Pipfile.lock" || e.Line != 4 || strings.Contains(e.Error()+e.Hint, "injected") {
					t.Errorf("%+v", e)
				}
				return
			}
			r := read(t, files)
			name := "requirements.txt"
			if c.step == late {
				name = "local.txt"
			}
			if diff := cmp.Diff(strings.ReplaceAll(c.want, "./.", ".")+"\n", strings.ReplaceAll(input(t, r, c.step, name), "./.", ".")); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(notes(r), "requirements.txt is passed over") {
				t.Error(notes(r))
			}
			for _, p := range r.Packages() {
				if strings.Contains(p.Name+p.Spec, "injected") {
					t.Errorf("a password is shown: %+v", p)
				}
			}
		})
	}
}

// TestPipfile is repo2docker's rule for the lock, the version and the directory.
func TestPipfile(t *testing.T) {
	one := `"a": {"version": "==1"}`
	for name, c := range map[string]struct {
		files  map[string]string
		python string
		lines  string // of the first step that installs
		note   string
	}{
		"lock wins":         {map[string]string{"Pipfile": "[packages]\na = \"*\"\nb = \"*\"\n", "Pipfile.lock": pipfileLock("", one)}, "", "a==1\n", "b is not in Pipfile.lock"},
		"python of lock":    {map[string]string{"Pipfile": "[requires]\npython_version = \"3.11\"\n", "Pipfile.lock": pipfileLock(`"python_version": "3.12"`, one), "runtime.txt": "python-3.10"}, "3.12", "a==1\n", "runtime.txt is passed over"},
		"full version":      {map[string]string{"Pipfile.lock": pipfileLock(`"python_full_version": "3.12.4", "python_version": "3.11"`, one)}, "3.12", "a==1\n", ""},
		"python of Pipfile": {map[string]string{"Pipfile": "[requires]\npython_version = \"3.11\"\n", "Pipfile.lock": pipfileLock("", one)}, "3.11", "a==1\n", ""},
		"any Python":        {map[string]string{"Pipfile": "[packages]\na='*'\n[requires]\npython_version = \"3\"\n"}, "", "a\n", "no Pipfile.lock"},
		"loose":             {map[string]string{"Pipfile": "[[source]]\nname = \"pypi\"\nurl = \"https://pypi.example/simple\"\n[packages]\na = \">=1,<2\"\n\"b\" = {version = \"~=1.2\", extras = [\"x\"], markers = \"os_name == 'posix'\"}\n[dev-packages]\nc = {git = \"https://example.org/c\", ref = \"v1\", editable = true}\n"}, "", "a>=1,<2\nb[x]~=1.2; os_name == 'posix'\n", ""},
		"other index":       {map[string]string{"Pipfile": "[[source]]\nname = \"ours\"\nurl = \"https://example.org/simple\"\n[packages]\na = \"*\"\n"}, "", "--index-url https://example.org/simple\na\n", ""},
		"binder":            {map[string]string{"binder/Pipfile.lock": pipfileLock("", `"a": {"path": "./a", "editable": true}`), "Pipfile": "["}, "", "-e ./binder/a\n", "Only files in binder/"},
		"nothing":           {map[string]string{"Pipfile": ""}, "", "", "names no package"},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if r.Kind != "pipenv" || r.Python.Value != c.python || !strings.Contains(notes(r), c.note) {
				t.Errorf("%s, Python %+v, notes %s", r.Kind, r.Python, notes(r))
			}
			have := ""
			for _, s := range r.Steps[1:] {
				inputs := s.Inputs
				if s.Lock != nil {
					inputs = s.Lock.Inputs
				}
				for _, in := range inputs {
					if have == "" && (in.Name == "requirements.txt" || in.Name == "local.txt" || in.Name == "requirements.in") {
						have = string(in.Content)
					}
				}
			}
			if diff := cmp.Diff(c.lines, have); diff != "" {
				t.Error(diff)
			}
		})
	}
	for text, line := range map[string]int{
		"[packages]\na = [1]\n": 2, "[packages]\na = {git = \"x\\ny\"}\n": 2, "[packages\n": 1, "[requires]\npython_version = \"2.6\"\n": 2,
		"[[source]]\nname = \"x\"\nurl = \"https://${USER}:${PASSWORD}@example.org\"\n": 3, "[packages]\nb = 1\na = \"==1 ; x\\n-e .\"": 3,
	} {
		if e := refused(t, repo(map[string]string{"Pipfile": text})); e.File != "Pipfile" || e.Line != line {
			t.Errorf("%q: %s:%d %s", text, e.File, e.Line, e.Message)
		}
	}
}

const uvHead = "version = 1\nrequires-python = \">=3.11\"\n"

func uvPackage(name, version, more string) string {
	return fmt.Sprintf("\n[[package]]\nname = %q\nversion = %q\n%s\n", name, version, more)
}

// TestUVLock: what uv is asked, and what is told.
func TestUVLock(t *testing.T) {
	const registry = `source = { registry = "https://pypi.example/simple" }`
	const project = "[project]\nname = \"a\"\nversion = \"1\"\ndependencies = [\"numpy>=2\"]\n"
	lock := uvHead + uvPackage("a", "1", `source = { virtual = "." }`) + uvPackage("numpy", "2.1.0", registry)
	r := read(t, map[string]string{"uv.lock": lock, "pyproject.toml": project})
	if diff := cmp.Diff([]string{"Python and Jupyter", "wheels: uv.lock", "pip: uv.lock"}, steps(r)); diff != "" {
		t.Error(diff)
	}
	if l := r.Steps[1].Lock; l == nil || len(l.Caches) > 0 || !strings.Contains(l.Script, "uv export --frozen") || strings.Contains(l.Script, "--group") || len(l.Inputs) != 2 {
		t.Errorf("%+v", l)
	}
	for name, c := range map[string]struct {
		files map[string]string
		steps string // joined
		note  string
		has   string // a part of all scripts and inputs
	}{
		"group":          {map[string]string{"uv.lock": strings.Replace(lock, `virtual = "." }`, "virtual = \".\" }\n[package.dev-dependencies]\nbinder = []", 1), "pyproject.toml": project + "[dependency-groups]\nNotebook = [\"numpy\"]\nBinder = []\n"}, "wheels: uv.lock,pip: uv.lock", "", "--group 'Binder'"},
		"stale group":    {map[string]string{"uv.lock": lock, "pyproject.toml": project + "[dependency-groups]\nbinder = []\n"}, "wheels: pyproject.toml,pip: pyproject.toml", "it does not have the group binder", "numpy>=2"},
		"stale in group": {map[string]string{"uv.lock": lock, "pyproject.toml": project + "[dependency-groups]\nbinder = [\"idna\"]\n"}, "wheels: pyproject.toml,pip: pyproject.toml", "does not have the group binder", "idna"},
		"other index":    {map[string]string{"uv.lock": lock + uvPackage("torch", "2+cpu", `source = { registry = "https://example.org/whl" }`), "pyproject.toml": project}, "wheels: uv.lock,pip: uv.lock", "", "--extra-index-url https://example.org/whl"},
		"package":        {map[string]string{"uv.lock": uvHead + uvPackage("a", "1", `source = { editable = "." }`) + uvPackage("numpy", "2.1.0", registry), "pyproject.toml": project + "[build-system]\n"}, "wheels: uv.lock,pip: uv.lock,pip: packages of the repository", "", "local.txt"},
		"stale name":     {map[string]string{"uv.lock": uvHead + uvPackage("a", "1", registry), "pyproject.toml": project}, "wheels: pyproject.toml,pip: pyproject.toml", "numpy is not in it", "numpy>=2"},
		"stale version":  {map[string]string{"uv.lock": uvHead + uvPackage("numpy", "1.26.4", registry), "pyproject.toml": project}, "wheels: pyproject.toml,pip: pyproject.toml", "1.26.4, which is not >=2", "numpy>=2"},
		"requirements":   {map[string]string{"uv.lock": lock, "pyproject.toml": project, "requirements.txt": "x\n"}, "wheels: requirements.txt,pip: requirements.txt", "uv.lock is passed over: requirements.txt decides", ""},
		"no project":     {map[string]string{"uv.lock": lock}, "", "no pyproject.toml beside it", ""},
		"binder":         {map[string]string{"binder/uv.lock": lock, "binder/pyproject.toml": project, "requirements.txt": "x\n"}, "wheels: binder/uv.lock,pip: binder/uv.lock", "Only files in binder/", ""},
		"several locks":  {map[string]string{"uv.lock": lock, "pyproject.toml": project, "poetry.lock": "", "pylock.toml": ""}, "wheels: uv.lock,pip: uv.lock", "poetry.lock is passed over: uv.lock decides", ""},
		"workspace":      {map[string]string{"uv.lock": lock + uvPackage("b", "1", `source = { editable = "libs/b" }`), "pyproject.toml": project, "libs/b/pyproject.toml": "[project]\nname = \"b\"\n"}, "wheels: uv.lock,pip: uv.lock,pip: packages of the repository", "", "name = \"b\""},
		"environment":    {map[string]string{"uv.lock": lock, "environment.yml": ""}, "Jupyter", "uv.lock is there, but another file decides", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if have := strings.Join(steps(r)[1:], ","); have != c.steps {
				t.Errorf("steps %s", have)
			}
			if !strings.Contains(notes(r), c.note) {
				t.Errorf("no note has %q: %s", c.note, notes(r))
			}
			var all strings.Builder
			for _, s := range r.Steps[1:] {
				all.WriteString(s.Script)
				inputs := s.Inputs
				if s.Lock != nil {
					all.WriteString(s.Lock.Script)
					inputs = append(inputs, s.Lock.Inputs...)
				}
				for _, in := range inputs {
					all.Write(in.Content)
				}
			}
			if !strings.Contains(all.String(), c.has) {
				t.Errorf("no %q", c.has)
			}
		})
	}
	for name, text := range map[string]string{
		"version":  "version = 2\n",
		"no TOML":  "version = \n",
		"outside":  uvHead + uvPackage("numpy", "2.1.0", `source = { editable = "../b" }`),
		"requires": "version = 1\nrequires-python = \"newest\"\n" + uvPackage("numpy", "2.1.0", registry),
		"index":    uvHead + uvPackage("numpy", "2.1.0", `source = { registry = "https://example.org/ -r /etc" }`),
	} {
		if e := refused(t, repo(map[string]string{"uv.lock": text, "pyproject.toml": project})); e.File != "uv.lock" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestPythonOfWheels: a lock that was made for an older Python gets one.
func TestPythonOfWheels(t *testing.T) {
	wheels := func(files ...string) string {
		const before, after = `{ url = "https://example.org/`, `", hash = "` + hash0 + `" }`
		return "source = { registry = \"https://pypi.example/simple\" }\nwheels = [" + before + strings.Join(files, after+", "+before) + after + "]"
	}
	for name, c := range map[string]struct {
		wheels []string
		want   string
	}{
		"pure":         {[]string{"n-1-py3-none-any.whl"}, ""},
		"for all":      {[]string{"n-1-cp311-cp311-manylinux_2_17_x86_64.whl", "n-1-cp313-cp313-manylinux_2_17_x86_64.whl"}, ""},
		"older":        {[]string{"n-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "n-1-cp312-cp312-musllinux_1_2_x86_64.whl"}, "3.12"},
		"stable ABI":   {[]string{"n-1-cp39-abi3-manylinux_2_17_x86_64.whl"}, ""},
		"Windows only": {[]string{"n-1-cp311-cp311-win_amd64.whl"}, ""},
		"too old":      {[]string{"n-1-cp38-cp38-manylinux_2_17_x86_64.whl"}, ""},
		"not allowed":  {[]string{"n-1-cp310-cp310-manylinux_2_17_x86_64.whl"}, ""},
		"odd names":    {[]string{"n", "n.whl", "n-1-x-y-any.whl", "n-1-py2.py3-none-any.whl"}, ""},
	} {
		r := read(t, map[string]string{"uv.lock": uvHead + uvPackage("n", "1", wheels(c.wheels...)), "pyproject.toml": "[project]\nname = \"a\"\n"})
		if r.Python.Value != c.want {
			t.Errorf("%s: %+v", name, r.Python)
		}
		r = read(t, map[string]string{"uv.lock": uvHead + uvPackage("n", "1", wheels(c.wheels...)), "pyproject.toml": "[project]\nname = \"a\"\n", "runtime.txt": "python-3.14"})
		if r.Python.Value != "3.14" {
			t.Errorf("%s: runtime.txt does not decide: %+v", name, r.Python)
		}
	}
}

// TestVersionFiles: .python-version and others, weaker than runtime.txt, and at
// odds with requires-python only where they name a version.
func TestVersionFiles(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // "!" is an error
		says  string
	}{
		"plain":             {map[string]string{".python-version": "3.11\n"}, "3.11", ""},
		"patch":             {map[string]string{".python-version": "# ours\n3.11.4"}, "3.11", ""},
		"uv":                {map[string]string{".python-version": "cpython-3.12.1-linux-x86_64-gnu\n"}, "3.12", ""},
		"pyenv":             {map[string]string{".python-version": "miniconda3-4.7.12\n3.10.2\n3.11.1\n"}, "3.10", ""},
		"environment":       {map[string]string{".python-version": "my-project\n"}, "", ""},
		"PyPy":              {map[string]string{".python-version": "pypy3.9\n"}, "", ""},
		"range":             {map[string]string{".python-version": ">=3.11\n"}, "", ""},
		"free-threaded":     {map[string]string{".python-version": "3.13+freethreaded\n"}, "3.13", ""},
		"too old":           {map[string]string{".python-version": "3.7.1\n"}, "", "can't run today's Jupyter"},
		"system":            {map[string]string{".tool-versions": "python system\n"}, "", ""},
		"asdf":              {map[string]string{".tool-versions": "nodejs 20\npython 3.12.1 3.11 # two\n"}, "3.12", ""},
		"mise":              {map[string]string{"mise.toml": "[tools]\nnode = \"20\"\npython = \"3.11\"\n"}, "3.11", ""},
		"mise, list":        {map[string]string{"mise.toml": "[tools]\npython = [\"3.12\", \"3.11\"]\n"}, "3.12", ""},
		"mise, table":       {map[string]string{".mise.toml": "[tools]\npython = {version = \"3.10\", virtualenv = \".venv\"}\n"}, "3.10", ""},
		"mise, latest":      {map[string]string{"mise.toml": "[tools]\npython = \"latest\"\n"}, "", ""},
		"mise, broken":      {map[string]string{"mise.toml": "[tools\n"}, "", ""},
		"first wins":        {map[string]string{".python-version": "3.11", ".tool-versions": "python 3.12"}, "3.11", ""},
		"runtime.txt wins":  {map[string]string{".python-version": "3.11", "runtime.txt": "python-3.12"}, "3.12", ""},
		"any runtime":       {map[string]string{".python-version": "3.11", "runtime.txt": "python-3"}, "3.11", ""},
		"with requirements": {map[string]string{".python-version": "3.11", "requirements.txt": "a"}, "3.11", ""},
		"agrees":            {map[string]string{".python-version": "3.11", "pyproject.toml": "[project]\nrequires-python = \">=3.10\"\n"}, "3.11", ""},
		"disagrees":         {map[string]string{".python-version": "\n3.10.1", "pyproject.toml": "[project]\nrequires-python = \">=3.11\"\n"}, "!", ".python-version:2 .python-version asks for Python 3.10, but pyproject.toml requires >=3.11"},
		"disagrees, lock":   {map[string]string{".tool-versions": "python 3.10\n", "pyproject.toml": "[project]\nname = \"a\"\n", "uv.lock": uvHead}, "!", ".tool-versions:1 .tool-versions asks for Python 3.10, but uv.lock requires >=3.11"},
		"runtime, lock":     {map[string]string{"runtime.txt": "python-3.10\n", "pylock.toml": "lock-version = \"1.0\"\nrequires-python = \"==3.11.*\"\n"}, "!", "runtime.txt:1 runtime.txt asks for Python 3.10, but pylock.toml requires ==3.11.*"},
		"lock and project":  {map[string]string{"pyproject.toml": "[project]\nname = \"a\"\nrequires-python = \"<3.11\"\n", "uv.lock": uvHead}, "!", "pyproject.toml:3 No Python fits all that is required"},
		"binder":            {map[string]string{".python-version": "3.11", "binder/apt.txt": ""}, "", ""},
		"not beside conda":  {map[string]string{".python-version": "3.11", "environment.yml": ""}, "", ".python-version is there, but another file decides the version"},
		"poetry":            {map[string]string{"pyproject.toml": "[tool.poetry.dependencies]\npython = \"~3.11\"\n", "poetry.lock": "[metadata]\nlock-version = \"2.0\"\npython-versions = \"~3.11\"\n"}, "3.11", ""},
		"poetry, either":    {map[string]string{"pyproject.toml": "[tool.poetry]\n", "poetry.lock": "[metadata]\nlock-version = \"1.1\"\npython-versions = \"~2.7 || ^3.9,<3.12\"\n"}, "3.11", ""},
		"pylock":            {map[string]string{"pylock.toml": "lock-version = \"1.0\"\nrequires-python = \">=3.10,<3.13\"\n"}, "3.12", ""},
		"pdm":               {map[string]string{"pyproject.toml": "[project]\nname = \"a\"\n", "pdm.lock": "[metadata]\nlock_version = \"4.5.0\"\n[[metadata.targets]]\nrequires_python = \"==3.10.*\"\n"}, "3.10", ""},
		"groups alone":      {map[string]string{"pyproject.toml": "[dependency-groups]\nbinder = [\"a\"]\n", ".python-version": "3.12"}, "3.12", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want == "!" {
				e := refused(t, repo(c.files))
				if have := fmt.Sprintf("%s:%d %s", e.File, e.Line, e.Message); !strings.Contains(have, c.says) {
					t.Error(have)
				}
				return
			}
			r := read(t, c.files)
			if r.Python.Value != c.want || r.Python.Why == "" || !strings.Contains(notes(r), c.says) {
				t.Errorf("%+v, notes %s", r.Python, notes(r))
			}
		})
	}
}

// TestPoetrySpec: Poetry's own notation.
func TestPoetrySpec(t *testing.T) {
	for spec, want := range map[string]string{
		"^1.2.3": ">=1.2.3,<2", "^0.2.3": ">=0.2.3,<0.3", "^0.0.3": ">=0.0.3,<0.0.4", "^0": ">=0,<1", "^0.0": ">=0.0,<0.1", "^1": ">=1,<2", "^3.11": ">=3.11,<4",
		"~1.2.3": ">=1.2.3,<1.3", "~1.2": ">=1.2,<1.3", "~1": ">=1,<2", "~=1.4.2": "~=1.4.2", "*": "", "": "", "1.2": "==1.2", "1.2.*": "==1.2.*", "=1.2": "==1.2", "==1.2": "==1.2",
		">=1,<2": ">=1,<2", ">= 1, < 2": ">=1,<2", ">=1 <2": ">=1,<2", "^1.2 || ^2": ">=1.2,<2 or >=2,<3", "~2.7 | ^3.9": ">=2.7,<2.8 or >=3.9,<4", "!=1.5,^1": "!=1.5,>=1,<2", "^1.2b1": ">=1.2b1,<2",
	} {
		if have := strings.Join(recipe.PoetrySpec(spec), " or "); have != want {
			t.Errorf("%q is %q, want %q", spec, have, want)
		}
	}
}

// TestMarkers: what pylock.toml adds to markers goes, the rest stays.
func TestMarkers(t *testing.T) {
	chosen := map[string][]string{"extras": {"plot"}, "dependency_groups": {"dev"}}
	for marker, want := range map[string]string{
		"":                                   "",
		"python_version >= '3.9'":            "python_version >= '3.9'",
		"'plot' in extras":                   "",
		"'Plot' in extras":                   "",
		"'web' in extras":                    "never",
		"'web' not in extras":                "",
		"'dev' in dependency_groups":         "",
		"'dev' not in dependency_groups":     "never",
		"'web' in extras or os_name=='nt'":   "os_name == 'nt'",
		"'plot' in extras or os_name=='nt'":  "",
		"'plot' in extras and os_name=='nt'": "os_name == 'nt'",
		"'web' in extras and os_name=='nt'":  "never",
		"('web' in extras or 'plot' in extras) and os_name=='nt'":                                   "os_name == 'nt'",
		"(os_name=='nt' or os_name=='posix') and 'dev' in dependency_groups and python_version<'4'": "(os_name == 'nt' or os_name == 'posix') and python_version < '4'",
		"os_name=='nt' and python_version<'4' or 'dev' not in dependency_groups":                    "os_name == 'nt' and python_version < '4'",
		"'x' in platform_version": "'x' in platform_version",
		"os_name":                 "bad", "os_name == ": "bad", "(os_name == 'nt'": "bad", "os_name == 'nt')": "bad", "os_name == 'nt' and": "bad", "os_name ; 'nt'": "bad", "a not b": "bad", "a == b c == d": "bad",
		strings.Repeat("(", 100) + "a == b" + strings.Repeat(")", 100): "bad",
	} {
		rest, never, ok := recipe.Simplified(marker, chosen)
		have := rest
		if never {
			have = "never"
		}
		if !ok {
			have = "bad"
		}
		if have != want {
			t.Errorf("%q is %q, want %q", marker, have, want)
		}
	}
}

// TestPylock has each kind of entry.
func TestPylock(t *testing.T) {
	const wheel = "wheels = [{url = \"https://example.org/a-1-py3-none-any.whl\", hashes = {sha256 = \"00\"}}]\n"
	for entry, want := range map[string]string{
		"version = \"1\"\n" + wheel:                                                                 "a==1 --hash=sha256:00",
		"version = \"1\"\nindex = \"https://example.org/simple\"\n" + wheel:                         "--extra-index-url https://example.org/simple\na==1 --hash=sha256:00",
		"version = \"1\"\nmarker = \"'x' in extras or os_name == 'posix'\"\n" + wheel:               "a==1; os_name == 'posix' --hash=sha256:00",
		"version = \"1\"\nmarker = \"'binder' in dependency_groups\"\n" + wheel:                     "a==1 --hash=sha256:00",
		"vcs = {type = \"git\", url = \"https://example.org/a\", commit-id = \"0123\"}\n":           "a @ git+https://example.org/a@0123",
		"vcs = {type = \"hg\", url = \"https://example.org/a\", commit-id = \"0123\"}\n":            "",
		"directory = {path = \"libs/a\", editable = true}\n":                                        "-e ./libs/a",
		"directory = {path = \"../a\"}\n":                                                           "",
		"archive = {url = \"https://example.org/a.zip\", hashes = {sha256 = \"00\"}}\n":             "a @ https://example.org/a.zip --hash=sha256:00",
		"archive = {path = \"a-1.tar.gz\", hashes = {sha256 = \"00\"}}\n":                           "./a-1.tar.gz",
		"version = \"1\"\nwheels = [{path = \"w/a-1-py3-none-any.whl\", hashes = {sha256=\"00\"}}]": "./w/a-1-py3-none-any.whl",
		"version = \"1\"\n": "",
		"version = \"1\"\nmarker = \"nonsense\"\n" + wheel:                              "",
		"version = \"one\"\n" + wheel:                                                   "",
		"version = \"1\"\nwheels = [{name = \"x\", hashes = {sha256 = \"zz\\n-r x\"}}]": "",
	} {
		text := "lock-version = \"1.0\"\ndependency-groups = [\"binder\"]\n[[packages]]\nname = \"a\"\n" + entry
		files := map[string]string{"pylock.toml": text}
		if want == "" {
			if e := refused(t, repo(files)); e.File != "pylock.toml" || e.Line != 4 {
				t.Errorf("%s: %+v", entry, e)
			}
			continue
		}
		r := read(t, files)
		have := ""
		for _, in := range r.Steps[len(r.Steps)-1].Inputs {
			if in.Name != "compile.py" {
				have = string(in.Content)
			}
		}
		if diff := cmp.Diff(want+"\n", have); diff != "" {
			t.Errorf("%s: %s", entry, diff)
		}
	}
	if e := refused(t, repo(map[string]string{"pylock.toml": "\nlock-version = \"2.0\"\n"})); e.Line != 2 {
		t.Errorf("%+v", e)
	}
	// The root's package is installed beside a lock that does not have it.
	r := read(t, map[string]string{"pylock.toml": "lock-version = \"1.0\"\n", "pyproject.toml": "[project]\nname = \"a\"\n[build-system]\n"})
	if diff := cmp.Diff([]string{"Python and Jupyter", "pip: the repository itself"}, steps(r)); diff != "" {
		t.Error(diff)
	}
}

const poetryHead = "[metadata]\nlock-version = \"2.1\"\npython-versions = \">=3.9\"\n[metadata.files]\nold = [{file = \"old-1.tar.gz\", hash = \"" + hash0 + "\"}]\n"

func poetryPackage(name, version, more string) string {
	return fmt.Sprintf("[[package]]\nname = %q\nversion = %q\nfiles = [{file = %q, hash = %q}]\n%s\n", name, version, name+"-"+version+"-py3-none-any.whl", hash1, more)
}

// TestWanted: what pyproject.toml wants of a poetry.lock or a pdm.lock, in which
// versions.
func TestWanted(t *testing.T) {
	const numpy, source = "numpy==2.1.0 --hash=" + hash1 + "\n", "[package.source]\n"
	lock := poetryPackage("numpy", "2.1.0", "") + poetryPackage("six", "1.17.0", "") + poetryHead
	pdm := strings.ReplaceAll(poetryPackage("numpy", "2.1.0", ""), "python-versions", "requires_python") + "[metadata]\nlock_version = \"4.5.0\"\n"
	for name, c := range map[string]struct {
		lock, project string // "pdm" first for pdm.lock
		want          string // of the requirements; "" is refused
		constraints   string
		note          string
	}{
		"legacy":           {lock, "[tool.poetry.dependencies]\npython = \"^3.9\"\nnumpy = \"^2\"\n", "numpy\n", numpy, ""},
		"extras, markers":  {lock, "[tool.poetry.dependencies]\nnumpy = {version = \"^2\", extras = [\"x\"], markers = \"os_name == 'posix'\", python = \">=3.9,<3.13\"}\n", "numpy[x]; (os_name == 'posix') and (python_full_version >= '3.9' and python_full_version < '3.13')\n", numpy, ""},
		"platform":         {lock, "[tool.poetry.dependencies]\nnumpy = {version = \"*\", platform = \"linux\"}\n", "numpy; sys_platform == 'linux'\n", numpy, ""},
		"several":          {lock, "[tool.poetry.dependencies]\nnumpy = [{version = \"^1\", python = \"<3.9\"}, {version = \"^2\", python = \">=3.9\"}]\n", "numpy>=1,<2; (python_full_version < '3.9')\nnumpy; (python_full_version >= '3.9')\n", numpy, ""},
		"optional":         {lock, "[tool.poetry.dependencies]\nnumpy = \"*\"\nsix = {version = \"*\", optional = true}\n[tool.poetry.extras]\nold = [\"six\"]\n", "numpy\n", numpy, ""},
		"extra binder":     {lock, "[tool.poetry.dependencies]\nsix = {version = \"*\", optional = true}\n[tool.poetry.extras]\nbinder = [\"six\"]\n", "six\n", numpy, ""},
		"groups":           {lock, "[tool.poetry.dependencies]\nnumpy = \"*\"\n[tool.poetry.group.dev.dependencies]\nsix = \"*\"\n", "numpy\nsix\n", numpy, ""},
		"optional group":   {lock, "[tool.poetry.dependencies]\nnumpy = \"*\"\n[tool.poetry.group.docs]\noptional = true\n[tool.poetry.group.docs.dependencies]\nsix = \"*\"\n", "numpy\n", numpy, ""},
		"jupyter group":    {lock, "[tool.poetry.dependencies]\nnumpy = \"*\"\n[tool.poetry.group.jupyter]\noptional = true\n[tool.poetry.group.jupyter.dependencies]\nsix = \"*\"\n", "numpy\nsix\n", numpy, ""},
		"dev-dependencies": {lock, "[tool.poetry.dev-dependencies]\nsix = \"*\"\n", "six\n", numpy, ""},
		"project":          {lock, "[project]\nname = \"a\"\ndependencies = [\"NumPy (>=2,<3)\"]\n[project.optional-dependencies]\nbinder = [\"six[y] ; os_name=='posix'\"]\nx = [\"z\"]\n", "NumPy\nsix[y]; os_name=='posix'\n", numpy, ""},
		"PEP 735":          {lock, "[project]\nname = \"a\"\n[dependency-groups]\ndev = [\"six\"]\n", "six\n", numpy, ""},
		"stale":            {lock, "[tool.poetry.dependencies]\nnumpy = \"*\"\nidna = \"^3\"\n", "idna>=3,<4\nnumpy\n", numpy, "it does not have idna"},
		"stale version":    {lock, "[tool.poetry.dependencies]\nnumpy = \"^3\"\n", "numpy>=3,<4\n", "six", "its version of numpy does not fit"},
		"git":              {poetryPackage("numpy", "2.1.0", source+"type = \"git\"\nurl = \"https://example.org/n.git\"\nreference = \"main\"\nresolved_reference = \"0123\"\n") + poetryHead, "[tool.poetry.dependencies]\nnumpy = {git = \"https://example.org/n.git\", branch = \"main\"}\n", "numpy @ git+https://example.org/n.git@0123\n", "", ""},
		"path":             {poetryPackage("numpy", "2.1.0", source+"type = \"directory\"\nurl = \"libs/n\"\n") + poetryHead, "[tool.poetry.dependencies]\nnumpy = {path = \"libs/n\", develop = true}\n", "-e ./libs/n\n", "", "installed anew for every commit"},
		"path outside":     {lock, "[tool.poetry.dependencies]\nx = {path = \"../n\"}\n", "", "", ""},
		"other index":      {poetryPackage("numpy", "2.1.0", source+"type = \"legacy\"\nurl = \"https://example.org/simple\"\nreference = \"x\"\n") + poetryHead, "[tool.poetry.dependencies]\nnumpy = {version = \"*\", source = \"x\"}\n", "--extra-index-url https://example.org/simple\nnumpy\n", numpy, ""},
		"files of 1.0":     {strings.ReplaceAll(poetryPackage("old", "1", ""), "files = ", "other = ") + poetryHead, "[tool.poetry.dependencies]\nold = \"1\"\n", "old\n", "old==1 --hash=" + hash0 + "\n", ""},
		"bad spec":         {lock, "[tool.poetry.dependencies]\nnumpy = 2\n", "", "", ""},
		"line break":       {lock, "[tool.poetry.dependencies]\nnumpy = {git = \"x\\n-r /etc\"}\n", "", "", ""},
		"pdm":              {pdm, "[project]\nname = \"a\"\ndependencies = [\"numpy>=2\"]\n", "numpy\n", numpy, ""},
		"pdm, groups":      {pdm, "[project]\nname = \"a\"\ndependencies = [\"numpy\"]\n[dependency-groups]\nx = [{include-group = \"y\"}]\ny = [\"six\"]\n[tool.pdm.dev-dependencies]\nz = [\"idna\"]\n", "numpy\nidna\nsix\nsix\n", numpy, "does not have six"},
	} {
		t.Run(name, func(t *testing.T) {
			file := "poetry.lock"
			if strings.HasPrefix(name, "pdm") {
				file = "pdm.lock"
			}
			files := map[string]string{file: c.lock, "pyproject.toml": c.project}
			if c.want == "" {
				if e := refused(t, repo(files)); e.File != "pyproject.toml" || e.Line == 0 {
					t.Errorf("%+v", e)
				}
				return
			}
			r := read(t, files)
			step := "pip: " + file
			if diff := cmp.Diff(c.want, input(t, r, step, "requirements.txt")); diff != "" {
				t.Error(diff)
			}
			if c.constraints != "" && !strings.HasPrefix(input(t, r, step, "constraints.txt"), c.constraints) {
				t.Errorf("constraints %s", input(t, r, step, "constraints.txt"))
			}
			if !strings.Contains(notes(r), c.note) || (c.note == "" && notes(r) != "") {
				t.Error(notes(r))
			}
		})
	}
	for text, line := range map[string]int{
		"[metadata]\nlock-version = \"3.0\"\n": 2, "[[package]]\nname = \"a\nb\"\n": 2, "[[package]]\nname = \"a\"\nversion = \"x\"\n" + poetryHead: 2, "": 1,
		poetryPackage("a", "1\\n-r x", "") + poetryHead: 2,
	} {
		if e := refused(t, repo(map[string]string{"poetry.lock": text, "pyproject.toml": ""})); e.File != "poetry.lock" || e.Line != line {
			t.Errorf("%q: %+v", text, e)
		}
	}
	for _, itself := range []struct {
		project string
		there   bool
	}{
		{"[tool.poetry]\nname = \"a-b\"\n[build-system]\n", true},
		{"[tool.poetry]\nname = \"a-b\"\n", false},
		{"[tool.poetry]\nname = \"a-b\"\npackage-mode = false\n[build-system]\n", false},
		{"[tool.poetry]\nname = \"other\"\n[build-system]\n", false},
		{"[tool.poetry]\nname = \"other\"\npackages = [{include = \"a_b\"}]\n[build-system]\n", true},
	} {
		r := read(t, map[string]string{"poetry.lock": poetryHead, "pyproject.toml": itself.project, "src/a_b/__init__.py": ""})
		if have := strings.Contains(strings.Join(steps(r), ","), "the repository itself"); have != itself.there {
			t.Errorf("%s: %v", itself.project, steps(r))
		}
	}
}

// TestGroups is PEP 735, with our rule for the name.
func TestGroups(t *testing.T) {
	const file = "pyproject.toml"
	for text, want := range map[string]string{
		"[dependency-groups]\nbinder = [\"a\", \"b >= 1\"]\n":                                                      "a\nb>=1\n",
		"[dependency-groups]\nBinder = [\"a\"]\nnotebook = [\"b\"]\n":                                              "a\n",
		"[dependency-groups]\njupyter = [\"c\"]\nnotebook = [\"b\"]\n":                                             "b\n",
		"[dependency-groups]\njupyter = [{include-group = \"My_Test\"}]\nmy-test = [\"c\"]\n":                      "c\n",
		"[dependency-groups]\ndev = [\"a\"]\n":                                                                     "",
		"[project]\nname = \"x\"\ndependencies = [\"z\"]\n[dependency-groups]\nbinder = [\"a\"]\n":                 "a\n",
		"[project]\nname = \"x\"\ndependencies = [\"z\"]\n[build-system]\n[dependency-groups]\nbinder = [\"a\"]\n": "z\na\n",
	} {
		r := read(t, map[string]string{file: text})
		have := ""
		for _, s := range r.Steps {
			if s.Name == "pip: "+file {
				have = input(t, r, s.Name, "requirements.txt")
			}
		}
		if have != want {
			t.Errorf("%s gives %q, want %q", text, have, want)
		}
	}
	for text, line := range map[string]int{
		"[dependency-groups]\nbinder = [{include-group = \"a\"}]\na = [\n{include-group = \"binder\"}]\n": 4,
		"[dependency-groups]\nbinder = [{include-group = \"binder\"}]\n":                                  2,
		"[dependency-groups]\nbinder = []\na_b = []\n\"A.b\" = []\n":                                      4,
		"[dependency-groups]\nbinder = [{include-group = \"none\"}]\n":                                    2,
		"[dependency-groups]\nbinder = [{other = \"none\"}]\n":                                            2,
		"[dependency-groups]\nbinder = [1]\n":                                                             2,
		"[dependency-groups]\nbinder = [\n  \"a\",\n  \"b c\",\n]\n":                                      4,
		"[dependency-groups]\nbinder = 1\n":                                                               2,
	} {
		if e := refused(t, repo(map[string]string{file: text})); e.File != file || e.Line != line {
			t.Errorf("%s: %s:%d %s", text, e.File, e.Line, e.Message)
		}
	}
	if r := read(t, map[string]string{file: "[dependency-groups]\nbinder = [\"a\"]\n", "requirements.txt": "b"}); !strings.Contains(notes(r), "group binder is passed over") {
		t.Error(notes(r))
	}
}

// notebook has a code cell with that source, after one of text.
func notebook(source string) string {
	return fmt.Sprintf(`{"metadata": {"a": [1, {"cells": 2}]}, "cells": [{"cell_type": "markdown", "source": ["# /// script"]},%c{"cell_type": "code", "source": %s}], "nbformat": 4}`, '\n', source)
}

// TestInline is PEP 723, in scripts and notebooks of the root.
func TestInline(t *testing.T) {
	script := func(lines ...string) string {
		return "#!/usr/bin/env python\n# /// script\n# " + strings.Join(lines, "\n# ") + "\n# ///\nimport a\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
		note  string
	}{
		"script":           {map[string]string{"a.py": script(`dependencies = ["b >= 1", "c"]`)}, "b>=1\nc\n", ""},
		"notebook":         {map[string]string{"a.ipynb": notebook(`["# /// script\n", "# dependencies = [\"b\"]\n", "# ///"]`)}, "b\n", ""},
		"text":             {map[string]string{"a.ipynb": notebook(`"# /// script\n# dependencies = [\n#   \"b\",\n# ]\n# ///\nimport b"`)}, "b\n", ""},
		"union":            {map[string]string{"a.py": script(`dependencies = ["b", "c"]`), "b.py": script(`dependencies = ["c", "d"]`)}, "b\nc\nd\n", ""},
		"Windows":          {map[string]string{"a.py": strings.ReplaceAll(script(`dependencies = ["b"]`), "\n", "\r\n")}, "b\n", ""},
		"another type":     {map[string]string{"a.py": strings.ReplaceAll(script(`dependencies = ["b"]`), "/// script", "/// tool")}, "", ""},
		"not closed":       {map[string]string{"a.py": "# /// script\n# dependencies = [\"b\"]\n"}, "", ""},
		"not at the root":  {map[string]string{"x/a.py": script(`dependencies = ["b"]`)}, "", ""},
		"requirements.txt": {map[string]string{"a.py": script(`dependencies = ["b"]`), "requirements.txt": "x"}, "x\n", ""},
		"a package":        {map[string]string{"a.py": script(`dependencies = ["b"]`), "pyproject.toml": "[project]\nname = \"a\"\n"}, "", "is not installed"},
		"tools' pyproject": {map[string]string{"a.py": script(`dependencies = ["b"]`), "pyproject.toml": "[tool.ruff]\n"}, "b\n", ""},
		"binder":           {map[string]string{"a.py": script(`dependencies = ["b"]`), "binder/apt.txt": ""}, "", ""},
		"broken notebook":  {map[string]string{"a.ipynb": `{"cells": [{`, "b.ipynb": `[]`, "c.ipynb": ``, "d.py": "\x00"}, "", ""},
		"no dependencies":  {map[string]string{"a.py": script(`requires-python = ">=3.9"`)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			have := ""
			for _, s := range r.Steps {
				for _, in := range s.Inputs {
					if strings.HasPrefix(s.Name, "pip:") && in.Name == "requirements.txt" {
						have = string(in.Content)
					}
				}
			}
			if have != c.want || !strings.Contains(notes(r), c.note) {
				t.Errorf("%q, notes %s", have, notes(r))
			}
		})
	}
	r := read(t, map[string]string{"a.py": script(`requires-python = ">=3.10"`, `dependencies = ["b"]`), "b.py": script(`requires-python = "<3.12"`, `dependencies = []`)})
	if r.Python.Value != "3.11" || r.Packages()[0].From != (recipe.Location{File: "a.py", Line: 4}) {
		t.Errorf("%+v %+v", r.Python, r.Packages())
	}
	for name, c := range map[string]struct {
		files map[string]string
		at    string
		says  string
	}{
		"two versions": {map[string]string{"a.py": script(`dependencies = ["b==1"]`), "b.ipynb": notebook(`"# /// script\n# dependencies = [\"b==2\"]\n# ///"`)}, "b.ipynb:2", "a.py, line 3, wants ==1"},
		"two Pythons":  {map[string]string{"a.py": script(`requires-python = "<3.11"`), "b.py": script(`requires-python = ">=3.12"`)}, "a.py:3", "b.py requires >=3.12"},
		"two blocks":   {map[string]string{"a.py": script(`dependencies = []`) + script(`dependencies = []`)}, "a.py:2", "two blocks"},
		"no TOML":      {map[string]string{"a.py": script(`dependencies = []`, `x = `)}, "a.py:4", "can't be read"},
		"bad Python":   {map[string]string{"a.py": script(`requires-python = "new"`)}, "a.py:3", "version specifier"},
		"bad line":     {map[string]string{"a.py": script(`dependencies = [`, `  "b c",`, `]`)}, "a.py:4", "not a requirement"},
	} {
		e := refused(t, repo(c.files))
		if have := fmt.Sprintf("%s:%d", e.File, e.Line); have != c.at || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %s %s", name, have, e.Message)
		}
	}
	many := map[string]string{}
	for i := range 200 {
		many[fmt.Sprintf("s%03d.py", i)] = script(fmt.Sprintf("dependencies = [\"p%d\"]", i))
	}
	c := &counting{FS: repo(many)}
	r, err := recipe.Read(c, recipe.Options{})
	if err != nil || len(r.Packages()) != 50 || c.opened > 300 || !strings.Contains(notes(r), "first 50") {
		t.Errorf("%v: %d packages of %d files, %s", err, len(r.Packages()), c.opened, notes(r))
	}
}

// TestHiddenPasswords: addresses may have one; people see none.
func TestHiddenPasswords(t *testing.T) {
	const address = "https://me:injected@example.org/"
	for _, files := range []map[string]string{
		{"requirements.txt": "--index-url " + address + "simple\n--find-links " + address + "\nnumpy\na @ " + address + "a.whl\n-e git+" + address + "b\ngit+" + address + "c\n"},
		{"Pipfile": "[[source]]\nname = \"x\"\nurl = \"" + address + "\"\n[packages]\na = {git = \"" + address + "a\", editable = true}\nb = {file = \"" + address + "b.zip\"}\n"},
		{"pylock.toml": "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nindex = \"" + address + "\"\nvcs = {type = \"git\", url = \"" + address + "\", commit-id = \"0\"}\n"},
	} {
		r := read(t, files)
		if all := fmt.Sprint(r.Packages(), r.Notes, r.Files, r.Python, steps(r)); strings.Contains(all, "injected") {
			t.Error(all)
		}
	}
}

// TestRequirementKinds is repo2docker's table of what is local, with what pip takes
// and repo2docker's reading does not.
func TestRequirementKinds(t *testing.T) {
	for line, c := range map[string]struct {
		stage recipe.Stage // of the last step; empty is no step, "!" refused
		want  string
	}{
		"-r more.txt":            {recipe.StageEnvironment, "there\n"}, // not local: it is read
		"--requirement more.txt": {recipe.StageEnvironment, "there\n"},
		"-rmore.txt":             {recipe.StageEnvironment, "there\n"},
		"-c more.txt":            {"", ""},
		"--constraint more.txt":  {"", ""},
		"--editable=git+https://example.org/stdpopsim.git#egg=stdpopsim-master": {recipe.StageEnvironment, "-e git+https://example.org/stdpopsim.git#egg=stdpopsim-master\n"},
		"git://example.org/repo2docker":                                         {"!", ""}, // uv takes it for a path
		"git+https://example.org/repo2docker":                                   {recipe.StageEnvironment, "git+https://example.org/repo2docker\n"},
		"# -e .":                                                                {"", ""},
		"--pre":                                                                 {"", ""},
		"--pre pandas":                                                          {"", ""},
		"--requirement=more.txt":                                                {recipe.StageEnvironment, "there\n"},
		"--requirement local.txt":                                               {recipe.StageContent, "-e .\n"},
		"-c more.txt\nhere":                                                     {recipe.StageEnvironment, "here\n"},
		"--constraint=more.txt\nhere":                                           {recipe.StageEnvironment, "here\n"},
		"--index-url https://pypi.example/simple/\nthere":                       {recipe.StageEnvironment, "there\n"}, // pip-compile writes it; the hub may have a mirror
		"-i https://example.org/simple\nthere":                                  {recipe.StageEnvironment, "--index-url https://example.org/simple\nthere\n"},
		"--extra-index-url=https://example.org/simple\nthere":                   {recipe.StageEnvironment, "--extra-index-url https://example.org/simple\nthere\n"},
		"--find-links ./wheels\nthere":                                          {recipe.StageContent, "--find-links ./wheels\nthere\n"},
		"./wheels/there-1-py3-none-any.whl":                                     {recipe.StageContent, "./wheels/there-1-py3-none-any.whl\n"},
		"there @ file:./there":                                                  {recipe.StageContent, "there @ file:./there\n"},
		"there[x] == 1.0 ; python_version<'3.14' \\\n  --hash=sha256:00":        {recipe.StageEnvironment, "there[x]==1.0; python_version<'3.14' --hash=sha256:00\n"},
		"\ufeffthere":                                                           {recipe.StageEnvironment, "there\n"},
		"there\r\nhere":                                                         {recipe.StageEnvironment, "there\nhere\n"},
		"there==1  # via here":                                                  {recipe.StageEnvironment, "there==1\n"},
		"there@https://example.org/there.zip":                                   {recipe.StageEnvironment, "there@https://example.org/there.zip\n"},
		"-e ./none/../..":                                                       {"!", ""},
		"-e":                                                                    {"!", ""},
		"--unrecognized":                                                        {"!", ""},
		"-c none.txt":                                                           {"!", ""},
	} {
		files := map[string]string{"requirements.txt": line, "more.txt": "there\n", "local.txt": "-e .\n"}
		if c.stage == "!" {
			if e := refused(t, repo(files)); e.Line != 1 {
				t.Errorf("%q: %+v", line, e)
			}
			continue
		}
		r := read(t, files)
		last := r.Steps[len(r.Steps)-1]
		if c.stage == "" {
			if len(r.Steps) != 1 {
				t.Errorf("%q: %v", line, steps(r))
			}
			continue
		}
		if have := input(t, r, last.Name, "requirements.txt"); have != c.want || last.Stage != c.stage {
			t.Errorf("%q: %q in %s", line, have, last.Stage)
		}
	}
}

// TestExplainLocks has uv's own words.
func TestExplainLocks(t *testing.T) {
	r := read(t, map[string]string{"uv.lock": uvHead + uvPackage("numpy", "2.1.0", `source = { registry = "https://pypi.example/simple" }`), "pyproject.toml": "[project]\nname = \"a\"\n"})
	for said, want := range map[string]string{
		"error: The lockfile at `uv.lock` needs to be updated, but `--frozen` was provided: Missing workspace member `y`.\n\nhint: To update the lockfile, run `uv lock`.":    "uv.lock:0 uv.lock is older than pyproject.toml.",
		"error: Group `new` is not defined in the project's `dependency-groups` table":                                                                                        "uv.lock:0 uv.lock does not have a dependency group",
		"error: Failed to download `numpy==2.1.0`\n  cause: Hash mismatch for `numpy==2.1.0`\n\n  Expected:\n    sha256:00\n\n  Computed:\n    sha256:11":                     "uv.lock:5 What was downloaded for numpy is not what its hash says.",
		"error: No solution found when resolving dependencies:\n  cause: Because there is no version of numpy==2.1.0 and you require numpy==2.1.0, we can conclude that bad.": "uv.lock:5 The version asked for of numpy does not exist.",
	} {
		for _, step := range []string{"pip: uv.lock", "Versions: uv.lock"} {
			e := recipe.Explain(r, step, strings.Split(said, "\n"))
			have := fmt.Sprintf("%s:%d %s", e.File, e.Line, e.Message)
			if step[0] == 'V' && strings.Contains(want, ":5") {
				continue // it asks no index
			}
			if !strings.HasPrefix(have, want) || e.Hint == "" {
				t.Errorf("%s: %s", step, have)
			}
		}
	}
}

// TestLocksAndCaches: what is shared by all repositories is filled with wheels
// only, whatever a lock names.
func TestLocksAndCaches(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"Pipfile.lock": {"Pipfile.lock": pipfileLock("", `"a": {"git": "https://example.org/a", "ref": "0"}`, `"b": {"version": "==1"}`, `"c": {"file": "https://example.org/c.zip"}`, `"d": {"path": "./d"}`)},
		"pylock.toml":  {"pylock.toml": "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nvcs = {type = \"git\", url = \"https://example.org/a\", commit-id = \"0\"}\n[[packages]]\nname = \"b\"\nversion = \"1\"\nwheels = [{name = \"b-1-py3-none-any.whl\", hashes = {sha256 = \"00\"}}]\n"},
		"uv.lock":      {"uv.lock": uvHead + uvPackage("b", "1", `source = { registry = "https://pypi.example/simple" }`) + uvPackage("a", "1", `source = { git = "https://example.org/a#0" }`), "pyproject.toml": "[project]\nname = \"x\"\n"},
		"poetry.lock":  {"poetry.lock": poetryPackage("b", "1", "") + poetryPackage("a", "1", "[package.source]\ntype = \"git\"\nurl = \"https://example.org/a\"\n") + poetryHead, "pyproject.toml": "[tool.poetry.dependencies]\na = \"*\"\nb = \"*\"\n"},
	} {
		cached := 0
		for _, s := range read(t, files).Steps[1:] {
			if l := s.Lock; l != nil && len(l.Caches) > 0 && !strings.Contains(l.Script, "--only-binary :all:") {
				t.Errorf("%s: %q may build what it resolves", name, l.Name)
			}
			if len(s.Caches) == 0 {
				continue
			}
			cached++
			if s.Stage != recipe.StageBinary || !strings.Contains(s.Script, "--no-deps --only-binary :all:") {
				t.Errorf("%s: %q has a shared cache: %s", name, s.Name, s.Script)
			}
			for _, in := range s.Inputs {
				if in.Name != "compile.py" && strings.Contains(string(in.Content), "example.org") {
					t.Errorf("%s: %q fetches what must be built: %s", name, s.Name, in.Content)
				}
			}
		}
		if cached != 1 {
			t.Errorf("%s: %d steps have a shared cache, want one", name, cached)
		}
	}
}

// TestFreezeLocks: who has a lock needs no other.
func TestFreezeLocks(t *testing.T) {
	r := read(t, map[string]string{"binder/Pipfile.lock": pipfileLock("", `"b": {"version": "==1"}`)})
	frozen, notes := recipe.Freeze(r, map[string]string{"requirements.txt": "b==1\n"})
	if len(frozen) != 0 || len(notes) != 1 || notes[0].File != "binder/Pipfile.lock" {
		t.Errorf("%+v %+v", frozen, notes)
	}
}

// TestBuildTools: what packages of the tree are built with is fetched once for all
// repositories, unless it is more than a wheel of a known name.
func TestBuildTools(t *testing.T) {
	system := func(requires string) string {
		return "[project]\nname = \"a\"\n[build-system]\nrequires = [" + requires + "]\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string // empty is none
	}{
		"one":          {map[string]string{"pyproject.toml": system(`"flit_core >=3.2,<4"`)}, "flit_core >=3.2,<4\n"},
		"hatchling":    {map[string]string{"pyproject.toml": system(`"hatchling"`)}, "editables\nhatchling\n"},
		"setup.py":     {map[string]string{"setup.py": ""}, "setuptools\nwheel\n"},
		"extras":       {map[string]string{"pyproject.toml": system(`"setuptools>=64", "setuptools_scm[toml]>=8"`)}, "setuptools>=64\nsetuptools_scm[toml]>=8\n"},
		"unknown":      {map[string]string{"pyproject.toml": system(`"hatchling", "cython"`)}, ""},
		"address":      {map[string]string{"pyproject.toml": system(`"hatchling @ https://example.org/h.whl"`)}, ""},
		"option":       {map[string]string{"pyproject.toml": system(`"hatchling --index-url=https://example.org"`)}, ""},
		"lines":        {map[string]string{"pyproject.toml": system(`"hatchling>=1\\n-r /etc/passwd"`)}, ""},
		"in the tree":  {map[string]string{"pyproject.toml": system(`"setuptools"`) + "backend-path = [\".\"]\n"}, ""},
		"beside it":    {map[string]string{"Pipfile.lock": `{"default": {"b": {"path": "./libs/b", "editable": true}}}`, "libs/b/pyproject.toml": system(`"poetry-core"`)}, "poetry-core\n"},
		"only a wheel": {map[string]string{"Pipfile.lock": `{"default": {"b": {"path": "./b-1-py3-none-any.whl"}}}`}, ""},
		"a source":     {map[string]string{"Pipfile.lock": `{"default": {"b": {"path": "./b-1.tar.gz"}}}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			have := ""
			for _, s := range read(t, c.files).Steps {
				if s.Build != nil {
					if s.Stage != recipe.StageContent || !strings.Contains(s.Script, recipe.BuildDir) {
						t.Errorf("%s does not use it", s.Name)
					}
					have = string(s.Build.Inputs[0].Content)
				}
			}
			if have != c.want {
				t.Errorf("built with %q, want %q", have, c.want)
			}
		})
	}
}
