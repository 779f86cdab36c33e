package recipe

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// nixCauses are the ways in which Nix fails, in its words.
func nixCauses() []cause {
	const away = "Try again in a few minutes; if it stays, tell the operator of this hub."
	return []cause{
		{pattern: `error: (?:.*?\berror: )?undefined variable '([^']+)'`, message: "Nix knows no {} here.", hint: "Check the spelling: packages are listed at search.nixos.org. What a file uses must be one of its arguments, or stand after `with`.", tools: true},
		{pattern: `error: (?:.*?\berror: )?attribute '([^']+)' missing`, message: "There is no attribute {}: a package may have another name in this release of nixpkgs.", hint: "Search for its name at search.nixos.org, or pin the nixpkgs that has it.", tools: true},
		{pattern: `error: (?:.*?\berror: )?syntax error, (unexpected [^ ]+)`, message: "The expression has a syntax error: {}.", hint: "Correct this line.", tools: true},
		{pattern: `error: (?:.*?\berror: )?file '([^']+)' was not found in the Nix search path`, message: "Nix does not know <{}>.", hint: "Only <nixpkgs> is there; fetch others with builtins.fetchTarball.", tools: true},
		{pattern: `hash mismatch in (?:fixed-output derivation|file downloaded from) '([^']+)'`, message: "What was downloaded is not what its hash says: {}.", hint: "Renew the hash in the expression.", tools: true},
		{pattern: `[Uu]nfree license`, message: "A package has a licence that nixpkgs does not build without being told.", hint: "Import nixpkgs with { config.allowUnfree = true; }.", tools: true},
		{pattern: `error: (?:.*?\berror: )?nix-shell requires a single derivation`, message: "The expression gives more than one package.", hint: "Give one: pkgs.mkShell { packages = [ … ]; }.", tools: true},
		{pattern: `(?:error: (?:.*?\berror: )?|curl: \(\d+\) .*)(?:unable to download|Could not resolve host|Failed to connect)`, message: "A package source of Nix could not be reached.", hint: away, code: binnacle.CodeUnavailable, tools: true},
		{pattern: `error: (?:.*?\berror: )?(?:builder for|Cannot build) '/nix/store/[a-z0-9]{32}-([^']+)\.drv'`, message: "Nix could not build {}.", hint: "The log says why; a release of nixpkgs that has it compiled needs no building.", tools: true},
	}
}

// nixLine takes the file and line that Nix names, when they are the repository's.
// Nix shows where it came from first; what went wrong is last.
func nixLine(r Recipe, e *binnacle.Error, flat string) {
	if r.Kind != "nix" {
		return
	}
	at := regexp.MustCompile(`\bat (?:«[^»]*»)?(/[^ :]*?)([A-Za-z0-9._/-]+\.nix):(\d+)`).FindAllStringSubmatch(flat, -1)
	for _, m := range slices.Backward(at) {
		whole := m[1] + m[2]
		file, ok := strings.CutPrefix(whole, RepoDir+"/")
		if rest, input := strings.CutPrefix(whole, InputDir+"/nix/"); input {
			file, ok = path.Join(r.Dir, rest), true
		}
		if n, err := strconv.Atoi(m[3]); ok && err == nil {
			e.File, e.Line = file, n
			return
		}
	}
}
