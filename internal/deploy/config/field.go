package config

import (
	_ "embed"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
)

// source is where the comments of the settings are: they are written once.
//
//go:embed config.go
var source string

// Field is one setting.
type Field struct {
	Path    string // "azure.nodes.max"
	Comment string
	Example string
	Value   reflect.Value // of the Config that was asked about
}

// Fields lists every setting of c in the order of the file; their values can be
// set.
func Fields(c *Config) []Field {
	return fieldsOf(reflect.ValueOf(c).Elem(), "", comments())
}

// plainFields are the fields without their comments, which take longer to read.
func plainFields(c *Config) []Field { return fieldsOf(reflect.ValueOf(c).Elem(), "", nil) }

func fieldsOf(v reflect.Value, prefix string, text map[string]string) []Field {
	var out []Field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		path := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			out = append(out, fieldsOf(v.Field(i), path+".", text)...)
			continue
		}
		comment := text[v.Type().Name()+"."+f.Name]
		if rest, ok := strings.CutPrefix(comment, f.Name+" "); ok && !strings.HasPrefix(rest, "and ") {
			comment = f.Tag.Get("yaml") + " " + rest // people see the key, not the field
		}
		out = append(out, Field{Path: path, Comment: comment, Example: f.Tag.Get("example"), Value: v.Field(i)})
	}
	return out
}

// Sections are the comments of the groups of settings, by path.
func Sections() map[string]string {
	text, out := comments(), map[string]string{}
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for f := range t.Fields() {
			if f.Type.Kind() == reflect.Struct {
				path := prefix + f.Tag.Get("yaml")
				out[path] = text[f.Type.Name()]
				walk(f.Type, path+".")
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return out
}

// example is how the setting at the path may be written.
func example(path string) string {
	path, _, _ = strings.Cut(path, "[")
	for _, f := range plainFields(new(Config)) {
		if f.Path == path {
			return f.Example
		}
	}
	return ""
}

// comments are those of the types ("Azure") and fields ("Azure.Region"); a field
// without one shares that of the field before it.
func comments() map[string]string {
	out := map[string]string{}
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return out // it compiled, so it parses
	}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			typ, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			out[typ.Name.Name] = strings.TrimSpace(gen.Doc.Text())
			if st, ok := typ.Type.(*ast.StructType); ok {
				fieldComments(out, typ.Name.Name, st)
			}
		}
	}
	return out
}

func fieldComments(out map[string]string, name string, st *ast.StructType) {
	last := ""
	for _, f := range st.Fields.List {
		if text := strings.TrimSpace(f.Doc.Text()); text != "" {
			last = text
		}
		for _, id := range f.Names {
			out[name+"."+id.Name] = last
		}
	}
}
