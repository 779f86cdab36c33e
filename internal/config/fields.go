package config

import (
	"reflect"
	"strings"
	"time"
	"unicode"
)

// field is one setting: a leaf of [Config].
type field struct {
	path  string // "proxy.start_wait"
	value reflect.Value
	owner reflect.Type // the struct that declares it, for its comment
	name  string       // of the Go field
}

// env is the variable that sets the field.
func (f field) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// fields lists the leaves of c in the order of their declaration, without those
// that are derived from others.
func fields(c *Config) []field {
	return walk(nil, "", reflect.ValueOf(c).Elem())
}

func walk(out []field, prefix string, v reflect.Value) []field {
	t := v.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		key, ok := keyOf(sf)
		if !ok {
			continue
		}
		path := prefix + key
		if _, ok := derived()[path]; ok {
			continue
		}
		if isSection(sf.Type) {
			out = walk(out, path+".", v.Field(i))
			continue
		}
		if settable(sf.Type) {
			out = append(out, field{path: path, value: v.Field(i), owner: t, name: sf.Name})
		}
	}
	return out
}

// keyOf is how a field is written in the file; false when it is not.
func keyOf(sf reflect.StructField) (string, bool) {
	if !sf.IsExported() {
		return "", false
	}
	for _, tag := range []string{"yaml", "json"} {
		name, _, _ := strings.Cut(sf.Tag.Get(tag), ",")
		if name == "-" {
			return "", false
		}
		if name != "" {
			return name, true
		}
	}
	return snake(sf.Name), true
}

// snake writes SessionDomain as session_domain and CABundle as ca_bundle.
func snake(s string) string {
	var b strings.Builder
	runes := []rune(s)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || (i+1 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsUpper(runes[i-1]))) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// isSection says that a struct is a group of settings and not one value.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !isText(t)
}

// settable says that a value of the type can be written in a file.
func settable(t reflect.Type) bool {
	if isText(t) || t == reflect.TypeFor[time.Duration]() {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32:
		return true
	case reflect.Slice:
		return settable(t.Elem()) && t.Elem().Kind() != reflect.Slice
	case reflect.Map:
		return t.Key().Kind() == reflect.String && settable(t.Elem())
	default:
		return false
	}
}
