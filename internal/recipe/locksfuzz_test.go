package recipe_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

func FuzzPipfile(f *testing.F) {
	for _, s := range []string{
		"[[source]]\nurl = \"https://injected@example.org\"\nname = \"x\"\n[packages]\na = {git = \"injected;injected\", ref = \"$(injected)\"}\nb = {path = \"injected\"}\n",
		"[packages]\n\"a\\nb\" = \"*\"\n[requires]\npython_version = \"3.injected\"\n", "[packages]\na = {version = \"==1\", markers = \"injected\\n-r x\"}\n", "[dev-packages]\na = [1]\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{"Pipfile": text}) })
}

func FuzzPipfileLock(f *testing.F) {
	for _, s := range []string{
		pipfileLock(`"python_version": "3.injected"`, `"a": {"version": "==1", "hashes": ["sha256:00", "injected"]}`), pipfileLock("", `"injected\n": {"path": "injected", "editable": true}`),
		pipfileLock("", `"a": {"git": "injected@x:y", "ref": "injected", "markers": "a\n-e /etc"}`), "[]", `{"default": 1}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{"binder/Pipfile.lock": text}) })
}

func FuzzUVLock(f *testing.F) {
	const project = "[project]\nname = \"a\"\ndependencies = [\"b>=1\"]\n"
	for _, s := range []string{
		uvHead + uvPackage("b", "1", "source = { editable = \"injected\" }"), uvHead + uvPackage("b", "1", "source = { registry = \"https://injected example.org\" }"),
		"version = 1\nrequires-python = \"injected\"\n", uvHead + uvPackage("b", "1", "source = { virtual = \"/etc\" }\nwheels = [{url = \"x/b-1-cp311-abi3-linux.whl\"}]"), "version = \"1\"",
	} {
		f.Add(s, project)
	}
	f.Fuzz(func(t *testing.T, text, project string) {
		check(t, map[string]string{"uv.lock": text, "pyproject.toml": project})
	})
}

func FuzzPoetryLock(f *testing.F) {
	for _, s := range []string{
		poetryPackage("a", "1", "[package.source]\ntype = \"git\"\nurl = \"injected\"\n") + poetryHead, poetryPackage("a", "1", "") + poetryHead, "[metadata]\nlock-version = \"1.0\"\npython-versions = \"^3.injected || *\"\n",
	} {
		f.Add(s, "[tool.poetry.dependencies]\npython = \"^3.9\"\na = {version = \"^1\", extras = [\"injected\"], markers = \"injected\", develop = true}\n[build-system]\n")
		f.Add(s, "[tool.poetry.group.x.dependencies]\na = [\"^1\", {path = \"injected\"}]\n[dependency-groups]\nbinder = [\"a @ file:injected\"]\n")
	}
	f.Fuzz(func(t *testing.T, text, project string) {
		check(t, map[string]string{"poetry.lock": text, "pyproject.toml": project})
	})
}

func FuzzPDMLock(f *testing.F) {
	for _, s := range []string{
		"[metadata]\nlock_version = \"4.5\"\n[[metadata.targets]]\nrequires_python = \"injected\"\n", "[[package]]\nname = \"a\"\nversion = \"1\"\ngit = \"injected\"\n[metadata]\nlock_version = \"4.4\"\n",
		"[[package]]\nname = \"a\"\nversion = \"1\"\nextras = [\"x\"]\nfiles = [{url = \"injected/a.whl\", hash = \"md5:00\"}]\n[metadata]\nlock_version = \"4.4\"\n",
	} {
		f.Add(s, "[project]\nname = \"a\"\ndependencies = [\"a[x] @ git+https://injected\", \"a<2 ; injected\"]\n[tool.pdm.dev-dependencies]\nx = [\"-e file:///injected#egg=a\"]\n")
	}
	f.Fuzz(func(t *testing.T, text, project string) {
		check(t, map[string]string{"pdm.lock": text, "pyproject.toml": project})
	})
}

func FuzzPylock(f *testing.F) {
	for _, s := range []string{
		"lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nmarker = \"'injected' in extras or b == 'c'\"\ndirectory = {path = \"injected\"}\n",
		"lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nversion = \"1\"\nindex = \"injected\"\nwheels = [{name = \"a-1-py3-none-any.whl\", hashes = {sha256 = \"00\"}}]\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { check(t, map[string]string{"pylock.toml": text}) })
}

func FuzzMarker(f *testing.F) {
	for _, s := range []string{"'a' in extras and (b == 'c' or d not in e)", "((((", "a == 'b' or 'x' not in dependency_groups"} {
		f.Add(s)
	}
	chosen := map[string][]string{"extras": {"a"}, "dependency_groups": nil}
	f.Fuzz(func(t *testing.T, marker string) {
		rest, never, ok := recipe.Simplified(marker, chosen)
		if (!ok || never) && rest != "" || strings.Contains(rest, "\n") && !strings.Contains(marker, "\n") {
			t.Errorf("%q is %q, %v, %v", marker, rest, never, ok)
		}
		if again, _, ok2 := recipe.Simplified(rest, chosen); ok && (!ok2 || again != rest) {
			t.Errorf("%q is %q, then %q", marker, rest, again)
		}
	})
}

func FuzzGroups(f *testing.F) {
	for _, s := range []string{"binder = [\"a\", {include-group = \"b\"}]\nb = [\"injected;injected\"]\n", "binder = [1]", "jupyter = [{include-group = \"jupyter\"}]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, map[string]string{"pyproject.toml": "[dependency-groups]\n" + text})
	})
}

func FuzzInline(f *testing.F) {
	for _, s := range []string{"# /// script\n# dependencies = [\"injected\"]\n# requires-python = \">=3\"\n# ///\n", "# /// script\n#\n# ///\n# /// script\n# ///", "# /// script\n# a = \n# ///"} {
		f.Add(s, notebook("[\"# /// script\\n\", \"# ///\"]"))
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, script, notebook string) {
		check(t, map[string]string{"a.py": script, "b.ipynb": notebook})
	})
}

func FuzzVersionFiles(f *testing.F) {
	for _, s := range []string{"3.11\n", "python 3.12 injected", "[tools]\npython = [\"3.10\"]\n", "cpython@3.13.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{".python-version", ".tool-versions", "mise.toml"} {
			check(t, map[string]string{name: text})
		}
	})
}
