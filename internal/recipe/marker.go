package recipe

import (
	"regexp"
	"slices"
	"strings"
)

// simplified takes out of a marker what pylock.toml adds to markers: questions for
// the extras and groups that were chosen, which requirements files do not know
// (PEP 751). never says that the package is not wanted; ok is false for what is no
// marker.
func simplified(marker string, chosen map[string][]string) (rest string, never, ok bool) {
	if strings.TrimSpace(marker) == "" {
		return "", false, true
	}
	p := &markerParser{chosen: chosen}
	for m := marker; ; {
		m = strings.TrimLeft(m, " \t\r\n")
		if m == "" {
			break
		}
		word := regexp.MustCompile(`^(?:"[^"]*"|'[^']*'|[A-Za-z_][A-Za-z0-9_.]*|===|[<>=!~]=|[<>]|[()])`).FindString(m)
		if word == "" {
			return "", false, false
		}
		p.words = append(p.words, word)
		m = m[len(word):]
	}
	e := p.or(0)
	if p.failed || p.at != len(p.words) {
		return "", false, false
	}
	return e.text, e.value == no, true
}

type truth int

const (
	open truth = iota // only an installer can say
	yes
	no
)

// expression is a part of a marker; text is empty unless it is open.
type expression struct {
	value truth
	text  string
	or    bool // needs brackets within an `and`
}

type markerParser struct {
	words  []string
	at     int
	chosen map[string][]string // "extras", "dependency_groups"
	failed bool
}

func (p *markerParser) next() string {
	if p.at >= len(p.words) {
		return ""
	}
	return p.words[p.at]
}

func (p *markerParser) or(depth int) expression {
	return p.joined(depth, "or", yes, no, func() expression {
		return p.joined(depth, "and", no, yes, func() expression { return p.atom(depth) })
	})
}

// joined reads parts between a word. One of the value `decides` decides the whole,
// those of the value `silent` do not matter.
func (p *markerParser) joined(_ int, word string, decides, silent truth, part func() expression) expression {
	var open []expression
	decided := false
	for {
		switch e := part(); e.value {
		case decides:
			decided = true
		case silent:
		default:
			open = append(open, e)
		}
		if p.failed || p.next() != word {
			break
		}
		p.at++
	}
	switch {
	case decided:
		return expression{value: decides}
	case len(open) == 0:
		return expression{value: silent}
	case len(open) == 1:
		return open[0]
	}
	var texts []string
	for _, e := range open {
		if e.or && word == "and" {
			e.text = "(" + e.text + ")"
		}
		texts = append(texts, e.text)
	}
	return expression{text: strings.Join(texts, " "+word+" "), or: word == "or"}
}

func (p *markerParser) atom(depth int) expression {
	const deepest = 50
	if p.next() == "(" {
		if p.at++; depth == deepest {
			p.failed = true
			return expression{}
		}
		e := p.or(depth + 1)
		if p.next() != ")" {
			p.failed = true
			return expression{}
		}
		p.at++
		return e
	}
	left := p.value()
	operator := p.next()
	p.at++
	if operator == "not" {
		if operator += " " + p.next(); p.next() != "in" {
			p.failed = true
			return expression{}
		}
		p.at++
	}
	if !regexp.MustCompile(`^(in|not in|[<>=!~]=|===|[<>])$`).MatchString(operator) {
		p.failed = true
		return expression{}
	}
	right := p.value()
	if p.failed {
		return expression{}
	}
	if names, ok := p.chosen[right]; ok {
		name := canonical(strings.Trim(left, `'"`))
		if slices.Contains(names, name) == (operator == "in") {
			return expression{value: yes}
		}
		return expression{value: no}
	}
	return expression{text: left + " " + operator + " " + right}
}

func (p *markerParser) value() string {
	word := p.next()
	if word == "" || strings.ContainsAny(word[:1], "()<>=!~") || slices.Contains([]string{"and", "or", "in", "not"}, word) {
		p.failed = true
		return ""
	}
	p.at++
	return word
}
