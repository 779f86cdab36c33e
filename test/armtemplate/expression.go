package armtemplate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// expression is what stands between [ and ].
type expression struct {
	d    *Deployment
	text string
	at   int
}

func (e *expression) skip() {
	for e.at < len(e.text) && e.text[e.at] == ' ' {
		e.at++
	}
}

func (e *expression) take(c byte) bool {
	e.skip()
	if e.at < len(e.text) && e.text[e.at] == c {
		e.at++
		return true
	}
	return false
}

// word reads letters, digits and underscores.
func (e *expression) word() string {
	from := e.at
	for e.at < len(e.text) && (e.text[e.at] == '_' || e.text[e.at] >= '0' && e.text[e.at] <= '9' || e.text[e.at]|' ' >= 'a' && e.text[e.at]|' ' <= 'z') {
		e.at++
	}
	return e.text[from:e.at]
}

// value reads a text, a number or a call, with what follows it after dots.
func (e *expression) value() (any, error) {
	if e.take('\'') {
		return e.quoted()
	}
	name := e.word()
	if name == "" {
		return nil, fmt.Errorf("something is expected at %q", e.text[e.at:])
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	if !e.take('(') {
		return nil, fmt.Errorf("( is expected after %s", name)
	}
	var args []any
	for !e.take(')') {
		if len(args) > 0 && !e.take(',') {
			return nil, fmt.Errorf(", or ) is expected at %q", e.text[e.at:])
		}
		v, err := e.value()
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	v, err := e.d.call(name, args)
	for err == nil && e.take('.') {
		key := e.word()
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf(".%s of a %T", key, v)
		}
		if v, ok = m[key]; !ok {
			return nil, fmt.Errorf("%s has no %s", name, key)
		}
	}
	return v, err
}

// quoted reads a text; two quotes in it are one.
func (e *expression) quoted() (any, error) {
	var b strings.Builder
	for e.at < len(e.text) {
		c := e.text[e.at]
		e.at++
		if c != '\'' {
			b.WriteByte(c)
			continue
		}
		if e.at >= len(e.text) || e.text[e.at] != '\'' {
			return b.String(), nil
		}
		b.WriteByte('\'')
		e.at++
	}
	return nil, errors.New("a text does not end")
}
