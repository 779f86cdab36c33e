package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	packageurl "github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
)

// The hash of dayjs 1.11.13, as npm has it, in hexadecimal digits.
const dayjs = "SHA512:a1a3017a5ea08e894af3adae68f40e55303bab74d986e4afb8c4000209500ce5983bd03dd48ac0394244c8a565a89947134beae69e545f1cdd3df307ff1eb136"

// TestComponents reads the locks that the examples have, and what else an image
// may hold: a line is a package URL and what is behind it.
func TestComponents(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string // a text without lines is the path of an example
		want       []string
	}{
		"npm":        {"package-lock.json", "npm/package-lock.json", []string{"pkg:npm/dayjs@1.11.13 " + dayjs, "pkg:npm/simple-statistics@7.12.1 SHA512:2d846f1e165c78ef4c4f30f0ea9b6ddcf068387ba24ea354e44c3930b8e370bc2ece07c04cc7f5a0c15d8035bb7a55431b066f8bdf291a8528161c2e5d31d344"}},
		"workspaces": {"package-lock.json", "npm-workspaces/package-lock.json", []string{"pkg:npm/dayjs@1.11.13 " + dayjs}},
		"pnpm":       {"pnpm-lock.yaml", "pnpm/pnpm-lock.yaml", []string{"pkg:npm/dayjs@1.11.13 " + dayjs}},
		"yarn":       {"yarn.lock", "yarn/yarn.lock", []string{"pkg:npm/dayjs@1.11.13"}},
		"deno":       {"deno.lock", "deno/deno.lock", []string{"pkg:npm/ms@2.1.3 SHA512:e85973b9b4cb646dc9d9afcd542025784863ceae68c601f268253dc985ef70bb2fa1568726afece715c8ebf5d73fab73ed1f7100eb479d23bfb57b45dd645394"}},
		"go":         {"go.sum", "go/go.sum", []string{"pkg:golang/github.com/dustin/go-humanize@v1.0.0 SHA256:5529d3b180a79451da336fe280ed61e97dc703bd637286d0bb17a6824ab8cd8a"}},
		"julia": {"Manifest.toml", "julia/Manifest.toml", []string{
			"pkg:julia/CompilerSupportLibraries_jll@1.0.1%2B0?uuid=e66e0078-7015-5450-92f7-15fbd957f2ae",
			"pkg:julia/OpenBLAS_jll@0.3.20%2B0?uuid=4536629a-c528-5b80-bd46-f80d51c5b363",
			"pkg:julia/SHA@0.7.0?uuid=ea8e919c-243c-51af-8825-aaa63cd721ce",
			"pkg:julia/libblastrampoline_jll@5.1.1%2B0?uuid=8e850b90-86db-534c-a0d3-1478176c7d93",
		}},
		"r": {"renv.lock", "r-renv/renv.lock", []string{"pkg:cran/english@1.2-5", "pkg:cran/praise@1.0.0"}},
		"conda": {"conda.txt", "conda-explicit/conda-linux-64.lock", []string{
			"pkg:conda/python@3.12.7?build=hc5c86c4_0_cpython&channel=conda-forge&subdir=linux-64&type=conda SHA256:e4bc5b1ce57e693252fb509ebb6c325d0aef3fabd89c94032fd5cd2d3754c7be",
			"pkg:conda/pip@24.3.1?build=pyh8b19718_0&channel=conda-forge&subdir=noarch&type=conda SHA256:102a4e3568d2e98b99890057dcffc96859738c44ac22325b18ce1eb39525100b",
			"pkg:conda/xarray@2024.11.0?build=pyhd8ed1ab_0&channel=conda-forge&subdir=noarch&type=conda SHA256:fdedb29c9dc310929538942d99519461a03f97bcc7261c13dd04c89437d439c4",
			"pkg:conda/numpy@2.1.2?build=py312h58c1407_0&channel=conda-forge&subdir=linux-64&type=conda SHA256:446f9e5f0fbb88c3dd5b8c3e21c05fa133858634f102ab422d053439f2e11da6",
		}},

		"scopes and copies": {
			"package-lock.json", `{"lockfileVersion": 3, "packages": {"": {"name": "tides"},
"node_modules/@tide/tables": {"version": "2.0.0", "integrity": "sha512-AAE="}, "node_modules/moon": {"version": "1.0.0-rc+5"},
"node_modules/a": {"name": "@tide/other", "version": "3.0.0"}, "node_modules/@tide/tables/node_modules/moon": {"version": "0.9.0", "integrity": "sha1-/w== sha512-AAE="},
"node_modules/near": {"resolved": "near", "link": true}, "near": {"version": "1.0.0"}, "node_modules/near/node_modules/moon": {"version": "0.9.0"}}}`,
			[]string{"pkg:npm/%40tide/tables@2.0.0 SHA512:0001", "pkg:npm/moon@0.9.0 SHA1:ff SHA512:0001", "pkg:npm/%40tide/other@3.0.0", "pkg:npm/moon@1.0.0-rc%2B5"},
		},
		"npm's first format": {
			"npm-shrinkwrap.json", `{"lockfileVersion": 1, "requires": true, "dependencies": {"a": {"version": "1.0.0", "integrity": "sha1-/w==", "requires": {"b": "^2"}, "dependencies": {"b": {"version": "2.0.0"}}}}}`,
			[]string{"pkg:npm/a@1.0.0 SHA1:ff", "pkg:npm/b@2.0.0"},
		},
		"yarn 1":     {"yarn.lock", "# yarn lockfile v1\n\n\n\"@tide/tables@^2.0\", \"@tide/tables@^2.1\":\n  version \"2.1.0\"\n  resolved \"https://example.org/a.tgz#00\"\n  integrity sha512-AAE=\n  dependencies:\n    moon \"^1\"\n\nmoon@^1:\n  version \"1.0.0\"\n", []string{"pkg:npm/%40tide/tables@2.1.0 SHA512:0001", "pkg:npm/moon@1.0.0"}},
		"pnpm 5":     {"pnpm-lock.yaml", "lockfileVersion: 5.4\npackages:\n  /@tide/tables/2.1.0_moon@1.0.0:\n    resolution: {integrity: sha512-AAE=}\n", []string{"pkg:npm/%40tide/tables@2.1.0 SHA512:0001"}},
		"pnpm 6":     {"pnpm-lock.yaml", "lockfileVersion: '6.0'\npackages:\n  /@tide/tables@2.1.0(moon@1.0.0):\n    resolution: {integrity: sha512-AAE=}\n", []string{"pkg:npm/%40tide/tables@2.1.0 SHA512:0001"}},
		"jsr":        {"deno.lock", `{"version": "5", "jsr": {"@std/path@1.0.8": {"integrity": "00"}}, "npm": {"a@1.0.0_b@2.0.0": {"integrity": "sha512-AAE="}}}`, []string{"pkg:npm/a@1.0.0 SHA512:0001", "pkg:npm/%40jsr/std__path@1.0.8?repository_url=https:%2F%2Fnpm.jsr.io"}},
		"older deno": {"deno.lock", `{"version": "3", "packages": {"specifiers": {"npm:ms": "npm:ms@2.1.3"}, "npm": {"ms@2.1.3": {"integrity": "sha512-AAE=", "dependencies": {}}}}}`, []string{"pkg:npm/ms@2.1.3 SHA512:0001"}},
		"modules":    {"go.sum", "Example.org/Tides/v2 v2.1.0 h1:AAE=\nExample.org/Tides/v2 v2.0.9 h1:AAA=\nother.org/a v1.0.0/go.mod h1:AAA=\nother.org/b v0.0.0-2020+incompatible h1:AAE=\n", []string{"pkg:golang/example.org/tides/v2@v2.1.0 SHA256:0001", "pkg:golang/other.org/b@v0.0.0-2020%2Bincompatible SHA256:0001"}},
		"crates": {
			"Cargo.lock", "version = 4\n[[package]]\nname = \"tides\"\nversion = \"0.1.0\"\n[[package]]\nname = \"itoa\"\nversion = \"1.0.9\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"0a\"\n" +
				"[[package]]\nname = \"moon\"\nversion = \"2.0.0\"\nsource = \"git+https://example.org/moon.git?rev=0b#0b\"\n",
			[]string{"pkg:cargo/itoa@1.0.9 SHA256:0a", "pkg:generic/moon@2.0.0?vcs_url=git%2Bhttps:%2F%2Fexample.org%2Fmoon.git%400b"},
		},
		"julia's trees":    {"Manifest.toml", "[[Example]]\ngit-tree-sha1 = \"0c\"\nuuid = \"7876af07-990d-54b4-ab0e-23690620f79a\"\nversion = \"0.5.3\"\n\n[[Own]]\npath = \".\"\nuuid = \"1\"\nversion = \"1.0.0\"\n", []string{"pkg:julia/Example@0.5.3?uuid=7876af07-990d-54b4-ab0e-23690620f79a gitoid:tree:sha1:0c"}},
		"r from a forge":   {"renv.lock", `{"Packages": {"english": {"Package": "english", "Version": "1.2-5", "SHA256": "0d"}, "moon": {"Package": "moon", "Version": "1.0", "Source": "GitHub", "RemoteUsername": "o", "RemoteRepo": "moon", "RemoteSha": "0e"}}}`, []string{"pkg:cran/english@1.2-5 SHA256:0d", "pkg:generic/moon@1.0?vcs_url=git%2Bhttps:%2F%2Fgithub.com%2Fo%2Fmoon%400e"}},
		"debian":           {"apt.txt", "git=1:2.47.3-0+deb13u1 # sha256:" + strings.Repeat("0f", 32) + "\n    # via tools\nzlib1g=1.3\n", []string{"pkg:deb/debian/git@1:2.47.3-0%2Bdeb13u1 SHA256:" + strings.Repeat("0f", 32), "pkg:deb/debian/zlib1g@1.3"}},
		"python":           {"python.txt", "numpy==2.3.1\ntyping-extensions==4.15.0+local\n", []string{"pkg:pypi/numpy@2.3.1", "pkg:pypi/typing-extensions@4.15.0%2Blocal"}},
		"one of two files": {"requirements.txt", "numpy==2.3.1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nidna==3.11 --hash=sha256:02\n    # via a\n", []string{"pkg:pypi/numpy@2.3.1", "pkg:pypi/idna@3.11 SHA256:02"}},
		"conda's records":  {"conda-packages.txt", "r-base=4.4.2=h1\n", []string{"pkg:conda/r-base@4.4.2?build=h1"}},
		"nix": {
			"nix.txt", "/nix/store/" + strings.Repeat("a", 32) + "-glibc-2.40-66-dev\n/nix/store/" + strings.Repeat("b", 32) + "-builder.sh\n/nix/store/" + strings.Repeat("c", 32) + "-python3.12-numpy-2.1.drv\n/nix/store/" + strings.Repeat("d", 32) + "-python3.12-numpy-2.1\n",
			[]string{"pkg:nix/glibc@2.40-66?output=dev&outputhash=" + strings.Repeat("a", 32), "pkg:nix/python3.12-numpy@2.1?outputhash=" + strings.Repeat("d", 32)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.ContainsAny(c.text, "\n{") {
				b, err := os.ReadFile(filepath.Join("../../examples", c.text))
				if err != nil {
					t.Fatal(err)
				}
				c.text = string(b)
			}
			if diff := cmp.Diff(c.want, listed(t, c.file, c.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInstalledOnce: the lock of Python has what is not installed here, and the
// hashes of what is.
func TestInstalledOnce(t *testing.T) {
	files := []binnacle.Resolved{
		{Name: "python.txt", Content: "idna==3.11\nsix==1.17.0\n"},
		{Name: "requirements.txt", Content: "colorama==0.4.6 ; sys_platform == 'win32'\nidna==3.11 --hash=sha256:02\n    # via a\n"},
		{Name: "jupyter.txt", Content: "idna==3.11\n"},
	}
	var have []string
	for _, p := range image.Components(files) {
		have = append(have, line(t, p))
	}
	if diff := cmp.Diff([]string{"pkg:pypi/idna@3.11 SHA256:02", "pkg:pypi/six@1.17.0"}, have); diff != "" {
		t.Error(diff)
	}
}

func listed(t *testing.T, file, text string) []string {
	t.Helper()
	var out []string
	for _, p := range image.Components([]binnacle.Resolved{{Name: file, Content: text}}) {
		out = append(out, line(t, p))
	}
	return out
}

// line is a package on one line. What is written can be read again.
func line(t *testing.T, p *spdx.Package) string {
	t.Helper()
	words := []string{p.PackageExternalReferences[0].Locator}
	if _, err := packageurl.FromString(words[0]); err != nil {
		t.Errorf("%s: %v", words[0], err)
	}
	for _, sum := range p.PackageChecksums {
		words = append(words, string(sum.Algorithm)+":"+sum.Value)
	}
	for _, more := range p.PackageExternalReferences[1:] {
		words = append(words, more.Locator)
	}
	p.PackageSPDXIdentifier = "Package-0"
	var b bytes.Buffer
	doc := &spdx.Document{SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: "a", Packages: []*spdx.Package{p}}
	if err := spdxjson.Write(doc, &b); err != nil {
		t.Error(err)
	}
	if again, err := spdxjson.Read(&b); err != nil || len(again.Packages) != 1 || !cmp.Equal(again.Packages[0].PackageChecksums, p.PackageChecksums) {
		t.Errorf("%s: %v", words[0], err)
	}
	return strings.Join(words, " ")
}
