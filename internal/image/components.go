package image

import (
	"path"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// components are the packages in an image, as SPDX writes them. What two files
// name is one package.
func components(files []binnacle.Resolved) []*spdx.Package {
	texts := map[string]string{}
	for _, f := range files {
		texts[f.Name] = f.Content
	}
	var out []*spdx.Package
	seen := map[string]bool{}
	for _, in := range recipe.ReadInstalled(texts) {
		at := purl(in)
		if in.Version == "" || seen[at] {
			continue
		}
		seen[at] = true
		p := &spdx.Package{
			PackageName: in.Name, PackageVersion: in.Version, PackageDownloadLocation: "NOASSERTION", PackageChecksums: checksums(in.Sums),
			PackageExternalReferences: []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: at}},
		}
		for _, sum := range in.Sums {
			if tree, ok := strings.CutPrefix(sum, "tree:"); ok {
				p.PackageExternalReferences = append(p.PackageExternalReferences,
					&spdx.PackageExternalReference{Category: "PERSISTENT-ID", RefType: "gitoid", Locator: "gitoid:tree:sha1:" + tree})
			}
		}
		out = append(out, p)
	}
	return out
}

// checksums are those of which there is one: of several nobody knows which file
// was taken.
func checksums(sums []string) []spdx.Checksum {
	kinds := map[string]spdx.ChecksumAlgorithm{"md5": spdx.MD5, "sha1": spdx.SHA1, "sha256": spdx.SHA256, "sha384": spdx.SHA384, "sha512": spdx.SHA512}
	found := map[spdx.ChecksumAlgorithm][]string{}
	for _, sum := range sums {
		kind, hex, _ := strings.Cut(sum, ":")
		if algorithm, ok := kinds[kind]; ok {
			found[algorithm] = append(found[algorithm], hex)
		}
	}
	var out []spdx.Checksum
	for _, algorithm := range []spdx.ChecksumAlgorithm{spdx.MD5, spdx.SHA1, spdx.SHA256, spdx.SHA384, spdx.SHA512} {
		if len(found[algorithm]) == 1 {
			out = append(out, common.Checksum{Algorithm: algorithm, Value: found[algorithm][0]})
		}
	}
	return out
}

// purl is the package URL, as its specification wants it for each kind. What comes
// from git, and not from where the others of its kind are, is "generic".
func purl(in recipe.Installed) string {
	kinds := map[string]string{"apt": packageurl.TypeDebian, "pip": packageurl.TypePyPi, "deno": packageurl.TypeNPM, "go": packageurl.TypeGolang}
	kind, space, name := kinds[in.Manager], "", in.Name
	if kind == "" {
		kind = in.Manager // npm, conda, cargo, julia, cran, nix
	}
	switch {
	case in.More["vcs_url"] != "":
		kind = packageurl.TypeGeneric
	case in.Manager == "apt":
		space = "debian"
	case in.More["repository_url"] != "": // JSR's names on its registry for npm
		space, name = "@jsr", strings.ReplaceAll(strings.TrimPrefix(name, "@"), "/", "__")
	case strings.Contains(name, "/"):
		space, name = path.Dir(name), path.Base(name)
	}
	p := packageurl.NewPackageURL(kind, space, name, in.Version, packageurl.QualifiersFromMap(in.More), "")
	if err := p.Normalize(); err != nil {
		return packageurl.NewPackageURL(packageurl.TypeGeneric, "", in.Name, in.Version, nil, "").ToString()
	}
	return p.ToString()
}
