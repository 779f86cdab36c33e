package recipe

import (
	"path"
	"regexp"
	"strconv"

	"github.com/binnacle-hub/binnacle"
)

// rCauses are the ways in which R fails, in its words and in ours.
func rCauses() []cause {
	const away = "Try again in a few minutes; if it stays, tell the operator of this hub."
	return []cause{
		{pattern: `unable to access index for repository|cran: \S+ (?:could not be reached|answered 5)`, message: "The source of R packages could not be reached.", hint: away, code: binnacle.CodeUnavailable, tools: true},
		{pattern: `R: there is no build of R (\S+)`, message: "There is no build of R {} for this machine.", hint: "Leave the version out of runtime.txt to take Debian's R, or name a minor version such as r-4.4-2025-01-01.", tools: true},
		{pattern: `cran: package (\S+) is not available in the version wanted`, message: "CRAN has no such version of {}.", hint: "Loosen the version, or choose a later day in runtime.txt."},
		{pattern: `\* deb: (\S+)`, message: "A package of R needs the Debian package {} to be built.", hint: "Name it in apt.txt."},
		{pattern: `(?:unable to load shared object|error while loading shared libraries)\S* .*?(lib[A-Za-z0-9_+.-]+?)(?:\.so[0-9.]*): cannot open shared object`, message: "A package of R needs the library {}, which is not installed.", hint: "Name the Debian package that has it in apt.txt."},
		{pattern: `packages? ['‘"]?([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])['’"]?(?:, [^:]*?)? (?:is|are) not available`, message: "There is no package of R called {} to be had.", hint: "Check its spelling, upper and lower case included. It may be on Bioconductor or GitHub only, have come after the day whose packages are used (runtime.txt chooses it), or have left CRAN."},
		{pattern: `dependency ['‘"]?([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])['’"]? is not available`, message: "A package of R needs {}, which is not to be had.", hint: "It may be on Bioconductor, or have left CRAN: install it before, or choose another day in runtime.txt."},
		{pattern: `there is no package called ['‘"]?([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])['’"]?`, message: "The package {} of R is missing.", hint: "Install it with install.R, or name it below Imports in DESCRIPTION."},
		{pattern: `namespace ['‘"]?([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])['’"]? \S+ is (?:already loaded|being loaded), but`, message: "A package of R needs a newer version of {}.", hint: "Choose a later day in runtime.txt, or renew the lock."},
	}
}

// rLine takes the line that our program of R names.
func rLine(e *binnacle.Error, flat string) {
	m := regexp.MustCompile(`\bR: ([A-Za-z0-9._/-]+):(\d+):`).FindStringSubmatch(flat)
	if m == nil || e.File == "" || m[1] != path.Base(e.File) {
		return
	}
	if n, err := strconv.Atoi(m[2]); err == nil {
		e.Line = n
	}
}
