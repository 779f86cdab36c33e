package recipe

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// requirements is a requirements.txt with everything it includes.
type requirements struct {
	lines    []string // normalised, one requirement or option each
	from     []Location
	packages []Package
	local    bool // something in it is a path of the repository
}

// deepest is how many files may include each other.
const deepest = 10

// readRequirements reads a requirements file and those it includes with -r and
// -c. Comments and blanks go, order stays, so that equal sets make equal
// environments. Returns build_failed with the line for what pip would not take
// or what leads out of the repository.
func (r *reader) readRequirements(file string) (requirements, error) {
	var out requirements
	err := r.includeRequirements(&out, file, nil, Location{})
	return out, err
}

func (r *reader) includeRequirements(out *requirements, file string, above []string, from Location) error {
	for _, f := range above {
		if f == file {
			return wrong(from.File, from.Line, file+" includes itself.", "Remove this line.")
		}
	}
	if len(above) == deepest {
		return wrong(from.File, from.Line, "Requirements files include each other more than ten deep.", "Join them.")
	}
	text, ok, err := r.text(file)
	if err != nil {
		return err
	}
	if !ok {
		return wrong(from.File, from.Line, "There is no file "+file+" in the repository.", "Correct the name, or commit the file.")
	}
	if len(above) > 0 {
		r.use(file, "included by "+above[len(above)-1])
	}
	for _, l := range logicalLines(text) {
		at := Location{file, l.number}
		include, rest, ok := includeOption(l.text)
		if ok && !strings.Contains(rest, "://") {
			target := path.Join(path.Dir(file), rest)
			if path.IsAbs(rest) || target == ".." || strings.HasPrefix(target, "../") {
				return wrong(file, l.number, short(rest)+" is outside of the repository.", "Include only files of the repository.")
			}
			if include == "-r" {
				if err := r.includeRequirements(out, target, append(above, file), at); err != nil {
					return err
				}
				continue
			}
			// A constraint is not a requirement: the file stays one.
			out.local = true
			out.add("-c "+RepoDir+"/"+target, at)
			continue
		}
		if err := out.requirement(l.text, at); err != nil {
			return err
		}
	}
	return nil
}

// requirement takes one line that is not an include.
func (q *requirements) requirement(text string, at Location) error {
	if strings.HasPrefix(text, "-") {
		name, _, _ := strings.Cut(text, "=")
		name = strings.Fields(name)[0]
		switch name {
		case "-e", "--editable":
			q.local = q.local || !strings.Contains(text, "://")
		case "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--no-binary", "--only-binary",
			"--prefer-binary", "--pre", "--require-hashes", "--trusted-host", "--use-feature":
		default:
			return wrong(at.File, at.Line, "pip's requirements files know no option "+short(name)+".", "Remove it.")
		}
		q.add(text, at)
		return nil
	}
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "file:") || localFile(text) {
		q.local = true
	}
	q.add(text, at)
	if name := requirementName(text); name != "" {
		q.packages = append(q.packages, Package{Manager: "pip", Name: name, Spec: text, From: at})
	}
	return nil
}

func (q *requirements) add(line string, at Location) {
	q.lines = append(q.lines, line)
	q.from = append(q.from, at)
}

// localFile is a wheel or archive named without ./, or "name @ file:…".
func localFile(text string) bool {
	if _, url, ok := strings.Cut(text, "@"); ok && strings.HasPrefix(strings.TrimSpace(url), "file:") {
		return true
	}
	word := strings.Fields(text)[0]
	return !strings.Contains(word, "://") && (strings.HasSuffix(word, ".whl") || strings.HasSuffix(word, ".tar.gz") || strings.HasSuffix(word, ".zip"))
}

// includeOption splits "-r other.txt", "--requirement=other.txt" and the same
// with constraint.
func includeOption(line string) (option, value string, ok bool) {
	for _, o := range []struct{ short, long string }{{"-r", "--requirement"}, {"-c", "--constraint"}} {
		for _, name := range []string{o.long, o.short} {
			rest, found := strings.CutPrefix(line, name)
			if !found || rest == "" || (name == o.long && rest[0] != '=' && rest[0] != ' ') {
				continue
			}
			return o.short, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), "=")), true
		}
	}
	return "", "", false
}

type logicalLine struct {
	text   string
	number int
}

// logicalLines joins lines that end with a backslash and drops comments, the
// way pip does (its documentation, "Requirements File Format").
func logicalLines(text string) []logicalLine {
	comment := regexp.MustCompile(`(^|\s)#.*$`)
	var out []logicalLine
	var whole string
	start := 0
	for i, line := range strings.Split(text, "\n") {
		if start == 0 {
			start = i + 1
		}
		line = comment.ReplaceAllString(line, "")
		if before, more := strings.CutSuffix(line, "\\"); more {
			whole += before + " "
			continue
		}
		if whole = strings.Join(strings.Fields(whole+line), " "); whole != "" {
			out = append(out, logicalLine{whole, start})
		}
		whole, start = "", 0
	}
	if whole = strings.Join(strings.Fields(whole), " "); whole != "" {
		out = append(out, logicalLine{whole, start})
	}
	return out
}

// requirementName is the distribution a requirement asks for (PEP 508); empty
// when there is no telling.
func requirementName(text string) string {
	return regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`).FindString(text)
}

// short shows untrusted text on one line.
func short(s string) string {
	const longest = 80
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
