package recipe

import (
	"maps"
	"slices"
	"strings"
)

// binderGroups are the dependency groups that are for a Binder, the first that is
// there counts. PEP 735 leaves the names to those who use them.
func binderGroups() []string { return []string{"binder", "notebook", "jupyter"} }

// chosenGroup is the key of the group that a session has; empty when there is
// none.
func (r *reader) chosenGroup(p pyproject) (string, error) {
	file := r.path("pyproject.toml")
	byName := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(p.Groups)) {
		if other, ok := byName[canonical(key)]; ok {
			text, _, err := r.text(file)
			if err != nil {
				return "", err
			}
			after := keyLine(text, "[dependency-groups]", 0)
			return "", wrong(file, max(keyLine(text, key, after), keyLine(text, other, after)), "The dependency groups "+short(other)+" and "+short(key)+" have the same name.", "Join them.")
		}
		byName[canonical(key)] = key
	}
	for _, name := range binderGroups() {
		if key, ok := byName[name]; ok {
			return key, nil
		}
	}
	return "", nil
}

// groupRequirements are the requirements of a dependency group with those it
// includes.
func (r *reader) groupRequirements(p pyproject, name string) ([]groupLine, error) {
	file := r.path("pyproject.toml")
	text, _, err := r.text(file)
	if err != nil {
		return nil, err
	}
	g := grouped{file: file, text: text, groups: p.Groups, after: keyLine(text, "[dependency-groups]", 0)}
	err = g.include(name, nil, 0)
	return g.lines, err
}

type groupLine struct {
	text string
	line int
}

type grouped struct {
	file, text string
	groups     map[string][]any
	after      int
	lines      []groupLine
	seen       int
}

func (g *grouped) include(name string, above []string, from int) error {
	key := ""
	for k := range g.groups {
		if canonical(k) == canonical(name) {
			key = k
		}
	}
	if key == "" {
		return wrong(g.file, from, "There is no dependency group "+short(name)+".", "Correct the name.")
	}
	if slices.Contains(above, key) {
		return wrong(g.file, from, "The dependency group "+short(key)+" includes itself.", "Remove this include-group.")
	}
	if g.seen += len(g.groups[key]); g.seen > mostLines {
		return wrong(g.file, from, "The dependency groups have more than 20,000 requirements.", "Keep only what is to be installed.")
	}
	line := keyLine(g.text, key, g.after)
	for _, entry := range g.groups[key] {
		switch e := entry.(type) {
		case string:
			at := g.find(e, line)
			g.lines = append(g.lines, groupLine{strings.Join(strings.Fields(e), " "), at})
		case map[string]any:
			other, ok := e["include-group"].(string)
			if !ok || len(e) != 1 {
				return wrong(g.file, line, "The dependency group "+short(key)+" has an entry that is neither a requirement nor an include-group.", `Write a requirement in quotes, or {include-group = "name"}.`)
			}
			if err := g.include(other, append(slices.Clone(above), key), g.find(other, line)); err != nil {
				return err
			}
		default:
			return wrong(g.file, line, "The dependency group "+short(key)+" has an entry that is neither a requirement nor an include-group.", `Write a requirement in quotes, or {include-group = "name"}.`)
		}
	}
	return nil
}

// find is the line at or after one that has a text in quotes; that one itself when
// there is none.
func (g *grouped) find(text string, from int) int { return quotedLine(g.text, text, from) }

func quotedLine(text, words string, from int) int {
	i := 0
	for line := range strings.Lines(text) {
		if i++; i >= from && (strings.Contains(line, `"`+words+`"`) || strings.Contains(line, `'`+words+`'`)) {
			return i
		}
	}
	return from
}
