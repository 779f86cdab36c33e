package config

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Load reads a binnacle.yaml over the defaults. Unknown settings, settings
// written twice and values of the wrong kind are problems, and so is what
// [Config.Validate] finds; all are returned together.
func Load(b []byte) (Config, Problems) {
	c := Default()
	var ps Problems
	lines := c.decode(b, &ps)
	c.normalise()
	c.validate(&ps)
	for i := range ps {
		if path, _, _ := strings.Cut(ps[i].Path, "["); ps[i].Line == 0 {
			ps[i].Line = lines[path]
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Line - b.Line })
	return c, ps
}

// decode returns the line of each setting that the file has.
func (c *Config) decode(b []byte, ps *Problems) map[string]int {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		*ps = append(*ps, Problem{Message: "the file is empty"})
		return nil
	}
	if err != nil {
		*ps = append(*ps, yamlProblem(err))
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		*ps = append(*ps, Problem{Message: "one YAML document is expected"})
	}
	d := decoder{byPath: map[string]Field{}, lines: map[string]int{}, problems: ps}
	for _, f := range plainFields(c) {
		d.byPath[f.Path] = f
	}
	d.mapping("", doc.Content[0])
	return d.lines
}

// yamlProblem takes the line out of the parser's message.
func yamlProblem(err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{Message: "is not YAML: " + text}
	if m := regexp.MustCompile(`^line (\d+): (.*)`).FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Message = "is not YAML: " + m[2]
	}
	return p
}

type decoder struct {
	byPath   map[string]Field
	lines    map[string]int
	problems *Problems
}

func (d *decoder) bad(line int, path, message string) {
	*d.problems = append(*d.problems, Problem{Path: path, Line: line, Message: message, Example: example(path)})
}

func (d *decoder) mapping(prefix string, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.bad(n.Line, strings.TrimSuffix(prefix, "."), "settings are expected here, each written key: value")
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if _, twice := d.lines[path]; twice {
			d.bad(key.Line, path, "is set twice")
			continue
		}
		d.lines[path] = key.Line
		switch f, ok := d.byPath[path]; {
		case ok:
			if message := set(f.Value, value); message != "" {
				d.bad(value.Line, path, message)
			}
		case d.section(path + "."):
			d.mapping(path+".", value)
		default:
			d.bad(key.Line, path, "no such setting"+d.near(path))
		}
	}
}

func (d *decoder) section(prefix string) bool {
	for path := range d.byPath {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// near names settings whose last key is the same, or nearly so.
func (d *decoder) near(path string) string {
	last := path[strings.LastIndexByte(path, '.')+1:]
	var found []string
	for p := range d.byPath {
		if sameWord(p[strings.LastIndexByte(p, '.')+1:], last) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return "; did you mean " + strings.Join(found, " or ") + "?"
}

// sameWord compares what people write differently: node_count and NodeCount.
func sameWord(a, b string) bool {
	plain := func(s string) string {
		return strings.TrimSuffix(strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s)), "s")
	}
	return plain(a) == plain(b)
}

// set writes a value of the file into v; it returns what is wrong with it.
func set(v reflect.Value, n *yaml.Node) string {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Tag == "!!null" {
		return "has no value; write one or remove the line"
	}
	switch v.Kind() {
	case reflect.Map:
		var m map[string]any
		if err := n.Decode(&m); err != nil {
			return "settings are expected here, each written key: value"
		}
		v.Set(reflect.ValueOf(m))
		return ""
	case reflect.Slice:
		return setList(v, n)
	}
	if n.Kind != yaml.ScalarNode {
		return "one value is expected here"
	}
	text := n.Value
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil || len(text) < len("true") {
			return strconv.Quote(text) + " is neither true nor false"
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return strconv.Quote(text) + " is not a whole number"
		}
		v.SetInt(int64(i))
	default:
		v.SetString(text)
	}
	return ""
}

func setList(v reflect.Value, n *yaml.Node) string {
	if n.Kind != yaml.SequenceNode {
		return "a list is expected here"
	}
	var list []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return "each item of the list must be one value"
		}
		list = append(list, item.Value)
	}
	v.Set(reflect.ValueOf(list))
	return ""
}
