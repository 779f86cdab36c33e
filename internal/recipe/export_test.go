package recipe

// What the tests look at from outside.
var (
	ParseRuntime   = parseRuntime
	ParseIgnore    = parseIgnore
	ParsePyproject = func(text string) error { _, err := parsePyproject(text); return err }
	CondaPin       = condaPin
	ServerLock     = serverLock
	CompileProgram = compileProgram
	CondaProgram   = condaProgram
)
