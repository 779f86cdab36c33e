package recipe

import (
	"regexp"
	"strings"
)

// dcfField is one of a file in Debian's control format, which R's DESCRIPTION
// has. A value's further lines are indented.
type dcfField struct {
	name  string
	lines []string // of the value, without blanks around them
	line  int      // of the name, from 1
}

// parseDCF reads the first record. Comments are lines that begin with #.
func parseDCF(file, text string) ([]dcfField, error) {
	name := regexp.MustCompile(`^([A-Za-z][A-Za-z0-9@/_.-]*)\s*:(.*)$`)
	var out []dcfField
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"), strings.TrimSpace(line) == "":
		case strings.ContainsAny(line[:1], " \t"):
			if len(out) == 0 {
				return nil, wrong(file, i+1, file+" begins with an indented line.", "Write `Name: value` on each line.")
			}
			out[len(out)-1].lines = append(out[len(out)-1].lines, strings.TrimSpace(line))
		default:
			m := name.FindStringSubmatch(line)
			if m == nil {
				return nil, wrong(file, i+1, "This line of "+file+" is not of the form `Name: value`: "+short(line)+".", "Indent it if it goes on the line before.")
			}
			out = append(out, dcfField{name: m[1], lines: []string{strings.TrimSpace(m[2])}, line: i + 1})
		}
	}
	return out, nil
}

// text is the whole value on one line.
func (f dcfField) text() string { return strings.TrimSpace(strings.Join(f.lines, " ")) }

// item is one of a list with commas, and its line.
type item struct {
	text string
	line int
}

func (f dcfField) items() []item {
	var out []item
	for i, line := range f.lines {
		for part := range strings.SplitSeq(line, ",") {
			out = append(out, item{part, f.line + i})
		}
		// An item may go on the next line: "dplyr" and then "(>= 1.0)".
	}
	joined := make([]item, 0, len(out))
	for _, it := range out {
		it.text = strings.TrimSpace(it.text)
		if strings.HasPrefix(it.text, "(") && len(joined) > 0 {
			joined[len(joined)-1].text += " " + it.text
			continue
		}
		if it.text != "" {
			joined = append(joined, it)
		}
	}
	return joined
}
