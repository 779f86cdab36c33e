package recipe_test

import (
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestExplainLanguages has what the tools said when they were made to fail.
func TestExplainLanguages(t *testing.T) {
	js := read(t, map[string]string{"package.json": "{\n \"dependencies\": {\n  \"dayjs\": \"99.0.0\",\n  \"left-pad\": \"1\",\n  \"@a/not-there\": \"1\"\n }\n}", "package-lock.json": emptyLock})
	deno := read(t, map[string]string{"deno.json": "{\"imports\":\n {\n\"a\": \"npm:not-there\"}}", "deno.lock": "{}"})
	mod := read(t, map[string]string{"go.mod": "module x\n\ngo 1.23\n\nrequire github.com/dustin/go-humanize v1.0.0\n", "go.sum": "x\n"})
	newer := read(t, map[string]string{"go.mod": "module x\n\ngo 1.99.1\n"})
	rust := read(t, map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n[dependencies]\nitoa = \"1\"\nryu = \"99\"\n", "Cargo.lock": "version = 3\n"})
	dev := read(t, map[string]string{".devcontainer.json": "{\n\"image\": \"alpine\"}"})
	const npm, denoStep, goStep, cargo = "npm: package-lock.json", "deno: deno.json", "go: go.mod", "cargo: Cargo.lock"
	for name, c := range map[string]struct {
		recipe recipe.Recipe
		step   string
		log    string
		file   string
		line   int
		says   string
	}{
		"npm, stale lock":    {js, npm, "npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync. Please update your lock file with `npm install` before continuing.\nnpm error\nnpm error Missing: left-pad@1.3.0 from lock file\nnpm error\nnpm error Clean install a project\n", "package.json", 4, "do not agree. It said: Missing: left-pad@1.3.0"},
		"npm, no package":    {js, npm, "npm error code E404\nnpm error 404 Not Found - GET https://registry.example.org/@a%2fnot-there\nnpm error 404\nnpm error 404  The requested resource '@a/not-there@1' could not be found or you do not have permission to access it.\nnpm error A complete log of this run can be found in: /tmp/npm\n", "package.json", 5, "no package called @a/not-there"},
		"npm, no version":    {js, npm, "npm error code ETARGET\nnpm error notarget No matching version found for dayjs@99.0.0.\nnpm error notarget In most cases you\nnpm error A complete log of this run can be found in: /tmp/npm\n", "package.json", 3, "version asked for of dayjs does not exist. It said: notarget No matching version found for dayjs@99.0.0."},
		"deno, stale lock":   {deno, denoStep, "error: The lockfile is out of date. Run `deno install --frozen=false`, or rerun with `--frozen=false` to update it.\nchanges:\n13 | -", "deno.json", 0, "do not agree"},
		"deno, no package":   {deno, denoStep, "Download https://registry.example.org/not-there\nerror: npm package 'not-there' does not exist.\n\nStack backtrace:\n   0: <unknown>", "deno.json", 3, "no package called not-there"},
		"go, wrong hash":     {mod, goStep, "verifying github.com/dustin/go-humanize@v1.0.0: checksum mismatch\n\tdownloaded: h1:a=\n\tgo.sum:     h1:b=\n\nSECURITY ERROR\nThis download does NOT match an earlier download recorded in go.sum.\nFor more information, see 'go help module-auth'.", "go.mod", 5, "not what go.sum says"},
		"go, no version":     {mod, goStep, "go: github.com/dustin/go-humanize@v1.99.0: reading https://proxy.example.org/x.mod: 404 Not Found\n\tserver response: not found: unknown revision v1.99.0", "go.mod", 5, "could not be had"},
		"go, no release":     {newer, "Go 1.99.1", "go: downloading go1.99.1 (linux/amd64)\ngo: download go1.99.1: golang.org/toolchain@v0.0.1-go1.99.1.linux-amd64: reading https://proxy.example.org/x.zip: 404 Not Found\n\tserver response: not found", "go.mod", 3, "release go1.99.1"},
		"go, away":           {mod, goStep, "go: github.com/dustin/go-humanize@v1.0.0: Get \"https://proxy.example.org/x.mod\": dial tcp 127.0.0.1:9: connect: connection refused", "go.mod", 0, "could not be reached"},
		"cargo, stale lock":  {rust, cargo, "    Updating crates index\nerror: cannot update the lock file /tmp/crate/Cargo.lock because --locked was passed to prevent this\nhelp: to generate the lock file without accessing the network, remove the --locked flag", "Cargo.toml", 0, "do not agree"},
		"cargo, no crate":    {rust, cargo, "error: no matching package named `itoa` found\nlocation searched: crates index\nrequired by package `a v0.1.0 (/tmp/crate)`", "Cargo.toml", 4, "no crate called itoa"},
		"cargo, no version":  {rust, cargo, "error: failed to select a version for the requirement `ryu = \"^99\"`\ncandidate versions found which didn't match: 1.0.23, 1.0.22, ...", "Cargo.toml", 5, "No version of ryu"},
		"cargo, new edition": {rust, cargo, "error: failed to parse manifest at `/tmp/x/Cargo.toml`\nCaused by:\n  feature `edition2027` is required", "Cargo.toml", 0, "newer Rust (edition2027)"},
		"image without apt":  {dev, "Check of the image", "binnacle: the image has no apt", ".devcontainer.json", 2, "made from Debian"},
	} {
		t.Run(name, func(t *testing.T) {
			e := recipe.Explain(c.recipe, c.step, strings.Split(c.log, "\n"))
			if e.File != c.file || e.Line != c.line || !strings.Contains(e.Message+" "+e.Hint, c.says) {
				t.Errorf("%s:%d %s %s; want %s:%d …%s…", e.File, e.Line, e.Message, e.Hint, c.file, c.line, c.says)
			}
		})
	}
}
