package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

const workspace = "[workspace]\nchannels = [\"conda-forge\"]\nplatforms = [\"linux-64\"]\n"

// TestPixi gives each manifest: what is solved, and what pip gets.
func TestPixi(t *testing.T) {
	const free = `,"prefer":["python 3.13.*"],"constraints":["python \u003e=3.9"],"priority":"strict"}`
	for name, c := range map[string]struct {
		file, text string
		wanted     string
		pip, own   string // requirements before and after the tree
		notes      []string
	}{
		"nothing": {"pixi.toml", workspace, `{"channels":["conda-forge"],"specs":["pip","python"]` + free, "", "", nil},
		"versions": {
			"pixi.toml", workspace + "[dependencies]\npython = \"3.12.*\"\nnumpy = \"*\"\nscipy = \">=1.11,<2\"\npytorch = { version = \">=2\", build = \"cpu*\", channel = \"pytorch\" }\n",
			`{"channels":["conda-forge"],"specs":["numpy","pip","python 3.12.*","pytorch[version=\"\u003e=2\",build=\"cpu*\",channel=\"pytorch\"]","scipy \u003e=1.11,\u003c2"],"priority":"strict"}`, "", "", nil,
		},
		"old name, priorities": {
			"binder/pixi.toml", "[project]\nname = \"a\"\nchannels = [\"a\", { channel = \"b\", priority = 1 }, \"https://example.org/c/\"]\nchannel-priority = \"disabled\"\n",
			strings.Replace(`{"channels":["b","a","https://example.org/c"],"specs":["pip","python"]`+free, "strict", "disabled", 1), "", "", nil,
		},
		"targets": {
			"pixi.toml", workspace + "[dependencies]\na = \"1.*\"\n[target.unix.dependencies]\na = \"2.*\"\nb = \"*\"\n[target.linux-64.dependencies]\na = \"3.*\"\n[target.linux-aarch64.dependencies]\na = \"4.*\"\n[target.win-64.dependencies]\nc = \"*\"\n",
			`{"channels":["conda-forge"],"specs":["a 3.*","b","pip","python"]` + free, "", "", nil,
		},
		"host and build": {
			"pixi.toml", workspace + "[build-dependencies]\ncmake = \"*\"\n[host-dependencies]\npython = \"3.12.*\"\n",
			`{"channels":["conda-forge"],"specs":["cmake","pip","python 3.12.*"],"priority":"strict"}`, "", "", nil,
		},
		"PyPI": {
			"pixi.toml", workspace + `[pypi-dependencies]
b = ">=1,<2"
c = { version = "==1", extras = ["x", "y"] }
d = { git = "https://example.org/d.git", rev = "abc", subdirectory = "py" }
e = { path = ".", editable = true }
f = { path = "libs/f", extras = ["x"] }
g = { url = "https://example.org/g-1-py3-none-any.whl" }
h = { version = "*", index = "https://example.org/simple" }
i = "1.5"
[pypi-options]
extra-index-urls = ["https://example.org/extra"]
`,
			`{"channels":["conda-forge"],"specs":["pip","python"]` + free,
			"--extra-index-url https://example.org/simple\n--extra-index-url https://example.org/extra\nb>=1,<2\nc[x,y]==1\nd @ git+https://example.org/d.git@abc#subdirectory=py\ng @ https://example.org/g-1-py3-none-any.whl\nh\ni==1.5\n",
			"--extra-index-url https://example.org/simple\n--extra-index-url https://example.org/extra\n-e .\n./libs/f[x]\n", nil,
		},
		"environments": {
			"pixi.toml", workspace + "[dependencies]\na = \"*\"\n[feature.lab.dependencies]\nb = \"*\"\na = \"<2\"\n[feature.test.dependencies]\nc = \"*\"\n[environments]\njupyter = [\"lab\"]\ntest = [\"test\"]\n",
			`{"channels":["conda-forge"],"specs":["a","a \u003c2","b","pip","python"]` + free, "", "", nil,
		},
		"binder first, without default": {
			"pixi.toml", workspace + "[dependencies]\na = \"*\"\n[feature.lab]\nchannels = [\"lab\"]\n[feature.lab.dependencies]\nb = \"*\"\n[environments]\njupyter = []\nbinder = { features = [\"lab\"], no-default-feature = true, solve-group = \"x\" }\n",
			`{"channels":["lab","conda-forge"],"specs":["b","pip","python"]` + free, "", "", nil,
		},
		"pyproject.toml": {
			"pyproject.toml", `[project]
name = "knots"
requires-python = ">= 3.11"
dependencies = ["humanize >= 4", "idna"]
[project.optional-dependencies]
plot = ["seaborn"]
[dependency-groups]
test = ["pytest"]
lab = ["ipyleaflet", { include-group = "test" }]
[build-system]
requires = ["hatchling"]
[tool.pixi.workspace]
channels = ["conda-forge"]
[tool.pixi.dependencies]
numpy = ">=2"
[tool.pixi.pypi-dependencies]
knots = { path = ".", editable = true }
[tool.pixi.environments]
binder = ["plot", "lab"]
`,
			`{"channels":["conda-forge"],"specs":["numpy \u003e=2","pip","python \u003e=3.11"]` + free,
			"seaborn\nipyleaflet\npytest\nhumanize>=4\nidna\n", "-e .\n", nil,
		},
		"CUDA and a package": {
			"pixi.toml", workspace + "[system-requirements]\ncuda = \"12\"\n[package]\nname = \"a\"\n",
			strings.Replace(`{"channels":["conda-forge"],"specs":["pip","python"]`+free, `"strict"}`, `"strict","cuda":"12"}`, 1), "", "",
			[]string{"CUDA 12", "[package]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, map[string]string{c.file: c.text})
			if r.Kind != "pixi" {
				t.Fatalf("kind %s", r.Kind)
			}
			if diff := cmp.Diff(c.wanted, input(t, r, "Versions: "+c.file, "environment.json")); diff != "" {
				t.Error(diff)
			}
			for step, want := range map[string]string{"pip: " + c.file: c.pip, "pip: " + c.file + ", the repository's own": c.own} {
				if want == "" {
					continue
				}
				if diff := cmp.Diff(want, input(t, r, step, "requirements.txt")); diff != "" {
					t.Errorf("%s: %s", step, diff)
				}
			}
			for _, want := range c.notes {
				if !strings.Contains(notes(r), want) {
					t.Errorf("no note has %q: %s", want, notes(r))
				}
			}
		})
	}
}

func TestPixiActivation(t *testing.T) {
	r := read(t, map[string]string{"pixi.toml": workspace + `[activation]
scripts = ["setup.sh"]
[activation.env]
DATA = "$PIXI_PROJECT_ROOT/data"
PROJ = "${CONDA_PREFIX}/share/proj"
PATH = "$PATH:/x"
MORE = "$HOME/x"
COUNT = 3
[target.linux.activation.env]
DATA = "/srv/data"
`})
	want := map[string]string{"DATA": "/srv/data", "PROJ": recipe.Prefix + "/share/proj", "COUNT": "3"}
	for name, value := range want {
		if r.Env[name] != value {
			t.Errorf("%s=%q, want %q", name, r.Env[name], value)
		}
	}
	if _, ok := r.Env["MORE"]; ok || strings.Contains(r.Env["PATH"], "/x") {
		t.Errorf("%v", r.Env)
	}
	for _, want := range []string{"PATH is set by Binnacle", "MORE depends", `"setup.sh" is not run`} {
		if !strings.Contains(notes(r), want) {
			t.Errorf("no note has %q: %s", want, notes(r))
		}
	}
	if r.Notes[0].Line == 0 {
		t.Errorf("%+v", r.Notes)
	}
}

const pixiLock = `version: 6
environments:
  default:
    channels:
    - url: https://example.org/forge/
    packages:
      linux-64:
      - conda: https://example.org/forge/linux-64/python-3.12.4-h1_0.conda
      - conda: https://example.org/forge/noarch/tzdata-2024a-0.conda
      - pypi: https://files.example.org/packages/aa/bb/000000000000000000000000000000000000000000000000000000000000/humanize-4.12.3-py3-none-any.whl
      - pypi: git+https://example.org/knots.git#0123456789abcdef0123456789abcdef01234567
      - pypi: ./
      osx-arm64:
      - conda: https://example.org/forge/noarch/tzdata-2024a-0.conda
packages:
- conda: https://example.org/forge/linux-64/python-3.12.4-h1_0.conda
  sha256: 1111111111111111111111111111111111111111111111111111111111111111
  md5: 00000000000000000000000000000000
  depends: [tzdata]
- conda: https://example.org/forge/noarch/tzdata-2024a-0.conda
  sha256: 2222222222222222222222222222222222222222222222222222222222222222
- pypi: https://files.example.org/packages/aa/bb/000000000000000000000000000000000000000000000000000000000000/humanize-4.12.3-py3-none-any.whl
  name: humanize
  version: 4.12.3
  sha256: 3333333333333333333333333333333333333333333333333333333333333333
- pypi: git+https://example.org/knots.git#0123456789abcdef0123456789abcdef01234567
  name: knots
  version: "1"
- pypi: ./
  name: mine
  version: "0.1"
  editable: true
`

func TestPixiLock(t *testing.T) {
	const list = "@EXPLICIT\n" + forge + "linux-64/python-3.12.4-h1_0.conda#1111111111111111111111111111111111111111111111111111111111111111\n" +
		forge + "noarch/tzdata-2024a-0.conda#2222222222222222222222222222222222222222222222222222222222222222\n"
	files := map[string]string{"pixi.toml": workspace + "[dependencies]\npython = \"*\"\nscipy = \"*\"\n[activation.env]\nA = \"b\"\n", "pixi.lock": pixiLock}
	r := read(t, files)
	if diff := cmp.Diff(list, input(t, r, "conda: pixi.lock", "conda.txt")); diff != "" || r.Python.Value != "3.12" || r.Env["A"] != "b" {
		t.Errorf("%s %+v %v", diff, r.Python, r.Env)
	}
	var have []string
	for _, s := range r.Steps[2:] {
		have = append(have, string(s.Stage)+" "+string(s.Inputs[0].Content))
	}
	if diff := cmp.Diff([]string{
		"environment humanize==4.12.3 --hash=sha256:" + sum("3") + "\n",
		"environment knots @ git+https://example.org/knots.git#0123456789abcdef0123456789abcdef01234567\n",
		"content -e ./\n",
	}, have); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(notes(r), "it does not have scipy") || r.Notes[0].Line != 6 {
		t.Errorf("%+v", r.Notes)
	}

	newer := strings.NewReplacer("version: 6", "version: 7\nplatforms:\n- name: mine\n  subdir: linux-64", "      linux-64:", "      mine:").Replace(pixiLock)
	older := strings.NewReplacer("version: 6", "version: 5", "- conda: https://example.org/forge/noarch/tzdata-2024a-0.conda\n  sha256", "- kind: conda\n  name: tzdata\n  url: https://example.org/forge/noarch/tzdata-2024a-0.conda\n  sha256").Replace(pixiLock)
	for name, text := range map[string]string{"newer": newer, "older": older} {
		files["pixi.lock"] = text
		if diff := cmp.Diff(list, input(t, read(t, files), "conda: pixi.lock", "conda.txt")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	files["pixi.lock"] = strings.ReplaceAll(pixiLock, "linux-64:", "win-64:")
	if r := read(t, files); r.Steps[0].Lock == nil || !strings.Contains(notes(r), "pixi.lock has no environment default for linux-64") {
		t.Errorf("%v %s", steps(r), notes(r))
	}
}

// TestPixiPrecedence: what repo2docker reads wins, but [tool.pixi] says what to
// do with the file it is in.
func TestPixiPrecedence(t *testing.T) {
	const project, tool = "[project]\nname = \"a\"\nversion = \"1\"\n[build-system]\nrequires = []\n", "[tool.pixi.workspace]\nchannels = [\"a\"]\n"
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
	}{
		"requirements.txt":   {map[string]string{"pixi.toml": workspace, "requirements.txt": "a\n"}, "python"},
		"environment.yml":    {map[string]string{"pixi.toml": workspace, "environment.yml": ""}, "conda"},
		"a package":          {map[string]string{"pixi.toml": workspace, "pyproject.toml": project}, "python"},
		"tools only":         {map[string]string{"pixi.toml": workspace, "pyproject.toml": "[tool.ruff]\n"}, "pixi"},
		"tool.pixi":          {map[string]string{"pyproject.toml": project + tool}, "pixi"},
		"tool.pixi and list": {map[string]string{"pyproject.toml": project + tool, "requirements.txt": "a\n"}, "python"},
		"binder directory":   {map[string]string{"binder/pixi.toml": workspace, "requirements.txt": "a\n"}, "pixi"},
		"conda-lock":         {map[string]string{"pixi.toml": workspace, "conda-lock.yml": condaLock}, "pixi"},
	} {
		if r := read(t, c.files); r.Kind != c.kind || c.kind != "pixi" && c.files["pixi.toml"] != "" && !strings.Contains(notes(r), "pixi.toml") {
			t.Errorf("%s: kind %s, want %s; %s", name, r.Kind, c.kind, notes(r))
		}
	}
}

func TestPixiRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"bad TOML":         {map[string]string{"pixi.toml": "[workspace]\nchannels = \n"}, "pixi.toml", 2, "can't be read"},
		"no workspace":     {map[string]string{"pixi.toml": "[dependencies]\n"}, "pixi.toml", 0, "no workspace"},
		"source package":   {map[string]string{"pixi.toml": workspace + "[dependencies]\na = { path = \".\" }\n"}, "pixi.toml", 5, "built from its source"},
		"odd version":      {map[string]string{"pixi.toml": workspace + "[dependencies]\na = \">=1; id\"\n"}, "pixi.toml", 5, "not a version"},
		"odd value":        {map[string]string{"pixi.toml": workspace + "[dependencies]\na = 3\n"}, "pixi.toml", 5, "neither"},
		"old Python":       {map[string]string{"pixi.toml": workspace + "[dependencies]\npython = \"3.4.*\"\n"}, "pixi.toml", 5, "can't run"},
		"outside":          {map[string]string{"pixi.toml": workspace + "[pypi-dependencies]\na = { path = \"../a\" }\n"}, "pixi.toml", 5, "outside"},
		"no feature":       {map[string]string{"pixi.toml": workspace + "[environments]\nbinder = [\"x\"]\n"}, "pixi.toml", 5, "feature"},
		"channel":          {map[string]string{"pixi.toml": "[workspace]\nchannels = [\"file:///etc\"]\n"}, "pixi.toml", 2, "channel"},
		"in a feature":     {map[string]string{"pixi.toml": workspace + "[feature.x.target.linux-64.dependencies]\na = 3\n[environments]\nbinder = [\"x\"]\n"}, "pixi.toml", 5, "neither"},
		"in pyproject":     {map[string]string{"pyproject.toml": "[tool.pixi.workspace]\nchannels = [\"a\"]\n[tool.pixi.dependencies]\na = 3\n"}, "pyproject.toml", 4, "neither"},
		"lock's version":   {map[string]string{"pixi.toml": workspace, "pixi.lock": "version: 99\n"}, "pixi.lock", 0, "version 99"},
		"no lock":          {map[string]string{"pixi.toml": workspace, "pixi.lock": "- x\n"}, "pixi.lock", 1, "not a lock"},
		"lock of a source": {map[string]string{"pixi.toml": workspace, "pixi.lock": strings.ReplaceAll(pixiLock, "conda: https://example.org/forge/noarch/tzdata-2024a-0.conda", "conda: ./tz")}, "pixi.lock", 20, "source"},
		"half a lock":      {map[string]string{"pixi.toml": workspace, "pixi.lock": strings.Replace(pixiLock, "- conda: https://example.org/forge/linux-64/python-3.12.4-h1_0.conda\n  sha", "- conda: https://example.org/x\n  sha", 1)}, "pixi.lock", 0, "does not describe"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(c.files))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
		})
	}
}
