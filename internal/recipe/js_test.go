package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

const emptyLock = `{"lockfileVersion": 3, "packages": {}}`

func TestJavaScriptKind(t *testing.T) {
	const server, kernel = "Python and Jupyter", "Deno kernel"
	for name, c := range map[string]struct {
		files map[string]string
		kind  string
		steps []string
		notes []string
	}{
		"package-lock.json":      {map[string]string{"package.json": "{}", "package-lock.json": emptyLock}, "deno", []string{server, kernel, "npm: package-lock.json"}, nil},
		"no lock":                {map[string]string{"package.json": "{}"}, "python", []string{server}, []string{"no lock"}},
		"no lock in binder":      {map[string]string{"binder/package.json": `{"dependencies":{"a":"1"}}`}, "deno", []string{server, kernel, "npm: binder/package.json", "npm scripts: binder/package.json"}, []string{"has no lock"}},
		"a web page's":           {map[string]string{"package.json": "{}", "package-lock.json": emptyLock, "requirements.txt": "# none\n"}, "python", []string{server}, []string{"package.json is passed over"}},
		"beside Python, binder":  {map[string]string{"binder/package.json": "{}", "binder/package-lock.json": emptyLock, "binder/runtime.txt": "python-3.13"}, "python", []string{server, kernel, "npm: binder/package-lock.json"}, nil},
		"two locks":              {map[string]string{"package.json": "{}", "package-lock.json": emptyLock, "yarn.lock": ""}, "deno", []string{server, kernel, "npm: package-lock.json"}, []string{"yarn.lock is passed over"}},
		"with scripts":           {map[string]string{"package.json": "{}", "npm-shrinkwrap.json": `{"lockfileVersion": 3, "packages": {"node_modules/a": {"hasInstallScript": true}}}`}, "deno", []string{server, kernel, "npm: npm-shrinkwrap.json", "npm scripts: npm-shrinkwrap.json"}, nil},
		"pnpm":                   {map[string]string{"package.json": "{}", "pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}, "deno", []string{server, kernel, "pnpm: pnpm-lock.yaml", "npm scripts: pnpm-lock.yaml"}, nil},
		"workspaces":             {map[string]string{"package.json": `{"workspaces": ["a"]}`, "package-lock.json": emptyLock}, "deno", []string{server, kernel, "npm: package-lock.json"}, []string{"anew for every commit"}},
		"deno.json":              {map[string]string{"deno.json": "{}"}, "deno", []string{server, kernel, "deno: deno.json"}, nil},
		"deno.jsonc with a lock": {map[string]string{"deno.jsonc": "{ // a\n\"imports\": {\"a\": \"npm:a\",},}", "deno.lock": "{}"}, "deno", []string{server, kernel, "deno: deno.jsonc"}, nil},
		"deno without a lock":    {map[string]string{"deno.json": `{"imports": {"a": "npm:a"}}`}, "deno", []string{server, kernel, "deno: deno.json"}, []string{"versions of today"}},
		"deno.lock alone":        {map[string]string{"deno.lock": "{}"}, "deno", []string{server, kernel}, []string{"deno.lock is passed over"}},
		"other Node":             {map[string]string{"package.json": `{"engines": {"node": "20.x"}}`, "package-lock.json": emptyLock}, "deno", []string{server, "Node 20.18.0", kernel, "npm: package-lock.json"}, nil},
		"committed node_modules": {map[string]string{"package.json": "{}", "package-lock.json": emptyLock, "node_modules/.package-lock.json": "{}"}, "deno", []string{server, kernel}, []string{"node_modules is part"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.files)
			if r.Kind != c.kind {
				t.Errorf("kind %s, want %s", r.Kind, c.kind)
			}
			if diff := cmp.Diff(c.steps, steps(r)); diff != "" {
				t.Errorf("steps (-want +have):\n%s", diff)
			}
			for _, want := range c.notes {
				if !strings.Contains(notes(r), want) {
					t.Errorf("no note has %q:\n%s", want, notes(r))
				}
			}
			if len(c.notes) == 0 && len(r.Notes) > 0 {
				t.Errorf("notes:\n%s", notes(r))
			}
		})
	}
}

func TestNodeVersion(t *testing.T) {
	newest := recipe.NodeVersions()[len(recipe.NodeVersions())-1]
	for want, have := range map[string]string{
		">=18": newest, "20": "20.18.0", "v20.11.1": "20.11.1", "20.11": "20.11.1", "^20.1 || ^22": "22.20.0", "lts/iron": "20.18.0", "lts/*": newest,
		"node": newest, "*": newest, "18.x": "18.18.2", ">=18 <21": "20.18.0", "18.0.0": "18.18.2 instead", "24.0.1": newest + " instead", "v16": "", "99": "", "latest of all": "", ">=30": "",
	} {
		v, exact, ok := recipe.PickNode(want)
		if ok && !exact {
			v += " instead"
		}
		if v != have {
			t.Errorf("%q: %q, want %q", want, v, have)
		}
	}
	if e := refused(t, repo(map[string]string{"package.json": "{}", "package-lock.json": emptyLock, ".nvmrc": "v12.1.0\n"})); e.File != ".nvmrc" || e.Line != 1 {
		t.Errorf("%+v", e)
	}
	r := read(t, map[string]string{"package.json": `{"engines":{"node":">=22"}}`, "package-lock.json": emptyLock, ".nvmrc": "18.0.0\n"})
	if r.Versions["node"].Value != "18.18.2" || !strings.Contains(notes(r), "takes its place") {
		t.Errorf("%+v\n%s", r.Versions, notes(r))
	}
}

// TestSharedNpmCache: who may write where every repository reads.
func TestSharedNpmCache(t *testing.T) {
	lock := `{"lockfileVersion": 3, "packages": {"node_modules/a": {"hasInstallScript": true}}}`
	for _, files := range []map[string]string{
		{"package.json": "{}", "package-lock.json": lock},
		{"binder/package.json": `{"dependencies": {"a": "1"}}`},
		{"package.json": `{"dependencies": {"a": "file:a"}}`, "package-lock.json": lock},
		{"package.json": `{"packageManager": "pnpm@9.0.0"}`, "pnpm-lock.yaml": ""},
		{"package.json": `{}`, "yarn.lock": "\n__metadata:\n"},
		{"deno.json": "{}"},
	} {
		for _, s := range read(t, files).Steps {
			for _, c := range s.Caches {
				if c.ID == "npm" && !strings.Contains(s.Script, "npm ci --ignore-scripts") {
					t.Errorf("%s has the cache of all", s.Name)
				}
			}
			if strings.Contains(s.Script, "rebuild") && len(s.Caches) > 0 {
				t.Errorf("%s runs scripts with a cache", s.Name)
			}
		}
	}
}

func TestNpmKey(t *testing.T) {
	base := read(t, map[string]string{"package.json": `{"dependencies": {"a": "1"}}`, "package-lock.json": emptyLock}).Environment()
	for name, c := range map[string]struct {
		text string
		same bool
	}{
		"a script":       {`{"scripts": {"test": "x"}, "dependencies": {"a": "1"}, "version": "2.0.0"}`, true},
		"a dependency":   {`{"dependencies": {"a": "1", "b": "2"}}`, false},
		"another engine": {`{"dependencies": {"a": "1"}, "engines": {"node": "20"}}`, false},
	} {
		if same := read(t, map[string]string{"package.json": c.text, "package-lock.json": emptyLock}).Environment() == base; same != c.same {
			t.Errorf("%s: same %v", name, same)
		}
	}
}

func TestJavaScriptRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		file  string
		line  int
		says  string
	}{
		"broken package.json": {map[string]string{"package.json": "{\n  \"a\": 1,\n}", "package-lock.json": emptyLock}, "package.json", 3, "can't be read"},
		"broken lock":         {map[string]string{"package.json": "{}", "package-lock.json": "{"}, "package-lock.json", 1, "can't be read"},
		"not a lock":          {map[string]string{"package.json": "{}", "package-lock.json": "{}"}, "package-lock.json", 0, "not a lock"},
		"merge":               {map[string]string{"package.json": "{}", "package-lock.json": "{\n<<<<<<< HEAD\n"}, "package-lock.json", 2, "unfinished merge"},
		"package manager":     {map[string]string{"package.json": "{\n\"packageManager\": \"pnpm@injected;x\"}", "pnpm-lock.yaml": ""}, "package.json", 2, "packageManager"},
		"broken deno.json":    {map[string]string{"deno.json": "{\n// a\n\"imports\": [}"}, "deno.json", 3, "can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, repo(c.files))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message, c.says) {
				t.Errorf("%s:%d %s; want %s:%d …%s…", e.File, e.Line, e.Message, c.file, c.line, c.says)
			}
		})
	}
}

func FuzzPackageJSON(f *testing.F) {
	for _, s := range []string{`{"engines": {"node": "^20 || injected"}, "dependencies": {"injected": "file:a"}}`, `{"packageManager": "yarn@4.0.0+sha1.injected"}`, `[]`, `{"volta": {"node": "20.1"}, "workspaces": ["injected"]}`} {
		f.Add(s, emptyLock, "legacy-peer-deps=true\ninjected=true\n")
	}
	f.Fuzz(func(t *testing.T, text, lock, npmrc string) {
		check(t, map[string]string{"package.json": text, "package-lock.json": lock, ".npmrc": npmrc, ".nvmrc": npmrc})
		check(t, map[string]string{"package.json": text, "yarn.lock": lock})
		check(t, map[string]string{"deno.jsonc": text, "deno.lock": lock})
	})
}

// FuzzJSONC: places stay where they were, and plain JSON is not touched.
func FuzzJSONC(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2, /* b */ ], // c` + "\n}", `{"//": "/* , ] */", "\"": "\\"}`, "/*", "[,]", `"a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plain := recipe.StripJSONC(text)
		if len(plain) != len(text) || strings.Count(plain, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q became %q", text, plain)
		}
		if again := recipe.StripJSONC(plain); recipe.ValidJSON(text) && (plain != text || again != plain) {
			t.Errorf("JSON changed: %q became %q", text, plain)
		}
	})
}
