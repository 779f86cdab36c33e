// Package importer reads how another hub was configured and says it in our
// words: the values of a BinderHub chart, with JupyterHub's inside, become
// values of ours. Every key is answered for: taken over, different, not needed,
// or unknown.
package importer

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
)

// Outcome is what became of a key.
type Outcome string

// The outcomes.
const (
	Taken     Outcome = "taken over"
	Different Outcome = "different"  // a person has to look
	NotNeeded Outcome = "not needed" // what it was for does not exist here, or is always so
	Unknown   Outcome = "unknown"    // neither chart has it, as far as we know
)

// Key is one key of the values that were read. Its value is not kept: it may be
// a secret.
type Key struct {
	Path    string  `json:"path"`
	Outcome Outcome `json:"outcome"`
	// To are the keys of our values that were set.
	To []string `json:"to,omitempty"`
	// Why says what is different, or why it is not needed.
	Why string `json:"why,omitempty"`
}

// Result is what was made of the values.
type Result struct {
	// Values are those of our chart. They hold no secret.
	Values map[string]any `json:"values"`
	Keys   []Key          `json:"keys"`
}

// maxSize bounds a file of values; real ones are a tenth of it.
const maxSize = 4 << 20

// Read merges files of values as Helm does: the later wins. Returns invalid.
func Read(files ...io.Reader) (map[string]any, error) {
	all := map[string]any{}
	for i, r := range files {
		b, err := io.ReadAll(io.LimitReader(r, maxSize+1))
		if err != nil {
			return nil, fmt.Errorf("read file %d: %w", i+1, err)
		}
		if len(b) > maxSize {
			return nil, binnacle.Errorf(binnacle.CodeInvalid, "File %d is larger than values of a chart are.", i+1)
		}
		one := map[string]any{}
		if err := yaml.Unmarshal(b, &one); err != nil {
			return nil, &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "import.read", Message: fmt.Sprintf("File %d is not YAML of keys and values: %v.", i+1, err),
				Hint: "Give the values of the chart, as `helm get values -o yaml RELEASE` prints them.", Err: err,
			}
		}
		merge(all, one)
	}
	return all, nil
}

func merge(into, from map[string]any) {
	for k, v := range from {
		a, isMap := into[k].(map[string]any)
		b, both := v.(map[string]any)
		if isMap && both {
			merge(a, b)
			continue
		}
		into[k] = v
	}
}

// BinderHub turns values of the chart of BinderHub into ours. A chart around it,
// such as mybinder.org's, has them below "binderhub".
func BinderHub(values map[string]any) Result {
	c := &conversion{source: values, rules: rules(), out: Result{Values: map[string]any{}}}
	inner, around := values["binderhub"].(map[string]any)
	if around = around && len(inner) > 0; around {
		c.source = inner
	}
	for _, k := range slices.Sorted(maps.Keys(c.source)) {
		c.walk(k, c.source[k])
	}
	if around {
		for i := range c.out.Keys {
			c.out.Keys[i].Path = "binderhub." + c.out.Keys[i].Path
		}
		for k := range values {
			if k != "binderhub" {
				c.note(k, Unknown, "It belongs to the chart around BinderHub's.")
			}
		}
	}
	c.finish()
	slices.SortStableFunc(c.out.Keys, func(a, b Key) int { return strings.Compare(a.Path, b.Path) })
	return c.out
}

// conversion is one import under way.
type conversion struct {
	source map[string]any
	rules  map[string]rule
	out    Result
}

// rule says what becomes of a key. Its convert sets our values and may answer
// otherwise than the rule does.
type rule struct {
	outcome Outcome
	to      string // where the value goes as it is
	why     string
	convert func(c *conversion, v any) (to []string, err error)
}

// walk answers for a key, or for each below it.
func (c *conversion) walk(path string, v any) {
	if r, ok := c.rules[path]; ok {
		c.apply(path, r, v)
		return
	}
	if m, ok := v.(map[string]any); ok && len(m) > 0 {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			c.walk(path+"."+k, m[k])
		}
		return
	}
	// What is below a subtree that one rule answers for.
	for at := path; ; {
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			break
		}
		at = at[:i]
		if r, ok := c.rules[at+".**"]; ok {
			c.apply(path, r, v)
			return
		}
	}
	c.note(path, Unknown, "Neither BinderHub's chart nor JupyterHub's has it, as far as we know.")
}

func (c *conversion) note(path string, o Outcome, why string) {
	c.out.Keys = append(c.out.Keys, Key{Path: path, Outcome: o, Why: why})
}

func (c *conversion) apply(path string, r rule, v any) {
	if v == nil {
		c.note(path, NotNeeded, "It is not set.")
		return
	}
	k := Key{Path: path, Outcome: r.outcome, Why: r.why}
	switch {
	case r.convert != nil:
		to, err := r.convert(c, v)
		k.To = to
		if err != nil {
			k.Outcome, k.Why = Different, err.Error()
		}
	case r.to != "":
		if err := c.set(r.to, v); err != nil {
			k.Outcome, k.Why = Different, err.Error()
		} else {
			k.To = []string{r.to}
		}
	}
	c.out.Keys = append(c.out.Keys, k)
}

// get is a value of the source, nil if it has none.
func (c *conversion) get(path string) any {
	var at any = c.source
	for key := range strings.SplitSeq(path, ".") {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// set puts a value into ours. A value must be of the kind that our default has.
func (c *conversion) set(path string, v any) error {
	if err := kindOf(path, v); err != nil {
		return err
	}
	at := c.out.Values
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	at[keys[len(keys)-1]] = v
	return nil
}

// finish adds what our chart needs beside what was taken over.
func (c *conversion) finish() {
	add := func(path string, v any, why string) {
		if c.set(path, v) == nil {
			c.out.Keys = append(c.out.Keys, Key{Path: path, Outcome: Different, To: []string{path}, Why: why})
		}
	}
	if n, _ := at(c.out.Values, "replicas").(int); n > 1 {
		add("database.existingSecret", "binnacle-database",
			"Replicas share a PostgreSQL: put its address into key url of this Secret: kubectl create secret generic binnacle-database --from-literal=url=postgres://…")
	}
	if n, _ := at(c.out.Values, "scheduling.userPlaceholder.replicas").(int); n > 0 && at(c.out.Values, "scheduling.podPriority.enabled") != true {
		add("scheduling.podPriority.enabled", true, "Placeholders need priorities, or they keep sessions out.")
	}
	if at(c.out.Values, "registry.imagePrefix") == nil {
		c.note("registry.imagePrefix", Different, "Say where images go: registry.example.org/binnacle.")
	}
}

func at(values map[string]any, path string) any { return (&conversion{source: values}).get(path) }
