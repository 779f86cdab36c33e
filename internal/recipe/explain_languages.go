package recipe

import "regexp"

// languageMarks are the lines in which these tools say why they gave up.
func languageMarks() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`^npm (?:error|ERR!) ((?:Missing|Invalid): .*|404 +The .*|peer .* from .*|notarget No .*|command .*failed.*)`),
		regexp.MustCompile(`^(verifying \S+@\S+: .*)`),
		regexp.MustCompile(`^go: (.*(?:reading|invalid|unknown|toolchain|unrecognized).*)`),
		regexp.MustCompile(`^binnacle: (.*)`),
	}
}

// languageCauses are the ways in which npm, Deno, Go, Cargo and the image of a
// development container fail.
func languageCauses() []cause {
	const stale = "Make the lock anew and commit it."
	return []cause{
		{pattern: `binnacle: the image has no (apt|glibc)`, message: "The image that devcontainer.json names has no {}, which the environment needs.", hint: "Choose an image made from Debian or Ubuntu."},
		{pattern: `npm (?:error|ERR!) 404 (?:The requested resource )?'((?:@[^/@']+/)?[^@']+)@`, message: "There is no package called {} in the npm registry.", hint: "Check its name in package.json.", tools: true},
		{pattern: `npm (?:error|ERR!) code ETARGET.*?No matching version found for ((?:@[^/@ ]+/)?[^@ ]+)@`, message: "The version asked for of {} does not exist.", hint: versionHint, tools: true},
		{pattern: "`npm ci` can only install packages when(?:.*?(?:Missing|Invalid): (?:lock file's )?((?:@[^/@ ]+/)?[^@ ]+)@)?", message: "package.json and its lock do not agree.", hint: "Run `npm install` and commit package-lock.json.", tools: true},
		{pattern: `ERR_PNPM_OUTDATED_LOCKFILE|YN0028|Your lockfile needs to be updated`, message: "package.json and its lock do not agree.", hint: stale, tools: true},
		{pattern: `npm (?:error|ERR!) code ERESOLVE`, message: "The packages of package.json want versions of each other that exclude each other.", hint: "Run `npm install` to see them, and commit package-lock.json; or write legacy-peer-deps=true into .npmrc.", tools: true},
		{pattern: `npm (?:error|ERR!) code EINTEGRITY`, message: "What was downloaded is not what the lock says.", hint: stale, tools: true},
		{pattern: `npm (?:error|ERR!) code EBADENGINE|ERR_PNPM_UNSUPPORTED_ENGINE`, message: "A package needs another version of Node.js.", hint: "Name one in \"engines\" of package.json or in .nvmrc.", tools: true},
		{pattern: `npm (?:error|ERR!) path \S*node_modules/((?:@[^/ ]+/)?[^/ ]+) npm (?:error|ERR!) command failed`, message: "The install script of {} failed.", hint: "Name the Debian packages that it needs in apt.txt.", tools: true},
		{pattern: `error: The lockfile is out of date`, message: "deno.json and its lock do not agree.", hint: "Run `deno install` and commit deno.lock.", tools: true},
		{pattern: `error: npm package '([^']+)' does not exist`, message: "There is no package called {} in the npm registry.", hint: "Check its name in deno.json.", tools: true},
		{pattern: `verifying (\S+?)@\S+: checksum mismatch`, message: "What was downloaded for {} is not what go.sum says.", hint: "Run `go mod tidy` and `go mod verify`, and commit go.sum.", tools: true},
		{pattern: `missing go\.sum entry|updates to go\.mod needed|go\.sum file indicates|go: updates to go\.sum needed`, message: "go.mod and go.sum do not agree.", hint: "Run `go mod tidy` and commit both files.", tools: true},
		{pattern: `go: download (go[0-9]\S*?)(?: for \S+)?: `, message: "The release {} that is asked for could not be had.", hint: "Ask for one that exists, such as go 1.24.", tools: true},
		{pattern: `go: (?:module )?(\S+?)@\S+: (?:reading|invalid version|unknown revision|unrecognized import path|parsing)`, message: "The Go module {} could not be had.", hint: "Check its path and version in go.mod; it must be public.", tools: true},
		{pattern: `the lock file \S+ needs to be updated but --locked was passed|cannot update the lock file`, message: "Cargo.toml and Cargo.lock do not agree.", hint: "Run `cargo generate-lockfile` or `cargo build`, and commit Cargo.lock.", tools: true},
		{pattern: "no matching package (?:named )?`([^`]+)` found", message: "There is no crate called {}.", hint: "Check its name in Cargo.toml.", tools: true},
		{pattern: "failed to select a version for (?:the requirement )?`([A-Za-z0-9_-]+)", message: "No version of {} fits what is asked for.", hint: versionHint, tools: true},
		{pattern: "feature `([^`]+)` is required|requires rustc (\\S+)", message: "Something needs a newer Rust ({}) than Debian has.", hint: "Choose an older version in Cargo.toml, or bring your own toolchain with a Dockerfile.", tools: true},
	}
}
