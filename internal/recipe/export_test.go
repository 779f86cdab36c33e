package recipe

import (
	"encoding/json"
	"strings"
)

// What the tests look at from outside.
var (
	NixNamesFiles = nixNamesFiles
	NixCode       = nixCode
	NixChannel    = nixChannel

	ParseRuntime   = parseRuntime
	ParseIgnore    = parseIgnore
	ParsePyproject = func(text string) error { _, err := parsePyproject("pyproject.toml", text); return err }
	CondaPin       = condaPin
	ServerLock     = serverLock
	CompileProgram = compileProgram
	CondaProgram   = condaProgram
	CranProgram    = cranProgram
	RProgram       = rProgram
	RProfile       = rProfile
	CompareR       = compareR
	// ParseRenv and the others say only whether they take a text.
	ParseRenv        = func(text string) error { _, err := parseRenv("renv.lock", text); return err }
	ParseDescription = func(text string) error { _, err := parseDescription("DESCRIPTION", text); return err }
	DenoLock         = denoLock
	NodeVersions     = nodeVersions
	PickNode         = pickNode
	StripJSONC       = stripJSONC
	ValidJSON        = func(text string) bool { return json.Valid([]byte(text)) }
	NodeLock         = nodeLock
	Unfold           = unfold
	ProxyLock        = proxyLock
	DesktopLock      = desktopLock
)

// Kinds are the names of all.
func Kinds() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// SplitRuntime gives name, version and date.
func SplitRuntime(text string) (name, version, date string, err error) {
	f, err := splitRuntime("runtime.txt", text)
	if !f.date.IsZero() {
		date = f.date.Format("2006-01-02")
	}
	return f.name, f.version, date, err
}

// JuliaRange says what an entry of [compat] allows: "[1.6.0, 2.0.0)", parts joined
// by " or ".
func JuliaRange(spec string) (string, bool) {
	ranges, problem := juliaRanges(spec)
	out := make([]string, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, "["+r.From.String()+", "+r.Below.String()+")")
	}
	return strings.ReplaceAll(strings.Join(out, " or "), ", 1073741824.0.0)", ", ∞)"), problem == ""
}

// JuliaMatch says whether an entry of [compat] allows a version.
func JuliaMatch(spec, version string) bool {
	ranges, _ := juliaRanges(spec)
	v, n := juliaParts(strings.Split(version, "."))
	return n > 0 && within(ranges, v)
}

// What reads Python's locks.
var (
	PoetrySpec      = poetrySpec
	Simplified      = simplified
	ParsePipfile    = func(text string) error { _, err := parsePipfile("Pipfile", text); return err }
	ParsePoetryLock = func(text string) error { _, _, err := parsePoetryLock("poetry.lock", text); return err }
)
