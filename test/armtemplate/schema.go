package armtemplate

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The schemas are ours, written from Azure's documentation, and stricter than Azure's
// own where ours need less: no nested templates, no user-defined functions.
var (
	//go:embed template.schema.json
	templateSchema string
	//go:embed form.schema.json
	formSchema string
)

// compiledTemplate and compiledForm are the schemas, ready for use.
var (
	compiledTemplate = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile(templateSchema) })
	compiledForm     = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile(formSchema) })
)

func compile(schema string) (*jsonschema.Schema, error) {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	const name = "https://schemas.example.org/ours.json"
	if err := c.AddResource(name, parsed); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

// schemaProblems holds a document against a schema: each problem with its place.
func schemaProblems(schema func() (*jsonschema.Schema, error), doc any) []string {
	compiled, err := schema()
	if err != nil {
		return []string{"the schema: " + err.Error()}
	}
	if err := compiled.Validate(doc); err != nil {
		return strings.Split(err.Error(), "\n")[1:]
	}
	return nil
}

// generic is a document without types of ours.
func generic(text string) (map[string]any, error) {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("is a %T", v)
	}
	return m, nil
}

// evaluated is the template with the values that its expressions have, as a document
// of the same form.
func (d *Deployment) evaluated() (map[string]any, error) {
	var resources []any
	for _, r := range d.Resources {
		v, err := d.Eval(r)
		if err != nil {
			return nil, err
		}
		resources = append(resources, v)
	}
	b, err := json.Marshal(map[string]any{"resources": resources})
	if err != nil {
		return nil, err
	}
	return generic(string(b))
}
