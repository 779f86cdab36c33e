package recipe

import (
	"regexp"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// cause is one way a tool fails, in its own words.
type cause struct {
	pattern string // its first group, if any, is the package at fault
	message string // {} stands for the package
	hint    string
	code    binnacle.Code // build_failed when empty
}

// causes are looked for in this order in the last lines of a failed step.
func causes() []cause {
	return []cause{
		{`No space left on device`, "The disk of the build is full.", "Ask the operator of this hub for room, or install less.", binnacle.CodeUnavailable},
		{`(?i)out of memory|cannot allocate memory|MemoryError|exit code 137`, "A step of the build used more memory than it may.", "Install fewer packages at once, or prefer packages that need no compiling.", binnacle.CodeBuildFailed},
		{`(?i)Temporary failure resolving|Could not resolve|dns error|failed to lookup address|Connection (?:refused|timed out)|tcp connect error`,
			"A package source could not be reached.", "Try again in a few minutes; if it stays, tell the operator of this hub.", binnacle.CodeUnavailable},
		{`Because ([A-Za-z0-9._-]+) was not found in the package registry`, "There is no package called {}.", "Check the spelling on the package index; the name to install can differ from the name to import.", ""},
		{`Because there (?:is|are) no versions? of ([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==?(?:\S+) `, "The version asked for of {} does not exist.", "Choose one that does, or leave the version out.", ""},
		{`Because only (?:the following versions of )?([A-Za-z0-9._-]+)[<>=~!]`, "No version of {} fits what is asked for.", "Loosen the version, or leave it out.", ""},
		{`Because ([A-Za-z0-9._-]+)\S* has no wheels with a matching`, "{} has no build for this Python or platform.", "Choose another version of it, or of Python in runtime.txt.", ""},
		{`requires-python|Requires-Python|depends on Python`, "A package needs another version of Python.", "Name the Python in runtime.txt, such as python-3.12, or choose another version of the package.", ""},
		{`Failed to build .?([A-Za-z0-9._-]+)==`, "{} could not be built from its source.", "If a header or a compiler is missing, name its Debian package in apt.txt; or choose a version that has a wheel.", ""},
		{`(?:fatal error: )(\S+\.h): No such file`, "The header {} is missing.", "Name the Debian package that has it in apt.txt; its name usually ends in -dev.", ""},
		{`Unable to locate package (\S+)`, "Debian has no package called {}.", "Search for its name at packages.debian.org; it can differ between distributions.", ""},
		{`Version '.*' for '(\S+)' was not found`, "The version asked for of {} is not in Debian.", "Leave the version out.", ""},
		{`Package '?(\S+?)'? has no installation candidate`, "Debian has no package called {} any more.", "Search for what replaced it.", ""},
		{`No candidates were found for ([A-Za-z0-9._-]+)`, "No channel has a package {} that fits.", "Check its name and version, and that its channel is listed.", ""},
		{`(?i)cannot solve the request|unsolvable`, "The conda packages can't be installed together.", "Loosen the versions that the log names.", ""},
		{`No solution found when resolving`, "The packages can't be installed together.", "Loosen the versions that the log names.", ""},
		{`Invalid requirement|Couldn't parse requirement|Expected one of|Unexpected '`, "A line is not a requirement.", "Write it like name or name==1.2.", ""},
		{`(\S+): command not found`, "The command {} is not installed.", "Name the Debian package that has it in apt.txt.", ""},
		{`(?i)permission denied`, "Something may not be written: builds run as the user jovyan, not as root.", "Write below $HOME, and install system packages with apt.txt.", ""},
		{`No interpreter found for|No download found for request`, "The Python that is asked for could not be found.", "Choose another version in runtime.txt.", ""},
	}
}

// Explain says what the failure of a step means to the author: which file and
// line, what the tool said, what to change. log is the end of the step's output.
func Explain(r Recipe, step string, log []string) *binnacle.Error {
	s := r.step(step)
	e := &binnacle.Error{Code: binnacle.CodeBuildFailed, Op: "build", Message: "The step “" + step + "” failed.", Hint: "The log has its whole output."}
	if len(s.From) > 0 {
		e.File = s.From[0].File
		if len(s.From) == 1 {
			e.Line = s.From[0].Line
		}
	}
	text := ansi().ReplaceAllString(strings.Join(log, "\n"), "")
	flat := strings.Join(strings.Fields(text), " ") // tools break their sentences over lines
	for _, c := range causes() {
		m := regexp.MustCompile(c.pattern).FindStringSubmatch(flat)
		if m == nil {
			continue
		}
		name := ""
		if len(m) > 1 {
			name = strings.Trim(m[1], `'"`)
		}
		e.Message, e.Hint = strings.ReplaceAll(c.message, "{}", name), c.hint
		if c.code != "" {
			e.Code = c.code
		}
		if at, ok := s.line(name); ok {
			e.File, e.Line = at.File, at.Line
		}
		break
	}
	if said := lastWords(log); said != "" {
		e.Message += " It said: " + said
	}
	if s.Stage == StagePostBuild && e.File != "" && e.Hint == "The log has its whole output." {
		e.Message = e.File + " failed." + strings.TrimPrefix(e.Message, "The step “"+step+"” failed.")
		e.Hint = "Run it in a terminal to see what it needs; any command that ends with an error at its end fails the build."
	}
	return e
}

func (r Recipe) step(name string) Step {
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}

// line is where the step's files ask for a package.
func (s Step) line(name string) (Location, bool) {
	if name == "" {
		return Location{}, false
	}
	for _, p := range s.Packages {
		if canonical(p.Name) == canonical(name) {
			return p.From, true
		}
	}
	return Location{}, false
}

// canonical is PEP 503's normalised name; it does no harm to Debian's.
func canonical(name string) string {
	return strings.ToLower(regexp.MustCompile(`[-_.]+`).ReplaceAllString(name, "-"))
}

// lastWords is the last line that says something.
func lastWords(log []string) string {
	for i := len(log) - 1; i >= 0; i-- {
		line := strings.TrimSpace(ansi().ReplaceAllString(log[i], ""))
		if line != "" && !strings.HasPrefix(line, "hint:") {
			const longest = 300
			if r := []rune(line); len(r) > longest {
				line = string(r[:longest]) + "…"
			}
			return line
		}
	}
	return ""
}

func ansi() *regexp.Regexp { return regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07`) }
