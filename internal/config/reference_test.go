package config_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/config"
)

//go:generate go test -run TestReference -update .

const (
	module    = "github.com/binnacle-hub/binnacle"
	root      = "../.."
	reference = root + "/docs/reference/configuration.md"
)

// The page is written from the comments of the Config types and the defaults.
func TestReference(t *testing.T) {
	got := referencePage(t)
	if update() {
		if err := os.MkdirAll(filepath.Dir(reference), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(reference, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the reference page is old; run `make generate` (-page +code):\n%s", diff)
	}
}

var updateFlag = flag.Bool("update", false, "write the reference page")

func update() bool { return *updateFlag }

func referencePage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Configuration\n\n<!-- Written by `make generate` from the code; do not edit. -->\n\n" +
		"Settings come from, each winning over those before it: the defaults below, the file\n" +
		"`/etc/binnacle/binnacle.yaml` (or `--config FILE`), the environment, flags (`--set path=value`\n" +
		"sets any of them). Dots of a path are nested keys of the file. Unknown settings are errors.\n" +
		"`binnacle config check` finds every mistake; `binnacle config print` shows what is in force.\n\n" +
		"Sizes are bytes or have a unit (`512MiB`, `20GiB`), durations are written `90s`, `10m`, `6h`.\n" +
		"In the environment and in flags lists are separated by commas and maps are `key=value,key=value`.\n")
	c := config.Default()
	comments := map[reflect.Type]map[string]string{}
	section := "-"
	for _, f := range config.Fields(&c) {
		if s, _, nested := strings.Cut(f.Path, "."); !nested && section != "" {
			section = ""
			b.WriteString("\n## The hub\n")
		} else if nested && s != section {
			section = s
			fmt.Fprintf(&b, "\n## %s\n", s)
		}
		if comments[f.Owner] == nil {
			comments[f.Owner] = fieldComments(t, f.Owner)
		}
		text := comments[f.Owner][f.Name]
		if text == "" {
			t.Errorf("%s.%s has no comment", f.Owner, f.Name)
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n\n%s, default %s, `%s`\n", f.Path, text, kind(f.Value.Type()), written(f.Value), f.Env)
	}
	return b.String()
}

// fieldComments reads the comments of a struct's fields; a field without one
// shares that of the field before it.
func fieldComments(t *testing.T, typ reflect.Type) map[string]string {
	t.Helper()
	dir := filepath.Join(root, strings.TrimPrefix(typ.PkgPath(), module))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != typ.Name() {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			last := ""
			for _, f := range st.Fields.List {
				text := strings.TrimSpace(f.Doc.Text())
				if text == "" {
					text = strings.TrimSpace(f.Comment.Text())
				}
				if text != "" {
					last = text
				}
				for _, name := range f.Names {
					out[name.Name] = last
				}
			}
			return false
		})
	}
	return out
}

func kind(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "Duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "`true` or `false`"
	case reflect.Slice:
		return "List"
	case reflect.Map:
		return "Map"
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Float64:
		return "Number"
	default:
		return "Text"
	}
}

func written(v reflect.Value) string {
	if v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
		switch v.Kind() {
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint16, reflect.Float64:
			return fmt.Sprintf("`%v`", v.Interface())
		}
		return "empty"
	}
	if n, ok := reflect.TypeAssert[int64](v); ok && n >= 1<<20 {
		return "`" + config.FormatSize(n) + "`"
	}
	if v.Kind() == reflect.Map {
		var parts []string
		for iter := v.MapRange(); iter.Next(); {
			parts = append(parts, fmt.Sprintf("%v=%v", iter.Key(), iter.Value()))
		}
		return "`" + strings.Join(sorted(parts), ",") + "`"
	}
	if v.Kind() == reflect.Slice {
		var parts []string
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i)))
		}
		return "`" + strings.Join(parts, ",") + "`"
	}
	return fmt.Sprintf("`%v`", v.Interface())
}
