package recipe

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// cause is one way a tool fails, in its own words.
type cause struct {
	pattern string // its first group, if any, is what the message is about
	message string // {} stands for that
	hint    string
	code    binnacle.Code // build_failed when empty
	tools   bool          // only of our installers, not of an author's script
	// better is a hint for this very name and output; empty when there is none.
	better func(name, flat string) string
}

// nearPython tells what may be meant by a name that is no package.
func nearPython(name, _ string) string {
	if names := pythonNames(name); len(names) > 0 {
		return "Did you mean " + strings.Join(names, " or ") + "? The name to install can differ from the name to import."
	}
	return ""
}

// moduleFrom tells which package has a module.
func moduleFrom(name, _ string) string {
	if names := pythonNames(name); len(names) == 1 {
		return "Add " + names[0] + " to requirements.txt or environment.yml: that is the package which has it."
	}
	return ""
}

// otherVersions tells which there are.
func otherVersions(name, flat string) string {
	if all := offered(flat, name); all != "" {
		return "There are " + all + ": choose one of them, or leave the version out."
	}
	return ""
}

// fromDebian tells the line of apt.txt.
func fromDebian(name, _ string) string {
	if p := debianFor(name); p != "" {
		return "Write " + p + " into apt.txt."
	}
	return ""
}

// forCommand tells what brings a command.
func forCommand(name, flat string) string {
	switch name {
	case "sudo":
		return "Builds have no sudo: name Debian packages in apt.txt; what is written below $HOME needs no root."
	case "conda", "mamba", "micromamba":
		return "Name what it installs in environment.yml; the command itself is there when environment.yml names the package " + name + "."
	}
	return fromDebian(name, flat)
}

// nowInDebian tells what another release calls otherwise.
func nowInDebian(name, _ string) string {
	if p := debianNames(name); p != "" {
		return "Write " + p + " instead: that is what has it in the release of Debian that is used here."
	}
	return ""
}

// excluding tells which packages apt names, as those that can't be together are often
// not the first.
func excluding(_, flat string) string {
	var names []string
	for _, m := range regexp.MustCompile(`(?:^| )([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)? : (?:PreDepends|Depends|Conflicts|Breaks): `).FindAllStringSubmatch(flat, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return "Leave out one of those that it names, or its version: " + strings.Join(names, ", ") + "."
}

// providers tells which packages have a name that is no package's own.
func providers(name, flat string) string {
	_, list, _ := strings.Cut(flat, "Package "+name+" is a virtual package provided by: ")
	list = regexp.MustCompile(` (?:[EWN]: |You should ).*`).ReplaceAllString(list, "")
	const most, of = 3, 2 // each is a name and a version
	var names []string
	for i, word := range strings.Fields(list) {
		if i%of == 0 {
			names = append(names, word)
		}
	}
	slices.Sort(names)
	return "Write one of them instead, such as " + strings.Join(names[:min(most, len(names))], " or ") + "."
}

const (
	looksOver   = "Loosen or remove one of the versions that it names."
	versionHint = "Choose one that does, or leave the version out."
	pythonHint  = "Name the Python in runtime.txt, such as python-3.12, or choose another version of the package."
	missingTool = "A package was to be built from its source, and the tool {} is missing."
	sourceHint  = "Add what it needs to apt.txt (build-essential, python3-dev, and the -dev package of each library), or choose a version that has a wheel."
)

// causes are looked for in this order in the end of a failed step's output.
func causes() []cause {
	return []cause{
		{pattern: `(?i)no space left on device|disk quota exceeded`, message: "The disk of the build is full.", hint: "Install or download less, or ask the operator of this hub for more room."},
		{pattern: `(?i)out of memory|cannot allocate memory|MemoryError|exit code 137|\bKilled\b|bad_alloc`, message: "A step of the build used more memory than it may.", hint: "Install fewer packages at once, or prefer packages that need no compiling."},
		{
			pattern: `runc run failed: .*(?:cgroup|mounting)`, message: "The step could not be started; that is not the repository's fault.",
			hint: "Tell the operator of this hub: its builders may not make control groups or mounts.", code: binnacle.CodeUnavailable,
		},
		{pattern: `Git operation failed|failed to clone into`, message: "A git repository could not be fetched.", hint: "Check its address and its branch or tag; it must be public.", tools: true},
		{pattern: `error sending request for url \(\S*python-build-standalone`, message: "The Python that is asked for could not be downloaded.", hint: "Leave the version out to take the one that this hub has, or ask its operator to let builds download it.", code: binnacle.CodeUnavailable, tools: true},
		{
			pattern: `(?i)Temporary failure resolving|Could not resolve host|dns error|failed to lookup address|Name or service not known|tcp connect error|Connection refused|Connection (?:timed out|reset)|Network is unreachable|operation timed out`,
			message: "A package source could not be reached.", hint: "Try again in a few minutes; if it stays, tell the operator of this hub.", code: binnacle.CodeUnavailable, tools: true,
		},
		{pattern: `(?i)\b50[0-4] (?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)`, message: "A package source answered with an error of its own.", hint: "Try again in a few minutes.", code: binnacle.CodeUnavailable, tools: true},
		{pattern: `(?i)Hash mismatch for .?([A-Za-z0-9._-]+)`, message: "What was downloaded for {} is not what its hash says.", hint: "Renew the hashes in the file.", tools: true},
		{pattern: `Because ([A-Za-z0-9._-]+)(?:\[[^\]]*\])? was not found in the (?:package registry|cache|provided package locations)`, message: "There is no package called {}.", hint: "Check the spelling; the name to install can differ from the name to import.", tools: true, better: nearPython},
		{pattern: `[Bb]ecause there (?:is|are) no versions? of ([A-Za-z0-9._-]+)`, message: "The version asked for of {} does not exist.", hint: versionHint, tools: true, better: otherVersions},
		{pattern: `requires-python|Requires-Python|does not satisfy Python|(?i)the requested Python version|depends on Python[<>=]`, message: "A package needs another version of Python.", hint: pythonHint, tools: true},
		{
			pattern: `[Bb]ecause (?:all versions of |only )?([A-Za-z0-9._-]+?)(?:[<>=~!][^ ]*)? (?:has|have) no wheels with a matching platform tag`, message: "{} has no build for this kind of machine.", tools: true,
			hint: "It may be for Windows or macOS only: leave it out there with a marker, such as ; sys_platform == 'win32', or choose another version.",
		},
		{pattern: `[Bb]ecause ([A-Za-z0-9._-]+?)(?:[<>=~!][^ ]*)? has no (?:wheels with a matching|usable wheels|compatible wheels)`, message: "{} has no build for this version of Python.", hint: pythonHint, tools: true},
		{pattern: `[Bb]ecause you require ([A-Za-z0-9._-]+)(?:[<>=~!][^ ]*)? and ([A-Za-z0-9._-]+)`, message: "The file asks for {} in versions that exclude each other.", hint: looksOver, tools: true},
		{pattern: `[Bb]ecause only ([A-Za-z0-9._-]+?)[<>=~!]\S+ (?:is|are) available`, message: "No version of {} fits what is asked for.", hint: versionHint, tools: true},
		{pattern: `[Bb]ecause ([A-Za-z0-9._-]+?)[<>=~!]\S* depends on `, message: "The packages can't be installed together: {} needs another version of one of them.", hint: looksOver, tools: true},
		{pattern: `No solution found when resolving`, message: "The packages can't be installed together.", hint: looksOver, tools: true},
		{pattern: `fatal error: (\S+\.h(?:pp)?): No such file`, message: "The header {} is missing: a package was to be built from its source.", hint: "Name the Debian package that has the header in apt.txt (its name usually ends in -dev), or choose a version that has a wheel.", better: fromDebian},
		{pattern: `can't find (Rust) compiler|(rustc).{0,40}is not installed or not in PATH`, message: strings.ReplaceAll(missingTool, "{}", "rustc"), hint: "Write rustc and cargo into apt.txt, each on a line of its own, or choose a version that has a wheel."},
		{
			pattern: `Trying pkg-config --exists (mysqlclient)`,
			message: "A package was to be built from its source, and the library that {} is made of is missing.", hint: "Write default-libmysqlclient-dev and pkg-config into apt.txt, each on a line of its own.",
		},
		{
			pattern: `Unknown compiler\(s\): \[\['([a-z+0-9]+)'|No such file or directory: '(gcc|g\+\+|cc|c\+\+|make|cmake|ninja|gfortran|rustc|cargo|swig|pg_config|pkg-config|mysql_config|gdal-config|nc-config|mpicc|llvm-config)'|No CMAKE_[A-Za-z]+_COMPILER could be found.*?(gfortran|g\+\+|gcc)`,
			message: missingTool, hint: sourceHint, better: fromDebian,
		},
		{
			pattern: `(?i)(?:command|program|error:) '?(gcc|g\+\+|cc|c\+\+|cmake|gfortran|rustc|cargo|swig|pg_config|pkg-config|mysql_config)\S*'? (?:failed: No such file|not found|is not installed|executable not found)|(pg_config) executable not found`,
			message: missingTool, hint: sourceHint, better: fromDebian,
		},
		{pattern: `(?:Failed to build|Failed to download and build|Could not build wheels for|Failed building wheel for) .?([A-Za-z0-9][A-Za-z0-9._-]*)`, message: "{} could not be built from its source.", hint: sourceHint, better: nearPython},
		{
			pattern: `ERROR: (?:configuration|compilation|lazy loading) failed for package ['‘"]?([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])`, message: "The package {} of R could not be built from its source.",
			hint: "The lines before say what it lacks: name the Debian package that has it in apt.txt, or choose a later day in runtime.txt.",
		},
		{pattern: `Unable to locate package (\S+)`, message: "Debian has no package called {}.", hint: "Search for its name in Debian's list of packages; it can differ between distributions.", tools: true, better: nowInDebian},
		{pattern: `Version '[^']*' for '([^']+)' was not found`, message: "The version asked for of {} is not in Debian.", hint: "Leave the version out.", tools: true},
		{pattern: `Release '[^']*' for '([^']+)' was not found`, message: "The release asked for of {} is not in this machine's sources.", hint: "Leave the release out.", tools: true},
		{pattern: `Package (\S+) is a virtual package provided by: `, message: "Several packages of Debian share the name {}.", hint: "Write one of them instead.", tools: true, better: providers},
		{pattern: `Package '?([^' ]+)'? has no installation candidate`, message: "Debian has no package called {} any more.", hint: "Search for what replaced it in Debian's list of packages.", tools: true, better: nowInDebian},
		{pattern: `(?i)unmet dependencies: (?:([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)? : )?|held broken packages`, message: "The Debian packages can't be installed together.", hint: "Leave out one of those that it names, or its version.", tools: true, better: excluding},
		{pattern: `does not appear to be a Python project|neither .?setup\.py.? nor .?pyproject\.toml`, message: "A directory that is to be installed is no Python package.", hint: "It needs a pyproject.toml or setup.py; paths are relative to the root of the repository.", tools: true},
		{pattern: `Couldn't parse requirement|Invalid requirement`, message: "A line is not a requirement.", hint: "Write it like name or name==1.2.", tools: true},
		{pattern: `No interpreter found for|No download found for request`, message: "The Python that is asked for could not be found.", hint: "Choose another version in runtime.txt.", tools: true},
	}
}

// allCauses has what is nobody's package's fault first.
func allCauses() []cause {
	const general = 6
	all := causes()
	return slices.Concat(all[:general], rCauses(), juliaCauses(), nixCauses(), condaCauses(), lockCauses(), languageCauses(), all[general:], scriptCauses())
}

// Explain says what the failure of a step means to the author: which file and
// line, what the tool said, what to change. log is the end of the step's output.
func Explain(r Recipe, step string, log []string) *binnacle.Error {
	s := r.step(step)
	s.Packages = r.condaPackages(s)
	script := s.Stage == StagePostBuild
	e := &binnacle.Error{Code: binnacle.CodeBuildFailed, Op: "build", Message: "The step “" + step + "” failed.", Hint: "The log has its whole output."}
	e.File, e.Line = r.At(step)
	out := newOutput(log)
	said, at := out.decisive()
	evidence := []span{at}
	flat := out.flat
	if script {
		e.Message = e.File + " failed."
		e.Hint = "Run it in a terminal to see what it needs; the status of its last command, or any with `set -e`, decides."
		if m := regexp.MustCompile(regexp.QuoteMeta(e.File) + `: line (\d+):`).FindStringSubmatch(flat); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				e.Line = n
			}
		}
	}
	rLine(e, flat)
	nixLine(r, e, flat)
	for _, c := range allCauses() {
		where := regexp.MustCompile(c.pattern).FindStringSubmatchIndex(flat)
		if where == nil || (script && c.tools) {
			continue
		}
		evidence = append(evidence, out.span(where[0], where[1]))
		name := ""
		for g := 2; g < len(where) && name == ""; g += 2 {
			if where[g] >= 0 {
				name = strings.Trim(flat[where[g]:where[g+1]], `'"`)
			}
		}
		message := strings.ReplaceAll(c.message, "{}", name)
		if script {
			message = e.Message + " " + message
		}
		e.Message, e.Hint = message, c.hint
		if c.better != nil && name != "" {
			if hint := c.better(name, flat); hint != "" {
				e.Hint = hint
			}
		}
		if c.code != "" {
			e.Code = c.code
		}
		if script || (name == "" && !c.tools) {
			break // no package is at fault
		}
		if at, ok := s.line(name, said, flat); ok {
			e.File, e.Line = at.File, at.Line
		}
		break
	}
	juliaFile(s, e, flat)
	if lines := condaPair(s, e, out); len(lines) > 0 {
		said, evidence = "", lines // the message has it all
	}
	if said != "" {
		e.Message += " It said: " + said
	}
	e.Excerpt = out.excerpt(evidence...)
	return e
}

// At is what in the repository asks for a step; an empty file when nothing does.
func (r Recipe) At(step string) (file string, line int) {
	s := r.step(step)
	switch {
	case len(s.From) > 0:
		return s.From[0].File, s.From[0].Line
	case s.Name == "" && r.Base != nil:
		return r.Base.From.File, r.Base.From.Line // a step of the image's own
	}
	return "", 0
}

func (r Recipe) step(name string) Step {
	for _, s := range r.Steps {
		if s.Name == name || (s.Lock != nil && s.Lock.Name == name) || (s.Build != nil && s.Build.Name == name) {
			return s
		}
	}
	return Step{}
}

// line is where the step's files ask for a package: the one that is named, or
// the first that the tool's sentence names.
func (s Step) line(name string, sentences ...string) (Location, bool) {
	if len(s.Packages) == 1 && s.Packages[0].Manager == "pip" && strings.Contains(s.Packages[0].Spec, "/") && s.Packages[0].From.File != "" {
		return s.Packages[0].From, true // a path or an address, whose name no tool says
	}
	for _, p := range s.Packages {
		if name != "" && p.From.File != "" && canonical(p.Name) == canonical(name) {
			return p.From, true
		}
	}
	for _, sentence := range sentences {
		words := map[string]bool{}
		for _, word := range regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._-]*`).FindAllString(sentence, -1) {
			words[canonical(word)] = true
		}
		for _, p := range s.Packages {
			if p.From.File != "" && words[canonical(p.Name)] {
				return p.From, true
			}
		}
	}
	return Location{}, false
}

// canonical is PEP 503's normalised name; it does no harm to Debian's.
func canonical(name string) string {
	return strings.ToLower(regexp.MustCompile(`[-_.]+`).ReplaceAllString(name, "-"))
}

// decisive is the tool's sentence that says why it gave up: what follows its
// last "Because" or error mark, and where that is; else its last line, and no place.
func (o output) decisive() (string, span) {
	lines := o.trimmed()
	marks := []*regexp.Regexp{
		regexp.MustCompile(`^(?:cause:|╰─▶|├─▶|And)?\s*([Bb]ecause .*)`),                             // uv's resolver
		regexp.MustCompile(`^([a-z0-9][a-z0-9+.:-]+ : (?:PreDepends|Depends|Conflicts|Breaks): .*)`), // apt
		regexp.MustCompile(`^E: (.*)`),
		regexp.MustCompile(`^(?:conda|cran|R|julia): (.*)`),
		regexp.MustCompile(`(.*fatal error: .*)`),
		regexp.MustCompile(`^(\S+:[0-9]+(?::[0-9]+)?: (?:error|ERROR): .*)`),            // compilers, Meson
		regexp.MustCompile(`^((?:[A-Za-z_]+\.)*[A-Z][A-Za-z]*(?:Error|Exception): .*)`), // Python
		regexp.MustCompile(`^(?i:error|cause): (.*)`),
	}
	const python = 6
	outer := regexp.MustCompile("(?i)^(?:error|cause): (?:Failed to build|The build backend|Call to `|command '?\\[?'.*exit)")
	for _, all := range []bool{false, true} {
		for i, mark := range append(marks, languageMarks()...) {
			order := slices.All(lines)
			if i == python {
				order = slices.Backward(lines) // what the program ended with
			}
			for n, line := range order {
				m := mark.FindStringSubmatch(line)
				if m == nil || (!all && outer.MatchString(line)) {
					continue
				}
				said, at := []string{m[1]}, span{n, n}
				const more = 6 // lines that a sentence of uv or conda goes on over
				for k := n + 1; (i == 0 || i == 3) && k < len(lines) && k <= n+more && !strings.HasPrefix(lines[k], "hint:"); k++ {
					said = append(said, strings.TrimLeft(lines[k], "│ "))
					at.to = k
				}
				return cut(strings.Join(said, " ")), at
			}
		}
	}
	for _, line := range slices.Backward(lines) {
		if !strings.HasPrefix(line, "hint:") {
			return cut(line), span{0, -1}
		}
	}
	return "", span{0, -1}
}

func cut(s string) string {
	const longest = 400
	s = unsecret(strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}
