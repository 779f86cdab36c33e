package recipe

import (
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// juliaCauses are the ways in which Julia fails, in its words and in ours.
func juliaCauses() []cause {
	const away = "Try again in a few minutes; if it stays, tell the operator of this hub."
	const resolve = "Run ]resolve in Julia and commit the manifest."
	const compat = "Loosen its entry in [compat], or that of the package it excludes; run ]resolve in Julia to see what fits."
	return []cause{
		{pattern: `julia: \S+ (?:could not be reached|answered 5)`, message: "The place that Julia is downloaded from could not be reached.", hint: away, code: binnacle.CodeUnavailable, tools: true},
		{pattern: `julia: (?:there is no release|release) (\S+)`, message: "There is no build of Julia {} for this machine.", hint: "Run ]resolve with a release of Julia that has one, and commit the manifest.", tools: true},
		{pattern: `julia: no release for this machine fits`, message: "No release of Julia is allowed by [compat] julia.", hint: "Allow a later one.", tools: true},
		{pattern: `julia: what was downloaded for Julia`, message: "The download of Julia is damaged: its SHA-256 is another than Julia's list says.", hint: away, tools: true},
		{pattern: `julia: the committed (\S+) does not fit`, message: "{} does not fit the project any more.", hint: "Run ]resolve in Julia and commit both files.", tools: true},
		{pattern: "julia: .*?depends on `([A-Za-z][A-Za-z0-9_]*)`, but no such entry exists in the manifest", message: "The manifest does not have {}, which one of its packages needs.", hint: resolve, tools: true},
		{pattern: "Could not parse entry for `deps`", message: "The manifest is of a newer format than the Julia that is used reads.", hint: "Allow a later Julia in [compat], or run ]resolve in Julia and commit the manifest.", tools: true},
		{pattern: "julia: .*?[Uu]nsatisfiable requirements detected for package (?:\x1b\\[[0-9;]*m)?`?([A-Za-z][A-Za-z0-9_]*)", message: "No version of the Julia package {} fits all that is asked for.", hint: compat, tools: true},
		{pattern: `julia: .*?empty intersection between ([A-Za-z][A-Za-z0-9_]*)@`, message: "The version of {} in the manifest is not allowed by [compat].", hint: resolve, tools: true},
		{pattern: "julia: .*?[Cc]annot find name corresponding to UUID|julia: .*?expected package .?([A-Za-z][A-Za-z0-9_]*)[^.]{0,60}to be registered", message: "Julia's registry has no package {}.", hint: "Check its identifier; a package that is not registered needs its git address: ]add https://….", tools: true},
		{pattern: "julia: .*?`([A-Za-z][A-Za-z0-9_]*)` is a direct dependency, but does not appear in the manifest", message: "The manifest does not have {}.", hint: resolve, tools: true},
		{pattern: "julia: .*?Error building `([A-Za-z][A-Za-z0-9_]*)`", message: "The build script of the Julia package {} failed.", hint: "Name the Debian packages that it needs in apt.txt.", tools: true},
		{pattern: "julia: .*?(?:[Ff]ailed to (?:download|clone|fetch)|Unable to download|could not download|Could not resolve host)", message: "Julia's package server could not be reached.", hint: away, code: binnacle.CodeUnavailable, tools: true},
	}
}

// juliaFile blames the manifest where that is at fault, which is the step's second file.
func juliaFile(s Step, e *binnacle.Error, flat string) {
	if len(s.From) > 1 && (strings.Contains(flat, "no such entry exists in the manifest") || strings.Contains(flat, "Could not parse entry for `deps`")) {
		e.File, e.Line = s.From[1].File, s.From[1].Line
	}
}
