package config

import "reflect"

// Field is a setting, for the reference page.
type Field struct {
	Path, Env string
	Owner     reflect.Type
	Name      string
	Value     reflect.Value
}

// Fields lists all settings of c.
func Fields(c *Config) []Field {
	var out []Field
	for _, f := range fields(c) {
		out = append(out, Field{Path: f.path, Env: f.env(), Owner: f.owner, Name: f.name, Value: f.value})
	}
	return out
}

// Decode reads a file over c.
func Decode(c *Config, b []byte) error { return c.decode(b) }
