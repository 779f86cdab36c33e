package recipe

import "encoding/json"

// What the tests look at from outside.
var (
	ParseRuntime   = parseRuntime
	ParseIgnore    = parseIgnore
	ParsePyproject = func(text string) error { _, err := parsePyproject(text); return err }
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
)

// SplitRuntime gives name, version and date.
func SplitRuntime(text string) (name, version, date string, err error) {
	f, err := splitRuntime("runtime.txt", text)
	if !f.date.IsZero() {
		date = f.date.Format("2006-01-02")
	}
	return f.name, f.version, date, err
}
