package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// setText writes text, from the environment or a flag, into v. Lists are
// separated by commas, maps are written key=value,key=value.
func setText(v reflect.Value, text string) error {
	if !isText(v.Type()) {
		switch v.Kind() {
		case reflect.Slice:
			return setList(v, splitList(text))
		case reflect.Map:
			return setPairs(v, splitList(text))
		}
	}
	return setScalar(v, text)
}

func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func setList(v reflect.Value, items []string) error {
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := setScalar(list.Index(i), item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	v.Set(list)
	return nil
}

func setPairs(v reflect.Value, items []string) error {
	m := reflect.MakeMap(v.Type())
	for _, item := range items {
		key, text, ok := strings.Cut(item, "=")
		if !ok {
			return fmt.Errorf("%q is not written key=value", item)
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if value.Kind() == reflect.Slice && !isText(value.Type()) {
			if err := setList(value, strings.Fields(text)); err != nil {
				return err
			}
		} else if err := setScalar(value, text); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
	}
	v.Set(m)
	return nil
}

// setScalar writes one value. Numbers of bytes may have a unit: 2GiB.
func setScalar(v reflect.Value, text string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 90s, 10m or 6h", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := ParseSize(text)
		if err != nil {
			return err
		}
		if v.OverflowInt(n) {
			return fmt.Errorf("%s is too large", text)
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint32:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a number up to %d", text, uint64(1)<<v.Type().Bits()-1)
		}
		v.SetUint(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(f)
	default:
		return errors.New("can't be set this way")
	}
	return nil
}

// setNode writes a value of the file into v.
func setNode(v reflect.Value, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Tag == "!!null" {
		v.SetZero()
		return nil
	}
	if !isText(v.Type()) {
		switch v.Kind() {
		case reflect.Slice:
			return setSequence(v, n)
		case reflect.Map:
			return setMapping(v, n)
		}
	}
	if n.Kind != yaml.ScalarNode {
		return setTree(v, n)
	}
	return setScalar(v, n.Value)
}

// treeText is of a type whose text is YAML, which may be written in the file as
// it is instead of as a string of it.
type treeText interface{ TextIsYAML() }

func setTree(v reflect.Value, n *yaml.Node) error {
	if _, ok := reflect.TypeAssert[treeText](v.Addr()); !ok {
		return errors.New("one value is expected here")
	}
	text, err := yaml.Marshal(n)
	if err != nil {
		return fmt.Errorf("write what is here as text: %w", err)
	}
	return setScalar(v, string(text))
}

func setSequence(v reflect.Value, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("a list is expected here")
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if err := setNode(list.Index(i), item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	v.Set(list)
	return nil
}

// setMapping adds to what is there, so that naming one host keeps the others.
func setMapping(v reflect.Value, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("keys and values are expected here")
	}
	m := reflect.MakeMap(v.Type())
	for iter := v.MapRange(); iter.Next(); {
		m.SetMapIndex(iter.Key(), iter.Value())
	}
	for i := 0; i < len(n.Content); i += 2 {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := setNode(value, n.Content[i+1]); err != nil {
			return fmt.Errorf("%s: %w", n.Content[i].Value, err)
		}
		m.SetMapIndex(reflect.ValueOf(n.Content[i].Value).Convert(v.Type().Key()), value)
	}
	v.Set(m)
	return nil
}

// ParseSize reads a number that may have a unit of bytes: "2GiB", "512M",
// "1.5 GB". K, M, G, T and Ki, Mi, Gi, Ti are powers of 1024; KB, MB, GB and TB
// of 1000.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "KMGTiBkmgtb ")
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	factor, ok := map[string]float64{
		"": 1, "b": 1,
		"k": 1 << 10, "ki": 1 << 10, "kib": 1 << 10, "kb": 1e3,
		"m": 1 << 20, "mi": 1 << 20, "mib": 1 << 20, "mb": 1e6,
		"g": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "gb": 1e9,
		"t": 1 << 40, "ti": 1 << 40, "tib": 1 << 40, "tb": 1e12,
	}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || math.IsNaN(n) || math.IsInf(n, 0) || (unit == "" && n != math.Trunc(n)) {
		return 0, fmt.Errorf("%q is not a number or a size such as 512MiB or 20GiB", s)
	}
	if math.Abs(n*factor) > math.MaxInt64/2 {
		return 0, fmt.Errorf("%s is too large", s)
	}
	return int64(n * factor), nil
}

// FormatSize writes a number of bytes the way ParseSize reads it: exact where
// that is short, else rounded to a tenth.
func FormatSize(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1<<10 && n > -(1<<10) {
		return strconv.FormatInt(n, 10)
	}
	f, unit := float64(n)/(1<<10), 0
	for (f >= 1024 || f <= -1024) && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + units[unit]
}
