package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/binnacle-hub/binnacle"
)

const envPrefix = "BINNACLE_"

// DefaultPath is the file that is read when none is named and it is there.
const DefaultPath = "/etc/binnacle/binnacle.yaml"

// Sources are where a configuration comes from; each wins over those before it.
type Sources struct {
	// Path of the file; empty is BINNACLE_CONFIG, else [DefaultPath] if present.
	Path string
	// Environ is the environment ("NAME=value"); see [os.Environ].
	Environ []string
	// Set are single settings from flags: "proxy.start_wait" → "30s".
	Set map[string]string
}

// Load merges defaults, file, environment and flags, and validates the result.
// Returns invalid with every problem at once.
func Load(src Sources) (Config, error) {
	c := Default()
	c.environ = src.Environ
	var errs []error
	if err := c.loadFile(src); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.loadEnv(src.Environ))
	for _, path := range slices.Sorted(mapKeys(src.Set)) {
		errs = append(errs, c.set(path, src.Set[path]))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, problem(err)
	}
	c.derive()
	if err := c.Validate(); err != nil {
		return Config{}, problem(err)
	}
	return c, nil
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// problem shows people all that is wrong: it is their file.
func problem(err error) error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "config.load",
		Message: "The configuration is wrong:\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  "),
		Hint:    "The reference of all settings is docs/reference/configuration.md; `binnacle config print` shows what is in force.",
	}
}

func (c *Config) loadFile(src Sources) error {
	path := cmp.Or(src.Path, lookup(src.Environ, envPrefix+"CONFIG"))
	named := path != ""
	path = cmp.Or(path, DefaultPath)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.decode(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// decode reads YAML over what is there. Unknown keys, keys written twice and
// second documents are errors.
func (c *Config) decode(b []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("one YAML document is expected")
	}
	byPath := map[string]field{}
	for _, f := range fields(c) {
		byPath[f.path] = f
	}
	return decodeMapping(byPath, "", doc.Content[0])
}

func decodeMapping(byPath map[string]field, prefix string, n *yaml.Node) error {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: settings are expected here, each written key: value", n.Line, cmp.Or(strings.TrimSuffix(prefix, "."), "the file"))
	}
	var errs []error
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if seen[path] {
			errs = append(errs, fmt.Errorf("line %d: %s: is set twice", key.Line, path))
			continue
		}
		seen[path] = true
		if f, ok := byPath[path]; ok {
			if err := setNode(f.value, value); err != nil {
				errs = append(errs, fmt.Errorf("line %d: %s: %w", value.Line, path, err))
			}
			continue
		}
		if !isPrefix(byPath, path+".") {
			errs = append(errs, fmt.Errorf("line %d: %w", key.Line, unknown(byPath, path)))
			continue
		}
		errs = append(errs, decodeMapping(byPath, path+".", value))
	}
	return errors.Join(errs...)
}

func isPrefix(byPath map[string]field, prefix string) bool {
	for path := range byPath {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// unknown says what to write instead where that can be guessed.
func unknown(byPath map[string]field, path string) error {
	if from, ok := derived()[path]; ok {
		return fmt.Errorf("%s: follows from %s; set that", path, from)
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	var near []string
	for p := range byPath {
		if p == last || strings.HasSuffix(p, "."+last) {
			near = append(near, p)
		}
	}
	slices.Sort(near)
	if len(near) > 0 {
		return fmt.Errorf("%s: no such setting; did you mean %s", path, strings.Join(near, " or "))
	}
	return fmt.Errorf("%s: no such setting", path)
}

func (c *Config) loadEnv(environ []string) error {
	byEnv := map[string]field{}
	for _, f := range fields(c) {
		byEnv[f.env()] = f
	}
	var errs []error
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || foreign(name) {
			continue
		}
		f, ok := byEnv[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: no setting has this variable", name))
			continue
		}
		if err := setText(f.value, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// foreign are variables of ours that are not settings.
func foreign(name string) bool {
	return name == envPrefix+"CONFIG" || strings.HasPrefix(name, envPrefix+"TEST_") || strings.HasPrefix(name, envPrefix+"BENCH")
}

func (c *Config) set(path, value string) error {
	all := map[string]field{}
	for _, f := range fields(c) {
		all[f.path] = f
	}
	f, ok := all[path]
	if !ok {
		return unknown(all, path)
	}
	if err := setText(f.value, value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Print writes what is in force as YAML that Load reads back, but for secrets,
// which are masked.
func (c Config) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields(&c) {
		at := root
		keys := strings.Split(f.path, ".")
		for _, key := range keys[:len(keys)-1] {
			at = child(at, key)
		}
		value := new(yaml.Node)
		if err := value.Encode(shown(f.value)); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: keys[len(keys)-1]}, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return err
	}
	return enc.Close()
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	c := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, c)
	return c
}

// shown is the value as people write it: sizes with units.
func shown(v reflect.Value) any {
	const large = 1 << 20 // numbers from here on are bytes
	if v.Type().Kind() == reflect.Int64 && v.Type() == reflect.TypeFor[int64]() && v.Int() >= large {
		s := FormatSize(v.Int())
		if n, err := ParseSize(s); err == nil && n == v.Int() {
			return s
		}
	}
	return v.Interface()
}

func lookup(environ []string, name string) string {
	for _, e := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
