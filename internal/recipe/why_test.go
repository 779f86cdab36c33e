package recipe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

const (
	npmLock = `{"lockfileVersion": 3, "packages": {"": {"dependencies": {"tables": "^2"}}, "node_modules/tables": {"version": "2.0.0", "dependencies": {"moon": "^1"}},
"node_modules/moon": {"version": "1.0.0", "dependencies": {"tide": "1"}}, "node_modules/tide": {"version": "1.0.0"}, "node_modules/near": {"resolved": "near", "link": true},
"near": {"version": "1.0.0", "dependencies": {"tide": "0"}}, "near/node_modules/tide": {"version": "0.9.0"}}}`
	npmOldLock  = `{"lockfileVersion": 1, "dependencies": {"tables": {"version": "2.0.0", "requires": {"tide": "0"}, "dependencies": {"tide": {"version": "0.9.0"}}}, "tide": {"version": "1.0.0"}}}`
	yarnOneLock = "# yarn lockfile v1\n\n\ntables@^2:\n  version \"2.0.0\"\n  dependencies:\n    moon \"^1\"\n\n\"moon@^1\":\n  version \"1.0.0\"\n  dependencies:\n    \"@o/tide\" \">=1 <2\"\n\n\"@o/tide@>=1 <2\":\n  version \"1.5.0\"\n"
	berryLock   = "__metadata:\n  version: 8\n\n\"tables@npm:^2, tables@npm:^2.0\":\n  version: 2.0.0\n  resolution: \"tables@npm:2.0.0\"\n  dependencies:\n    tide: \"npm:1\"\n\n\"tide@npm:1\":\n  version: 1.0.0\n  resolution: \"tide@npm:1.0.0\"\n\n" +
		"\"near@workspace:near\":\n  version: 0.0.0-use.local\n  resolution: \"near@workspace:near\"\n  dependencies:\n    tide: \"npm:1\"\n"
	pnpmLock = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      tables:\n        specifier: ^2\n        version: 2.0.0(moon@1.0.0)\n  near:\n    dependencies:\n      moon:\n        specifier: ^1\n        version: 1.0.0\n" +
		"packages:\n  tables@2.0.0:\n    resolution: {integrity: sha512-AAE=}\n  moon@1.0.0: {}\n  tide@1.0.0: {}\nsnapshots:\n  tables@2.0.0(moon@1.0.0):\n    dependencies:\n      moon: 1.0.0\n      other: tide@1.0.0\n"
	pnpmOldLock  = "lockfileVersion: 5.4\ndependencies:\n  tables: 2.0.0_moon@1.0.0\npackages:\n  /tables/2.0.0_moon@1.0.0:\n    dependencies:\n      '@o/tide': 1.0.0\n  /@o/tide/1.0.0: {}\n"
	denoJSON     = "{\n \"imports\": {\n  \"tables\": \"jsr:@o/tables@2\"\n }\n}\n"
	denoLockText = `{"version": "5", "specifiers": {"jsr:@o/tables@2": "2.0.0", "npm:tide@1": "1.0.0"}, "jsr": {"@o/tables@2.0.0": {"dependencies": ["npm:tide@1"]}}, "npm": {"tide@1.0.0": {"dependencies": ["moon"]}, "moon@3.0.0": {}}, "workspace": {"dependencies": ["jsr:@o/tables@2"]}}`
	cargoLock    = "version = 4\n[[package]]\nname = \"voyage\"\nversion = \"0.1.0\"\ndependencies = [\"tables\"]\n[[package]]\nname = \"tables\"\nversion = \"2.0.0\"\nsource = \"registry+a\"\ndependencies = [\"tide 1.0.0\"]\n" +
		"[[package]]\nname = \"tide\"\nversion = \"1.0.0\"\nsource = \"registry+a\"\n[[package]]\nname = \"tide\"\nversion = \"0.9.0\"\nsource = \"registry+a\"\n"
	goSums     = "example.org/tables v1.2.0 h1:AAE=\nexample.org/moon v1.1.0 h1:AAE=\nexample.org/tide v1.0.0 h1:AAE=\nexample.org/spare v1.0.0 h1:AAE=\n"
	goEdges    = "example.org/voyage example.org/tables@v1.2.0\nexample.org/voyage example.org/tide@v1.0.0\nexample.org/voyage example.org/spare@v1.0.0\nexample.org/tables@v1.2.0 example.org/moon@v1.0.0\nexample.org/moon@v1.1.0 example.org/tide@v1.0.0\nexample.org/moon@v1.0.0 example.org/spare@v1.0.0\n"
	renvStore  = `{"Packages": {"tables": {"Package": "tables", "Version": "2.0", "Requirements": ["R", "data.tide"]}, "data.tide": {"Package": "data.tide", "Version": "1.0", "Imports": ["methods"]}}}`
	condaStore = "@EXPLICIT\nhttps://c.example.org/conda-forge/linux-64/python-3.12.7-h_0.conda#00\nhttps://c.example.org/conda-forge/noarch/tables-2.0-p_0.conda\nhttps://c.example.org/conda-forge/noarch/tide-1.0-p_0.conda\n"
	sixtyFour  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	nixHash    = "0123456789abcdfghijklmnpqrsvwxyz"
	aptStore   = "bash=5.2\nlibtide1=1.0 # sha256:" + sixtyFour + "\n    # via moon\nmoon=3\n    # via tables\ntables=2.0\n"
)

// TestWhyEverywhere: the chain from what is installed to the line that asks for it, in
// every ecosystem.
func TestWhyEverywhere(t *testing.T) {
	juliaTides := "julia_version = \"1.9.4\"\nmanifest_format = \"2.0\"\n[[deps.Tables]]\ndeps = [\"Tide\"]\nuuid = \"00000000-0000-0000-0000-000000000001\"\nversion = \"2.0.0\"\n[[deps.Tide]]\nuuid = \"00000000-0000-0000-0000-000000000002\"\nversion = \"1.0.0\"\n"
	packageJSON := "{\n \"dependencies\": {\n  \"tables\": \"^2\"\n }\n}\n"
	for name, c := range map[string]struct {
		repository, store map[string]string
		want              map[string]string // by package; several reasons with " | " between
	}{
		"npm": {
			map[string]string{"package.json": packageJSON, "package-lock.json": npmLock},
			map[string]string{"package-lock.json": npmLock},
			map[string]string{"Tables": "tables 2.0.0 @ package.json:3", "moon": "moon 1.0.0 < tables 2.0.0 @ package.json:3", "tide": "tide 0.9.0 @ near/package.json:0 | tide 1.0.0 < moon 1.0.0 < tables 2.0.0 @ package.json:3", "near": ""},
		},
		"npm's first format": {
			map[string]string{"package.json": packageJSON, "package-lock.json": npmOldLock},
			map[string]string{"package-lock.json": npmOldLock},
			map[string]string{"tables": "tables 2.0.0 @ package.json:3", "tide": "tide 0.9.0 < tables 2.0.0 @ package.json:3 | tide 1.0.0 @ script"},
		},
		"yarn 1": {
			map[string]string{"package.json": packageJSON, "yarn.lock": yarnOneLock},
			map[string]string{"yarn.lock": yarnOneLock},
			map[string]string{"@o/tide": "@o/tide 1.5.0 < moon 1.0.0 < tables 2.0.0 @ package.json:3"},
		},
		"yarn": {
			map[string]string{"package.json": packageJSON, "yarn.lock": berryLock},
			map[string]string{"yarn.lock": berryLock},
			map[string]string{"tide": "tide 1.0.0 @ near/package.json:0 | tide 1.0.0 < tables 2.0.0 @ package.json:3"},
		},
		"pnpm": {
			map[string]string{"package.json": packageJSON, "pnpm-lock.yaml": pnpmLock},
			map[string]string{"pnpm-lock.yaml": pnpmLock},
			map[string]string{"tide": "tide 1.0.0 < tables 2.0.0 @ package.json:3", "moon": "moon 1.0.0 @ near/package.json:0 | moon 1.0.0 < tables 2.0.0 @ package.json:3"},
		},
		"pnpm 5": {
			map[string]string{"package.json": packageJSON, "pnpm-lock.yaml": pnpmOldLock},
			map[string]string{"pnpm-lock.yaml": pnpmOldLock},
			map[string]string{"@o/tide": "@o/tide 1.0.0 < tables 2.0.0 @ package.json:3"},
		},
		"deno": {
			map[string]string{"deno.json": denoJSON, "deno.lock": denoLockText},
			map[string]string{"deno.lock": denoLockText},
			map[string]string{"moon": "moon 3.0.0 < tide 1.0.0 < @o/tables 2.0.0 @ deno.json:3", "@o/tables": "@o/tables 2.0.0 @ deno.json:3"},
		},
		"cargo": {
			map[string]string{"binder/Cargo.toml": "[package]\nname = \"voyage\"\nversion = \"0.1.0\"\n[dependencies]\ntables = \"2\"\n"},
			map[string]string{"Cargo.lock": cargoLock},
			map[string]string{"tide": "tide 1.0.0 < tables 2.0.0 @ binder/Cargo.toml:5 | tide 0.9.0 @ script", "cargo": "cargo @ binder/Cargo.toml:0"},
		},
		"a workspace of crates": {
			map[string]string{"Cargo.toml": "[workspace]\nmembers = [\"voyage\"]\n"},
			map[string]string{"Cargo.lock": cargoLock},
			map[string]string{"tide": "tide 1.0.0 < tables 2.0.0 @ Cargo.toml:0 | tide 0.9.0 @ script"},
		},
		"go": {
			map[string]string{"go.mod": "module example.org/voyage\ngo 1.21\nrequire example.org/tables v1.2.0\nrequire example.org/tide v1.0.0 // indirect\n", "go.sum": goSums},
			map[string]string{"go.sum": goSums, "go-graph.txt": goEdges},
			map[string]string{"example.org/tide": "example.org/tide v1.0.0 < example.org/moon v1.1.0 < example.org/tables v1.2.0 @ go.mod:3", "example.org/spare": "example.org/spare v1.0.0 @ go.mod:0", "golang-go": "golang-go @ go.mod:0"},
		},
		"julia": {
			map[string]string{"Project.toml": "[deps]\nTables = \"00000000-0000-0000-0000-000000000001\"\n", "Manifest.toml": juliaTides},
			map[string]string{"Manifest.toml": juliaTides},
			map[string]string{"Tide": "Tide 1.0.0 < Tables 2.0.0 @ Project.toml:2", "IJulia": "ijulia @ jupyter"},
		},
		"r": {
			map[string]string{"DESCRIPTION": "Package: voyage\nVersion: 1.0\nImports:\n    tables\n", "runtime.txt": "r-4.4-2024-06-01\n"},
			map[string]string{"renv.lock": renvStore},
			map[string]string{"data.tide": "data.tide 1.0 < tables 2.0 @ DESCRIPTION:4"},
		},
		"install.R": {
			map[string]string{"install.R": "install.packages('tables')\n"},
			map[string]string{"renv.lock": renvStore},
			map[string]string{"data.tide": "data.tide 1.0 < tables 2.0 @ install.R:1"},
		},
		"install.R that computes": {
			map[string]string{"install.R": "install.packages(readLines('packages'))\n"},
			map[string]string{"renv.lock": renvStore},
			map[string]string{"data.tide": "data.tide 1.0 < tables 2.0 @ install.R:0"},
		},
		"renv.lock": {
			map[string]string{"renv.lock": "{\n\"R\": {\"Version\": \"4.4.1\"},\n\"Packages\": {\n\"tables\": {\"Package\": \"tables\", \"Version\": \"2.0\"},\n\"data.tide\": {\"Package\": \"data.tide\", \"Version\": \"1.0\"}\n}}\n"},
			map[string]string{"renv.lock": renvStore},
			map[string]string{"data.tide": "data.tide 1.0 < tables 2.0 @ renv.lock:4"},
		},
		"conda": {
			map[string]string{"environment.yml": "dependencies:\n- tables\n"},
			map[string]string{"conda.txt": condaStore, "conda-graph.txt": "tables python\ntables tide\ntide tables\n"},
			map[string]string{"tide": "tide 1.0 < tables 2.0 @ environment.yml:2", "python": "python 3.12.7 < tables 2.0 @ environment.yml:2"},
		},
		"conda, before there was a graph": {
			map[string]string{"environment.yml": "dependencies:\n- tables\n"},
			map[string]string{"conda.txt": condaStore},
			map[string]string{"tables": "tables 2.0 @ environment.yml:2", "tide": "tide 1.0 @ jupyter"},
		},
		"nix": {
			map[string]string{"default.nix": "with import <nixpkgs> {}; mkShell { packages = [ hello ]; }\n"},
			map[string]string{
				"nix.txt":       "/nix/store/" + nixHash + "-hello-2.12\n/nix/store/" + nixHash + "-glibc-2.40-66\n/nix/store/" + nixHash + "-tide-1.0\n/nix/store/" + nixHash + "-wrapper\n",
				"nix-graph.txt": nixHash + "-hello-2.12 " + nixHash + "-glibc-2.40-66\n" + nixHash + "-hello-2.12 " + nixHash + "-wrapper\n" + nixHash + "-wrapper " + nixHash + "-tide-1.0\n" + nixHash + "-tide-1.0 " + nixHash + "-wrapper\n",
			},
			map[string]string{"hello": "hello 2.12 @ default.nix:0", "glibc": "glibc 2.40-66 < hello 2.12 @ default.nix:0", "tide": "tide 1.0 < hello 2.12 @ default.nix:0", "nix-bin": "nix-bin @ default.nix:0"},
		},
		"debian": {
			map[string]string{"apt.txt": "# sea\ntables\n"},
			map[string]string{"apt.txt": aptStore},
			map[string]string{"libtide1": "libtide1 1.0 < moon 3 < tables 2.0 @ apt.txt:2", "bash": "bash 5.2 @ base"},
		},
		"python": {
			map[string]string{"requirements.txt": "tables\n", "postBuild": "pip install moon\n"},
			map[string]string{"python.txt": "moon==1.0\ntables==2.0\ntide==1.0\njupyterlab==4.0\n", "requirements.txt": "tables==2.0\n    # via -r requirements.in\ntide==1.0\n    # via tables\n"},
			map[string]string{"tide": "tide 1.0 < tables 2.0 @ requirements.txt:1", "moon": "moon 1.0 @ script", "jupyterlab": "jupyterlab 4.0 @ jupyter", "tornado": "tornado @ jupyter"},
		},
		"pip beside conda": {
			map[string]string{"environment.yml": "dependencies:\n- python\n- pip:\n  - tables\n"},
			map[string]string{"python.txt": "buoy==1.0\nmoon==1.0\ntables==2.0\ntide==1.0\n", "conda-pip.txt": "tables==2.0 \\\n    --hash=sha256:" + sixtyFour + "\ntide==1.0\n    # via buoy\n    # via tables\n"},
			map[string]string{"tide": "tide 1.0 < tables 2.0 @ environment.yml:4", "moon": "moon 1.0 @ script"},
		},
		"uv.lock": {
			map[string]string{
				"pyproject.toml": "[project]\nname = \"voyage\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"tables\"]\n",
				"uv.lock":        "version = 1\nrequires-python = \">=3.11\"\n\n[[package]]\nname = \"tables\"\nversion = \"2.0\"\nsource = { registry = \"https://pypi.example.org/simple\" }\ndependencies = [{ name = \"tide\" }]\n\n[[package]]\nname = \"tide\"\nversion = \"1.0\"\nsource = { registry = \"https://pypi.example.org/simple\" }\n\n[[package]]\nname = \"voyage\"\nversion = \"1\"\nsource = { virtual = \".\" }\ndependencies = [{ name = \"tables\" }]\n",
			},
			map[string]string{"requirements.txt": "tables==2.0\n    # via voyage\ntide==1.0\n    # via tables\n"},
			map[string]string{"tide": "tide 1.0 < tables 2.0 @ uv.lock:5", "tables": "tables 2.0 @ uv.lock:5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.repository)
			for ask, want := range c.want {
				var have []string
				for _, reason := range recipe.Why(r, c.store, ask) {
					at := fmt.Sprintf("%s:%d", reason.Package.From.File, reason.Package.From.Line)
					if reason.By != "" {
						at = reason.By
					}
					have = append(have, strings.Join(reason.Chain, " < ")+" @ "+at)
				}
				if diff := cmp.Diff(want, strings.Join(have, " | ")); diff != "" {
					t.Errorf("%s: %s", ask, diff)
				}
			}
		})
	}
}

// FuzzInstalled: a script of the repository may have written anything there.
func FuzzInstalled(f *testing.F) {
	for _, text := range []string{npmLock, npmOldLock, yarnOneLock, berryLock, pnpmLock, pnpmOldLock, denoLockText, cargoLock, goSums, goEdges, renvStore, condaStore, aptStore, lock, "a: &a [*a, *a]\n", "[[deps.A]]\nuuid = 1\n"} {
		f.Add(text)
	}
	names := []string{"apt.txt", "python.txt", "jupyter.txt", "requirements.txt", "conda-pip.txt", "conda.txt", "conda-packages.txt", "conda-graph.txt", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "deno.lock", "go.sum", "go-graph.txt", "Cargo.lock", "Manifest.toml", "renv.lock", "nix.txt", "nix-graph.txt"}
	f.Fuzz(func(t *testing.T, text string) {
		files := map[string]string{}
		for _, name := range names {
			files[name] = text
		}
		for _, in := range recipe.ReadInstalled(files) {
			if in.Name == "" || in.ID == "" || in.Manager == "" {
				t.Errorf("a package without a name: %+v", in)
			}
			recipe.Why(recipe.Recipe{}, files, in.Name)
		}
	})
}
