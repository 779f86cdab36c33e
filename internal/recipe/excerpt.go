package recipe

import (
	"regexp"
	"slices"
	"strings"
)

// What an error shows of a tool's output: so many lines, and so much of each, in
// letters.
const (
	excerptLines = 10
	excerptWidth = 240
)

// left stands in an excerpt for lines between two others.
const left = "…"

// output is what a step printed, to be searched.
type output struct {
	lines  []string // without colours, what a carriage return wrote over, and blank ones
	flat   string   // all words with one space between: tools break their sentences over lines
	starts []int    // where each line begins in flat
}

// span is lines of an output, the last one included; none when to < from.
type span struct{ from, to int }

func newOutput(log []string) output {
	escape := regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]`)
	var o output
	var flat strings.Builder
	quoted := 0 // the indentation of what uv repeats of another tool
	for _, l := range joined(log) {
		l = strings.TrimRight(escape.ReplaceAllString(l, ""), "\r\n \t")
		if i := strings.LastIndexByte(l, '\r'); i >= 0 {
			l = l[i+1:]
		}
		words := strings.Fields(l)
		if len(words) == 0 {
			continue
		}
		switch n := indent(l); {
		case l == strings.Repeat(" ", n)+"[stdout]", l == strings.Repeat(" ", n)+"[stderr]":
			quoted = n
		case n < quoted:
			quoted = 0
		default:
			l = l[max(0, quoted-2):]
		}
		o.lines = append(o.lines, l)
		if flat.Len() > 0 {
			flat.WriteByte(' ')
		}
		o.starts = append(o.starts, flat.Len())
		flat.WriteString(strings.Join(words, " "))
	}
	o.flat = flat.String()
	return o
}

// joined puts together what a carriage return parted that belongs to a name: the dash
// shell says "script: 1: date\r: not found" of a script with Windows line ends.
func joined(log []string) []string {
	var out []string
	for _, l := range log {
		if n := len(out); n > 0 && strings.HasPrefix(l, ": ") {
			out[n-1] += `\r` + l
			continue
		}
		out = append(out, strings.ReplaceAll(l, "\r: ", `\r: `))
	}
	return out
}

// trimmed are the lines without their indentation.
func (o output) trimmed() []string {
	out := make([]string, len(o.lines))
	for i, l := range o.lines {
		out[i] = strings.TrimSpace(l)
	}
	return out
}

// span is where a part of flat came from.
func (o output) span(from, to int) span {
	at := func(offset int) int {
		i, found := slices.BinarySearch(o.starts, offset)
		if !found {
			i--
		}
		return max(0, i)
	}
	return span{at(from), at(max(from, to-1))}
}

// excerpt chooses the lines that say why a tool failed: those that were recognized,
// what belongs to them, what speaks of errors; not progress, and nothing twice. They
// are in the tool's order, and [left] is between those that did not follow each other.
func (o output) excerpt(recognized ...span) []string {
	weights := o.weights(recognized)
	order := make([]int, 0, len(weights))
	for i, w := range weights {
		if w > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return weights[b] - weights[a] })
	chosen := slices.Sorted(slices.Values(order[:min(len(order), excerptLines)]))
	room := excerptLines - len(chosen)
	var out []string
	for n, i := range chosen {
		if n > 0 {
			between := o.between(chosen[n-1], i)
			switch {
			case len(between) == 1 && room > 0: // rather than saying that one line is missing
				out = append(out, readable(between[0]))
				room--
			case len(between) > 0:
				out = append(out, left)
			}
		}
		out = append(out, readable(o.lines[i]))
	}
	return dedent(out)
}

// Excerpt chooses, of the end of a log that nothing else is known about, the lines
// that say why a program failed.
func Excerpt(log []string) []string {
	o := newOutput(log)
	_, said := o.decisive()
	return o.excerpt(said)
}

// LastWords are the last lines of a log that are not progress: what a step was at
// that did not end.
func LastWords(log []string) []string {
	o := newOutput(log)
	var out []string
	for _, i := range o.last(excerptLines) {
		out = append(out, readable(o.lines[i]))
	}
	return dedent(out)
}

// How much a line says, whatever it stands beside.
const (
	weighsEvidence = 1000
	weighsTrace    = 300 // the exception and the last frame before it
	weighsError    = 40
	weighsNear     = 10 // less for each line of distance
)

// weights is how much each line says about the failure; 0 is nothing.
func (o output) weights(recognized []span) []int {
	weights := make([]int, len(o.lines))
	errors, warning := errorWords(), regexp.MustCompile(`(?i)\bwarn(?:ing)?\b|Deprecat|: note: `)
	for i, l := range o.lines {
		if errors.MatchString(l) && !warning.MatchString(l) {
			weights[i] = weighsError
		}
	}
	for i, w := range o.traceback() {
		weights[i] += w
	}
	noise := progressLines()
	for i, l := range o.lines {
		if noise.MatchString(l) {
			weights[i] = 0
		}
	}
	o.near(weights, recognized, noise)
	if !slices.ContainsFunc(recognized, func(s span) bool { return s.from <= s.to }) {
		const few = 6
		for _, i := range o.last(few) {
			weights[i] += weighsNear
		}
	}
	o.once(weights)
	return weights
}

// near adds to what was recognized and to what stands beside it: the code that a
// compiler shows and the end of a sentence follow it.
func (o output) near(weights []int, recognized []span, noise *regexp.Regexp) {
	const ends, before, after = 3, 2, 3 // lines
	for _, s := range recognized {
		if s.to < s.from || len(o.lines) == 0 {
			continue
		}
		for i := s.from; i <= s.to; i++ {
			// A long span is a pattern that leapt: what it leapt over counts less.
			switch first, last := i == s.from, i == s.to; {
			case first || last, (i < s.from+ends || i > s.to-ends) && !noise.MatchString(o.lines[i]):
				weights[i] += weighsEvidence
			case !noise.MatchString(o.lines[i]):
				weights[i] += weighsNear
			}
		}
		for d := 1; d <= after; d++ {
			if i := s.from - d; d <= before && i >= 0 && !noise.MatchString(o.lines[i]) {
				weights[i] += weighsNear - 2*d
			}
			if i := s.to + d; i < len(o.lines) && !noise.MatchString(o.lines[i]) {
				weights[i] += weighsNear - d
			}
		}
	}
}

// once takes the weight of lines that say again, but for numbers and names, what a
// line that weighs as much or more says.
func (o output) once(weights []int) {
	seen := map[string]int{}
	for i, l := range o.lines {
		if weights[i] == 0 {
			continue
		}
		key := kernel(l, weights[i])
		if k, ok := seen[key]; ok && weights[k] >= weights[i] {
			weights[i] = 0
			continue
		} else if ok {
			weights[k] = 0
		}
		seen[key] = i
	}
}

// kernel is what two lines have in common that say the same: all but numbers, and
// but names if they weigh little.
func kernel(line string, weight int) string {
	line = regexp.MustCompile(`[0-9]+`).ReplaceAllString(strings.Join(strings.Fields(line), " "), "0")
	if weight < weighsTrace {
		line = regexp.MustCompile("`[^`]*`|\"[^\"]*\"").ReplaceAllString(line, "“”")
	}
	return line
}

// traceback weighs the exception of the last traceback of Python, and the frame in
// which it was raised: where it says so, its code and the marks below that.
func (o output) traceback() map[int]int {
	lines := o.trimmed()
	begin := -1
	for i, l := range lines {
		if strings.HasPrefix(l, "Traceback (most recent call last)") {
			begin = i
		}
	}
	if begin < 0 {
		return nil
	}
	frame := -1
	inside := indent(o.lines[begin])
	for i := begin + 1; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], `File "`) {
			frame = i
		}
		if indent(o.lines[i]) > inside {
			continue
		}
		out := map[int]int{i: weighsTrace}
		const most = 4 // lines of a frame
		for k := max(frame, i-most); frame >= 0 && k < i; k++ {
			out[k] = weighsTrace - 1
		}
		return out
	}
	return nil
}

// last are the lines of which nothing is known but that they came last.
func (o output) last(most int) []int {
	noise := progressLines()
	var out []int
	for i := len(o.lines) - 1; i >= 0 && len(out) < most; i-- {
		if !noise.MatchString(o.lines[i]) {
			out = append(out, i)
		}
	}
	slices.Reverse(out)
	return out
}

// between are the lines between two others that mean something and do not say
// again what those say.
func (o output) between(a, b int) []string {
	noise := progressLines()
	same := map[string]bool{kernel(o.lines[a], 0): true, kernel(o.lines[b], 0): true}
	var out []string
	for _, l := range o.lines[a+1 : b] {
		if !noise.MatchString(l) && !same[kernel(l, 0)] {
			out = append(out, l)
		}
	}
	return out
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

// dedent takes the indentation that all lines share.
func dedent(lines []string) []string {
	least := -1
	for _, l := range lines {
		if n := indent(l); l != left && (least < 0 || n < least) {
			least = n
		}
	}
	for i, l := range lines {
		if l != left {
			lines[i] = l[least:]
		}
	}
	return lines
}

// readable is a line for people: not too long, without a password, and without what
// a terminal would obey.
func readable(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, unsecret(line))
	if r := []rune(line); len(r) > excerptWidth {
		line = strings.TrimRight(string(r[:excerptWidth]), " ") + "…"
	}
	return line
}

// unsecret hides passwords and tokens in addresses, and what stands after Bearer.
func unsecret(text string) string {
	text = regexp.MustCompile(`(://)[^/@\s'"]+@`).ReplaceAllString(text, "$1…@")
	text = regexp.MustCompile(`(?i)([?&;](?:[a-z_-]*token|password|passwd|secret|api[_-]?key|sig|signature)=)[^&\s'"]+`).ReplaceAllString(text, "$1…")
	return regexp.MustCompile(`(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}`).ReplaceAllString(text, "$1 …")
}

// errorWords are in lines that speak of what went wrong.
func errorWords() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(?:error|fatal|fail(?:ed|s|ure)?|cannot|can(?:'|’)t|could not|couldn't|unable|unknown|undefined|undeclared|unsatisfiable|unmet|unsupported|unexpected|incompatible|conflict(?:s|ing)?|` +
		`mismatch|missing|denied|refused|killed|abort(?:ed)?|panic|invalid|exception|not found|not available|no such|no matching|does not exist|doesn't exist|caused by|cause|requires|required by|out of memory|no space left|timed out)\b|(?:Error|Exception)\b|^\s*(?:E:|hint:|help:)`)
}

// progressLines are those in which tools say that they go on, and help that follows
// their error.
func progressLines() *regexp.Regexp {
	return regexp.MustCompile(strings.Join([]string{
		`^[\s0-9./%|#=>:,*+!_━╸╺─█▉▊▋▌▍▎▏▓▒░⠀-⣿-]*$`,                      // rulers and bars
		`[#=━█]{4,}|\b[0-9.]+ ?[kKMG]i?B/s\b|\beta [0-9:]+|[0-9]{1,3}%\|`, // bars with words
		`^\s*(?:Using (?:C?Python|cached)|Collecting |Download(?:ing|ed)? |Requirement already satisfied|Installing build dependencies|Getting requirements to build|Preparing metadata|Build(?:ing|t) |Created wheel|Stored in directory|(?:Resolved|Prepared|Installed|Uninstalled|Audited) [0-9])`,
		`^\s*[+~-] [A-Za-z0-9._-]+==`, // uv's list
		`^(?:Get|Hit|Ign):[0-9]|^(?:Fetched |Reading package lists|Reading state|Building dependency tree|Selecting previously|Preparing to unpack|Unpacking |Setting up |Processing triggers|\(Reading database|The following (?:NEW|additional) |Need to get|After this operation|debconf: |Suggested packages|Recommended packages|[0-9]+ upgraded)`,
		`^\s*(?:running (?:bdist|build|egg_info|install|dist_info|sdist)|creating |copying |adding |writing |reading |byte-compiling |building ')|^\s*\[(?:stdout|stderr)\]$`,
		`^\s*(?:/\S*/)?(?:[a-z0-9_]+-linux-gnu-)?(?:gcc|g\+\+|cc|c\+\+|clang)(?:-[0-9]+)? -.{40,}`,
		`^\s*error: (?:Command|command) '?\[?'\S*(?:gcc|g\+\+|cc|c\+\+)'.*exit`,
		`Call to .* failed \(exit status|The build backend returned an error|Build failures usually indicate|This error likely indicates that you need to install a library`,
		`^npm (?:warn|WARN|notice|http|info)\b|^npm (?:error|ERR!)(?: [0-9]{3})?\s*$|A complete log of this run|^npm (?:error|ERR!) (?:Clean install|Usage:|Options:|npm |aliases:|Run "npm|\[|  |Note that you can also|[0-9]{3} (?:Note that|tarball))`,
		`^go: (?:downloading|finding|extracting)`,
		`^\s*(?:Updating|Downloading|Downloaded|Compiling|Locking|Adding|Blocking|Fetch(?:ing)?) |^warning: no edition set`,
		`^\s*(?:trying URL|Content type '|downloaded [0-9]|\*\* |\* (?:installing|DONE) |The downloaded source|Installing package|\(as .lib. is)`,
		`% Total\s+% Received|Dload\s+Upload`,
		`^(?:remote: )?(?:Counting|Compressing|Enumerating|Receiving|Resolving|Updating|Cloning)\b.*(?:objects|deltas|files|into)`,
		`^(?:Retrieving|Solving|Extracting|Linking|copying path|unpacking)\b`,
		`^Stack backtrace:|^\s*[0-9]+: <unknown>`,
		`^binnacle: versions of `,
	}, "|"))
}
