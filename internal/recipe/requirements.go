package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// requirements is a requirements.txt with everything it includes.
type requirements struct {
	lines       []string // normalised, one requirement or option each
	constraints []string // what -c files say
	flags       []string // options of pip that uv takes on its command line
	files       []string // that were read, the first first
	dir         string   // that local paths are relative to
	packages    []Package
	sources     map[string]bool // of lines, those that no wheel can satisfy
	local       bool            // something in it is a path of the repository
	noBinary    bool            // the author wants some built from source
	read, count int             // bytes and lines so far
}

// What a requirements file may be with all it includes.
const (
	deepest   = 10 // files that include each other
	mostFiles = 100
	mostBytes = 4 << 20
	mostLines = 20_000
)

// readRequirements reads a requirements file and those it includes with -r and
// -c. Comments and blanks go, order stays, so that equal sets make equal
// environments. Returns build_failed with the line for what pip would not take
// or what leads out of the repository.
func (r *reader) readRequirements(file string) (*requirements, error) {
	q := &requirements{sources: map[string]bool{}}
	return q, r.includeRequirements(q, include{file: file})
}

// include is a file to read, and the line that asks for it.
type include struct {
	file       string
	above      []string
	from       Location
	constraint bool
}

func (r *reader) includeRequirements(q *requirements, in include) error {
	if slices.Contains(in.above, in.file) {
		return wrong(in.from.File, in.from.Line, in.file+" includes itself.", "Remove this line.")
	}
	if len(in.above) == deepest {
		return wrong(in.from.File, in.from.Line, "Requirements files include each other more than ten deep.", "Join them.")
	}
	text, ok, err := r.text(in.file)
	if err != nil {
		return err
	}
	if !ok {
		return wrong(in.from.File, in.from.Line, "There is no file "+in.file+" in the repository.", "Correct the name, or commit the file.")
	}
	if q.read += len(text); q.read > mostBytes || len(q.files) == mostFiles {
		return wrong(in.from.File, in.from.Line, "The requirements files are too large, or too many.", "Keep only what is to be installed in them.")
	}
	if len(in.above) > 0 && !slices.Contains(q.files, in.file) {
		r.use(in.file, "included by "+in.above[len(in.above)-1])
	}
	q.files = append(q.files, in.file)
	for _, l := range logicalLines(text) {
		if err := r.requirementLine(q, in, l); err != nil {
			return err
		}
	}
	return nil
}

// requirementLine takes one line of a requirements or constraints file.
func (r *reader) requirementLine(q *requirements, in include, l logicalLine) error {
	at := Location{in.file, l.number}
	if q.count++; q.count > mostLines {
		return wrong(at.File, at.Line, "There are more than 20,000 requirements.", "Keep only what is to be installed.")
	}
	option, value := splitOption(l.text)
	switch {
	case option == "-r" || option == "-c":
		if strings.Contains(value, "://") {
			return wrong(at.File, at.Line, "Binnacle does not read requirements from another host.", "Commit the file to the repository and name it here.")
		}
		target, ok := inTree(path.Dir(in.file), value)
		if !ok {
			return wrong(at.File, at.Line, short(value)+" is outside of the repository.", "Include only files of the repository.")
		}
		next := include{target, append(slices.Clone(in.above), in.file), at, in.constraint || option == "-c"}
		return r.includeRequirements(q, next)
	case in.constraint:
		if option == "" {
			if err := checkRequirement(l.text, at); err != nil {
				return err
			}
			q.constraints = append(q.constraints, tight(l.text))
		}
		return nil
	case option != "":
		return r.requirementOption(q, option, value, at)
	}
	return q.requirement(l.text, at)
}

// requirementOption takes a line that is an option of pip.
func (r *reader) requirementOption(q *requirements, option, value string, at Location) error {
	const needless = "It is passed over: "
	switch option {
	case "-e":
		if value == "" {
			return wrong(at.File, at.Line, "-e names nothing.", "Write a directory or a git+https:// address after it.")
		}
		if err := q.source(value, at); err != nil {
			return err
		}
		q.lines = append(q.lines, "-e "+value)
		q.sources["-e "+value] = true
		q.packages = append(q.packages, Package{Manager: "pip", Name: shown(value), Spec: "-e " + shown(value), From: at})
	case "--index-url", "--extra-index-url", "--find-links":
		if value == "" {
			return wrong(at.File, at.Line, option+" names nothing.", "Write an address after it.")
		}
		if option != "--find-links" && isDefaultIndex(value) {
			return nil // as everywhere: the hub may have a mirror of it
		}
		q.local = q.local || !strings.Contains(value, "://") || strings.HasPrefix(value, "file:")
		q.lines = append(q.lines, option+" "+value)
		// pip takes the best version of all indexes; uv asks to be told.
		q.flag("--index-strategy unsafe-best-match")
	case "--no-index":
		q.lines = append(q.lines, option)
	case "--no-binary", "--only-binary":
		q.noBinary = q.noBinary || (option == "--no-binary" && value != ":none:")
		q.lines = append(q.lines, option+" "+value)
	case "--pre", "--require-hashes":
		if value != "" { // as pip does, which says nothing
			r.note(at.File, at.Line, short(value)+" is passed over: nothing counts that follows "+option+" on its line.", "Put it on a line of its own.")
		}
		q.flag(map[string]string{"--pre": "--prerelease allow", "--require-hashes": option}[option])
	case "--trusted-host":
		if !regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`).MatchString(value) {
			return wrong(at.File, at.Line, "This is not the name of a host: "+short(value)+".", "Write one such as pypi.example.org.")
		}
		q.flag("--allow-insecure-host " + quote(value))
	case "--prefer-binary":
		r.note(at.File, at.Line, needless+"wheels are preferred anyway.", "")
	case "--use-feature", "--no-use-wheel", "--use-wheel", "--process-dependency-links", "--always-unzip":
		r.note(at.File, at.Line, needless+option+" is for pip itself, and uv installs here.", "")
	default:
		return wrong(at.File, at.Line, "Requirements files have no option "+short(option)+".", "Remove it.")
	}
	return nil
}

func (q *requirements) flag(f string) {
	if !slices.Contains(q.flags, f) {
		q.flags = append(q.flags, f)
	}
}

// requirement takes a line that asks for a package.
func (q *requirements) requirement(text string, at Location) error {
	if err := checkRequirement(text, at); err != nil {
		return err
	}
	text = tight(text)
	word, name := strings.Fields(text)[0], ""
	if m := nameOf(text); m != "" && !strings.ContainsAny(word, "/\\") && !archive(word) {
		name = m
	}
	target := word
	if before, url, ok := strings.Cut(text, "@"); ok && nameOf(before) != "" && !strings.Contains(before, "/") && !strings.ContainsAny(before, ";<>=") {
		name = nameOf(before)
		target = strings.Fields(url + " .")[0]
	}
	if name == "" || target != word || strings.HasPrefix(target, ".") {
		if err := q.source(target, at); err != nil {
			return err
		}
		if clean, _, _ := strings.Cut(target, "#"); !strings.HasSuffix(clean, ".whl") {
			q.sources[text] = true
		}
	}
	q.lines = append(q.lines, text)
	if name == "" {
		name = word
	}
	q.packages = append(q.packages, Package{Manager: "pip", Name: shown(name), Spec: shown(text), From: at})
	return nil
}

// source notes whether a target that is no name is a path of the repository.
// pip takes relative paths from where it runs: the root of the repository.
func (q *requirements) source(target string, at Location) error {
	if strings.Contains(target, "://") && !strings.HasPrefix(target, "file:") {
		return nil
	}
	q.local = true
	name := strings.TrimPrefix(strings.TrimPrefix(target, "file://"), "file:")
	name, _, _ = strings.Cut(name, "#")
	name, _, _ = strings.Cut(name, "[")
	dir := q.dir
	if rest, ok := strings.CutPrefix(name, RepoDir); ok && (rest == "" || rest[0] == '/') {
		dir, name = "", "."+rest
	}
	if _, ok := inTree(dir, name); !ok {
		where := "the root of the repository"
		if dir != "" {
			where = dir + "/"
		}
		hint := "Paths are relative to " + where + "."
		if strings.HasPrefix(target, "file:///") || strings.HasPrefix(target, "/") {
			hint = "`pip freeze` writes where a package was built, which is on another machine (conda's packages have such a place): write name==version, or make the file with `pip list --format=freeze`. " + hint
		}
		return wrong(at.File, at.Line, short(target)+" is outside of the repository.", hint)
	}
	return nil
}

// wheels are the lines that the step with the shared cache may install: none
// of what must be built.
func (q *requirements) wheels() []string {
	if q.noBinary {
		return nil
	}
	var out []string
	some := false
	for _, line := range q.lines {
		if !q.sources[line] {
			out = append(out, line)
			some = some || !strings.HasPrefix(line, "-")
		}
	}
	if !some {
		return nil
	}
	return out
}

func archive(word string) bool {
	for _, end := range []string{".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"} {
		if strings.HasSuffix(word, end) {
			return true
		}
	}
	return false
}

// checkRequirement finds what no installer would take, so that the author
// reads about it before anything is built.
func checkRequirement(text string, at Location) error {
	if strings.ContainsAny(text, "\x00\x1b") {
		return wrong(at.File, at.Line, "This line holds control characters: "+short(text)+".", "Remove them.")
	}
	if strings.Contains(text, " -") {
		for _, option := range regexp.MustCompile(`\s--?[A-Za-z][\w-]*`).FindAllString(text, -1) {
			if option = strings.TrimSpace(option); option != "--hash" {
				return wrong(at.File, at.Line, "A requirement takes no option "+short(option)+" here.", "Only --hash may follow a requirement.")
			}
		}
	}
	if strings.HasPrefix(text, "git://") {
		return wrong(at.File, at.Line, "No installer knows this address: "+short(text)+".", "Write git+https:// before the host; few hosts answer to git:// any more.")
	}
	if strings.HasPrefix(text, ".") || strings.Contains(strings.Fields(text)[0], "/") || archive(strings.Fields(text)[0]) || strings.HasPrefix(text, "file:") {
		return nil
	}
	name := nameOf(text)
	rest := strings.TrimSpace(strings.TrimPrefix(text, name))
	if strings.HasPrefix(rest, "[") {
		if _, after, ok := strings.Cut(rest, "]"); ok {
			rest = strings.TrimSpace(after)
		}
	}
	switch {
	case regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*=[^=\s]+=[^=\s]+$`).MatchString(text):
		return wrong(at.File, at.Line, "This line is conda's, not pip's: "+short(text)+".", "`conda list --export` wrote this file. Write `conda env export --from-history > environment.yml` instead, or `pip list --format=freeze > requirements.txt`.")
	case name == "":
		return wrong(at.File, at.Line, "This is not a requirement: "+short(text)+".", "Write it like name or name==1.2.")
	case strings.HasPrefix(rest, "=") && !strings.HasPrefix(strings.TrimLeft(rest[1:], " "), "="):
		return wrong(at.File, at.Line, "This is not a requirement: "+short(text)+".", "pip wants two equals signs: "+name+"="+strings.ReplaceAll(rest, " ", "")+".")
	case rest != "" && !strings.ContainsAny(rest[:1], "<>=!~;@(") && !strings.HasPrefix(rest, "--hash"):
		return wrong(at.File, at.Line, "This is not a requirement: "+short(text)+".", "Write one requirement on each line, like name or name==1.2.")
	}
	return nil
}

// tight removes the blanks around version operators, before any marker or
// address: equal requirements shall be equal text.
func tight(text string) string {
	head, marker, found := strings.Cut(text, ";")
	if !strings.ContainsAny(text, " ;") || strings.Contains(text, "://") || strings.Contains(text, "@") {
		return text
	}
	head = regexp.MustCompile(`\s*(===|==|>=|<=|~=|!=|<|>|,)\s*`).ReplaceAllString(head, "$1")
	if found {
		return strings.TrimSpace(head) + "; " + strings.TrimSpace(marker)
	}
	return head
}

// splitOption gives the option a line consists of by its long name (but -r, -c
// and -e), and its value; both are empty when the line is no option.
func splitOption(line string) (option, value string) {
	if !strings.HasPrefix(line, "-") {
		return "", ""
	}
	names := map[string]string{
		"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c", "-e": "-e", "--editable": "-e",
		"-i": "--index-url", "--pypi-url": "--index-url", "-f": "--find-links",
	}
	if !strings.HasPrefix(line, "--") && len(line) > 2 { // -rother.txt
		option, value = line[:2], line[2:]
	} else if i := strings.IndexAny(line, "= "); i >= 0 {
		option, value = line[:i], line[i+1:]
	} else {
		option = line
	}
	if long, ok := names[option]; ok {
		option = long
	}
	value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(value), "="))
	if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	return option, value
}

type logicalLine struct {
	text   string
	number int
}

// logicalLines joins lines that end with a backslash and drops comments, the
// way pip does (its documentation, "Requirements File Format").
func logicalLines(text string) []logicalLine {
	var out []logicalLine
	var whole strings.Builder
	start := 0
	end := func() {
		if fields := strings.Fields(whole.String()); len(fields) > 0 {
			out = append(out, logicalLine{strings.Join(fields, " "), start})
		}
		whole.Reset()
		start = 0
	}
	for i, line := range strings.Split(text, "\n") {
		if start == 0 {
			start = i + 1
		}
		before, more := strings.CutSuffix(uncommented(line), "\\")
		whole.WriteString(before)
		if !more {
			end()
		}
	}
	end()
	return out
}

// uncommented drops a comment, which begins the line or follows a blank.
func uncommented(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return line[:i]
		}
	}
	return line
}

// nameOf is the distribution a requirement asks for (PEP 508); empty when
// there is no telling.
func nameOf(text string) string {
	return regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`).FindString(text)
}
