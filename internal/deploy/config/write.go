package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Marshal writes the file with a comment on every setting that matters for the
// target. What is as by default is commented out, so that the file says what
// was chosen.
func (c Config) Marshal() ([]byte, error) {
	w := writer{sections: Sections()}
	w.b.WriteString("# A deployment of Binnacle. `binnacle deploy check` finds every mistake in here.\n# The reference of all settings is docs/reference/deploy.md.\n")
	def := Default()
	defaults := map[string]reflect.Value{}
	for _, f := range plainFields(&def) {
		defaults[f.Path] = f.Value
	}
	for _, f := range Fields(&c) {
		if c.concerns(f.Path) {
			if err := w.field(f, defaults[f.Path]); err != nil {
				return nil, err
			}
		}
	}
	return w.b.Bytes(), nil
}

// concerns says that a setting can matter for the target.
func (c Config) concerns(path string) bool {
	section, _, nested := strings.Cut(path, ".")
	if c.Target == TargetHost && (section == "registry" || slices.Contains([]string{"image", "values", "access.from", "dns.label"}, path)) {
		return false // of clusters
	}
	if !nested {
		return true
	}
	if path == "watch.identity" {
		return c.Target == TargetAzure
	}
	switch section {
	case TargetAzure, TargetCluster, TargetHost:
		return section == c.Target && !strings.HasPrefix(path, "azure.cloud.") || strings.HasPrefix(path, "azure.cloud.") && c.Azure.Cloud != Cloud{}
	default:
		return true
	}
}

type writer struct {
	b        bytes.Buffer
	sections map[string]string
	last     string   // comment
	open     []string // the sections the next line is in
}

func (w *writer) field(f Field, def reflect.Value) error {
	keys := strings.Split(f.Path, ".")
	same := 0
	for same < len(w.open) && same < len(keys)-1 && w.open[same] == keys[same] {
		same++
	}
	w.open = keys[:len(keys)-1]
	for i := same; i < len(keys)-1; i++ {
		if i == 0 {
			w.b.WriteByte('\n')
		}
		w.comment(w.sections[strings.Join(keys[:i+1], ".")], i)
		w.indent(i)
		w.b.WriteString(keys[i] + ":\n")
	}
	depth := len(keys) - 1
	if depth == 0 {
		w.b.WriteByte('\n')
	}
	if f.Comment != w.last { // settings that share a comment have it once
		w.comment(f.Comment, depth)
	}
	w.last = f.Comment
	value := f.Value.Interface()
	off := reflect.DeepEqual(value, def.Interface()) || (f.Value.Kind() == reflect.Map || f.Value.Kind() == reflect.Slice) && f.Value.Len() == 0
	text, err := inline(value)
	if err != nil {
		return err
	}
	if off && f.Value.IsZero() && f.Value.Kind() != reflect.Bool {
		text = f.Example
	}
	w.indent(depth)
	if off {
		w.b.WriteString("# ")
	}
	w.b.WriteString(keys[depth] + ": " + text + "\n")
	return nil
}

func (w *writer) indent(depth int) { w.b.WriteString(strings.Repeat("  ", depth)) }

func (w *writer) comment(text string, depth int) {
	if text == "" {
		return
	}
	for line := range strings.Lines(text) {
		w.indent(depth)
		w.b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
}

// inline writes a value on one line.
func inline(value any) (string, error) {
	var n yaml.Node
	if err := n.Encode(value); err != nil {
		return "", err
	}
	flow(&n)
	b, err := yaml.Marshal(&n)
	return strings.TrimSpace(string(b)), err
}

func flow(n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		n.Style = yaml.FlowStyle
	case yaml.ScalarNode:
		if strings.ContainsAny(n.Value, "\n\r") {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, c := range n.Content {
		flow(c)
	}
}
