package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	Path    string `json:"path"` // "azure.nodes.max"; empty is the whole file
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`           // what is wrong
	Example string `json:"example,omitempty"` // a value that would do
}

// String is one line for people.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Example != "" {
		b.WriteString("; for example " + p.Example)
	}
	return b.String()
}

// Problems are all that is wrong with a file.
type Problems []Problem

// add notes a problem with the example of the field, once for each path.
func (ps *Problems) add(path, format string, args ...any) {
	if ps.has(path) {
		return
	}
	*ps = append(*ps, Problem{Path: path, Message: fmt.Sprintf(format, args...), Example: example(path)})
}

func (ps *Problems) has(path string) bool {
	return slices.ContainsFunc(*ps, func(p Problem) bool { return p.Path == path })
}

// Err is nil, or invalid with every problem on a line of its own.
func (ps Problems) Err(file string) error {
	if len(ps) == 0 {
		return nil
	}
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = "  " + p.String()
	}
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "deploy.config",
		Message: file + " is wrong:\n" + strings.Join(lines, "\n"),
		Hint:    "The reference of all settings is docs/reference/deploy.md; `binnacle deploy init` writes a file that is right.",
	}
}
