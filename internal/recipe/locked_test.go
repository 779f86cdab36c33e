package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

const lock = `certifi==2026.1.1 \
    --hash=sha256:00
    # via requests
numpy==2.2.6 ; python_version < '4' \
    --hash=sha256:11 \
    --hash=sha256:12
    # via
    #   -r requirements.in
    #   pandas
pandas==2.2.3
    # via -r requirements.in
Requests==2.34.2
    # via
    #   -c constraints.txt
    #   pandas
`

func TestParseLocked(t *testing.T) {
	want := []recipe.Locked{
		{Name: "certifi", Version: "2026.1.1", By: []string{"requests"}, Sums: []string{"sha256:00"}},
		{Name: "numpy", Version: "2.2.6", By: []string{"pandas"}, Direct: true, Sums: []string{"sha256:11", "sha256:12"}},
		{Name: "pandas", Version: "2.2.3", Direct: true},
		{Name: "requests", Version: "2.34.2", By: []string{"pandas"}},
		{Name: "six", Version: "1.17.0", Sums: []string{"sha256:13"}},
	}
	if diff := cmp.Diff(want, recipe.ParseLocked(lock+"six @ https://example.org/a/six-1.17.0-py2.py3-none-any.whl --hash=sha256:13\n")); diff != "" {
		t.Error(diff)
	}
}

func TestWhy(t *testing.T) {
	r := read(t, map[string]string{"requirements.txt": "numpy>=2\n# data\npandas\n", "apt.txt": "graphviz\n"})
	files := map[string]string{"requirements.txt": lock}
	for name, want := range map[string][]string{
		"certifi":  {"certifi 2026.1.1 < requests 2.34.2 < pandas 2.2.3 @ requirements.txt:3"},
		"NumPy":    {"numpy 2.2.6 @ requirements.txt:1", "numpy 2.2.6 < pandas 2.2.3 @ requirements.txt:3"},
		"graphviz": {"graphviz @ apt.txt:1"},
		"tornado":  {"tornado"}, // Jupyter's
		"nobody":   nil,
	} {
		var have []string
		for _, reason := range recipe.Why(r, files, name) {
			text := strings.Join(reason.Chain, " < ")
			if at := reason.Package.From; at.File != "" {
				text += " @ " + at.File + ":" + string(rune('0'+at.Line))
			}
			have = append(have, text)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFreeze(t *testing.T) {
	files := map[string]string{"requirements.txt": "numpy==2\n", "apt.txt": "git=1\n", "renv.lock": "{}", "python.txt": "a==1\n"}
	loose := read(t, map[string]string{"binder/requirements.txt": "numpy\n"})
	frozen, notes := recipe.Freeze(loose, files)
	paths := map[string]string{}
	for _, f := range frozen {
		paths[f.Path] = f.Keep
	}
	if diff := cmp.Diff(map[string]string{"binder/requirements.txt": "binder/requirements.in", "binder/renv.lock": ""}, paths); diff != "" {
		t.Error(diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0].Message, "Debian") {
		t.Errorf("notes: %+v", notes)
	}
	if frozen[1].Path != "binder/requirements.txt" || !strings.HasSuffix(frozen[1].Content, "numpy==2\n") {
		t.Errorf("%+v", frozen[1])
	}
	conda, notes := recipe.Freeze(loose, map[string]string{"conda.txt": "@EXPLICIT\nhttps://example.org/linux-aarch64/a-1-0.conda\n", "requirements.txt": "numpy==2\n"})
	if len(conda) != 1 || conda[0].Path != "binder/conda-linux-aarch64.lock" || len(notes) != 1 {
		t.Errorf("%+v %+v", conda, notes)
	}
	beside := read(t, map[string]string{"environment.yml": "dependencies:\n- python\n- pip:\n  - humanize\n"})
	if _, notes := recipe.Freeze(beside, map[string]string{"conda-pip.txt": "humanize==4\n"}); len(notes) != 1 || !strings.Contains(notes[0].Message, "pin them") {
		t.Errorf("pip's packages beside conda's: %+v", notes)
	}
	const explicit = "@EXPLICIT\nhttps://example.org/conda-forge/noarch/a-1-0.conda#00000000000000000000000000000000\n"
	own := read(t, map[string]string{"binder/environment.yml": "dependencies:\n- a\n", "binder/conda-linux-64.lock": explicit + "# pip b @ https://example.org/b-1-py3-none-any.whl --hash=sha256:" + sixtyFour + "\n"})
	if frozen, notes := recipe.Freeze(own, map[string]string{"conda.txt": explicit}); len(frozen) != 0 || len(notes) != 1 || !strings.Contains(notes[0].Message, "binder/conda-linux-64.lock has exact") {
		t.Errorf("the author's list, which has pip's packages, too: %+v, %+v", frozen, notes)
	}
	const git = "knots @ git+https://example.org/knots.git@0123abc\n"
	if frozen, _ := recipe.Freeze(loose, map[string]string{"requirements.txt": lock + git}); !strings.HasSuffix(frozen[0].Content, git) ||
		strings.Contains(frozen[0].Content, "hash") || !strings.Contains(frozen[0].Content, "\nnumpy==2.2.6 ; python_version < '4'\n    # via\n") {
		t.Errorf("pip takes no hashes beside packages from git: %s", frozen[0].Content)
	}
	for name, c := range map[string]struct {
		files  map[string]string
		locked string
		says   string
	}{
		"Pipfile":    {map[string]string{"Pipfile": "[packages]\nnumpy = '*'\n"}, "requirements.txt", "pipenv lock"},
		"pixi.toml":  {map[string]string{"pixi.toml": "[workspace]\nchannels = ['conda-forge']\n[dependencies]\nnumpy = '*'\n"}, "conda.txt", "pixi lock"},
		"in binder/": {map[string]string{"binder/Pipfile": "[packages]\nnumpy = '*'\n"}, "requirements.txt", "pipenv lock"},
	} {
		frozen, notes := recipe.Freeze(read(t, c.files), map[string]string{c.locked: "@EXPLICIT\nhttps://example.org/linux-64/a-1-0.conda\n"})
		if len(frozen) != 0 || len(notes) != 1 || !strings.Contains(notes[0].Message, c.says) {
			t.Errorf("%s: a file that would be passed over: %+v, %+v", name, frozen, notes)
		}
	}
	pyproject := read(t, map[string]string{"pyproject.toml": "[project]\nname = \"a\"\ndependencies = [\"numpy\"]\n[build-system]\n"})
	if frozen, _ := recipe.Freeze(pyproject, map[string]string{"requirements.txt": "numpy==2\n"}); frozen[0].Keep != "" {
		t.Errorf("moves a file that is not there: %+v", frozen)
	}
}

func FuzzParseLocked(f *testing.F) {
	f.Add(lock)
	f.Add("a==1\n# via\n#   a\n")
	f.Fuzz(func(t *testing.T, text string) {
		recipe.Why(recipe.Recipe{}, map[string]string{"requirements.txt": text}, "a")
	})
}
