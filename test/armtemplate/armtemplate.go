// Package armtemplate evaluates templates of Azure Resource Manager for tests: the
// functions that ours use, by the rules of Azure's documentation, and no others.
package armtemplate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Azure is what a template finds out about the place it is deployed to.
type Azure struct {
	Subscription, Group, Location string
	ResourceManager, Authority    string
	// References are what reference() finds, by the type and name of the resource.
	References map[string]any
}

// Template is a parsed template.
type Template struct {
	Schema     string               `json:"$schema"`
	Parameters map[string]Parameter `json:"parameters"`
	Variables  map[string]any       `json:"variables"`
	Resources  []map[string]any     `json:"resources"`
	Outputs    map[string]Output    `json:"outputs"`
}

// Parameter is what a template may be told.
type Parameter struct {
	Type          string `json:"type"`
	DefaultValue  any    `json:"defaultValue"`
	AllowedValues []any  `json:"allowedValues"`
	MinLength     *int   `json:"minLength"`
	MaxLength     *int   `json:"maxLength"`
	MinValue      *int   `json:"minValue"`
	MaxValue      *int   `json:"maxValue"`
	Metadata      struct {
		Description string `json:"description"`
	} `json:"metadata"`
}

// Output is what a template tells in the end.
type Output struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Parse reads a template.
func Parse(text string) (Template, error) {
	var t Template
	err := json.Unmarshal([]byte(text), &t)
	return t, err
}

// Deployment is a template with values for its parameters, at a place.
type Deployment struct {
	Template

	Azure  Azure
	Values map[string]any
	// Used are the parameters and variables that expressions have asked for.
	Used map[string]bool
}

// Deploy checks the values against the parameters.
func (t Template) Deploy(at Azure, values map[string]any) (*Deployment, error) {
	d := &Deployment{Template: t, Azure: at, Values: map[string]any{}, Used: map[string]bool{}}
	for name := range values {
		if _, ok := t.Parameters[name]; !ok {
			return nil, fmt.Errorf("there is no parameter %s", name)
		}
	}
	for name, p := range t.Parameters {
		v, ok := values[name]
		if !ok {
			if p.DefaultValue == nil {
				return nil, fmt.Errorf("the parameter %s has no value", name)
			}
			var err error
			if v, err = d.Eval(p.DefaultValue); err != nil {
				return nil, fmt.Errorf("the default of %s: %w", name, err)
			}
		}
		if err := p.fits(v); err != nil {
			return nil, fmt.Errorf("the parameter %s: %w", name, err)
		}
		d.Values[name] = v
	}
	return d, nil
}

func (p Parameter) fits(v any) error {
	ok := false
	switch strings.ToLower(p.Type) {
	case "string", "securestring":
		s, is := v.(string)
		ok = is && (p.MinLength == nil || len(s) >= *p.MinLength) && (p.MaxLength == nil || len(s) <= *p.MaxLength)
	case "int":
		n, is := number(v)
		ok = is && (p.MinValue == nil || n >= *p.MinValue) && (p.MaxValue == nil || n <= *p.MaxValue)
	case "object":
		_, ok = v.(map[string]any)
	}
	if !ok || len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, v) {
		return fmt.Errorf("%v is no value of a %s like this", v, p.Type)
	}
	return nil
}

func number(v any) (int, bool) {
	switch n := v.(type) {
	case int:
		return n, true
	case float64:
		return int(n), n == float64(int(n))
	}
	return 0, false
}

// Eval evaluates all expressions in a value.
func (d *Deployment) Eval(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if !strings.HasPrefix(v, "[") || strings.HasPrefix(v, "[[") || !strings.HasSuffix(v, "]") {
			return v, nil
		}
		e := expression{d: d, text: v[1 : len(v)-1]}
		out, err := e.value()
		if err == nil && strings.TrimSpace(e.text[e.at:]) != "" {
			err = fmt.Errorf("%q is left", e.text[e.at:])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v, err)
		}
		return out, nil
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			name, err := d.Eval(key)
			if err != nil {
				return nil, err
			}
			text, ok := name.(string)
			if !ok {
				return nil, fmt.Errorf("the key %s is not a text", key)
			}
			if out[text], err = d.Eval(value); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			var err error
			if out[i], err = d.Eval(value); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// call is one of the functions of templates.
func (d *Deployment) call(name string, args []any) (any, error) {
	text := func(i int) string {
		if i < len(args) {
			if s, ok := args[i].(string); ok {
				return s
			}
		}
		return ""
	}
	switch strings.ToLower(name) {
	case "parameters":
		v, ok := d.Values[text(0)]
		if !ok {
			return nil, fmt.Errorf("there is no parameter %q", text(0))
		}
		d.Used["parameters."+text(0)] = true
		return v, nil
	case "variables":
		v, ok := d.Variables[text(0)]
		if !ok {
			return nil, fmt.Errorf("there is no variable %q", text(0))
		}
		d.Used["variables."+text(0)] = true
		return d.Eval(v)
	case "subscription":
		return map[string]any{"subscriptionId": d.Azure.Subscription, "id": "/subscriptions/" + d.Azure.Subscription}, nil
	case "resourcegroup":
		return map[string]any{"name": d.Azure.Group, "location": d.Azure.Location, "id": "/subscriptions/" + d.Azure.Subscription + "/resourceGroups/" + d.Azure.Group}, nil
	case "environment":
		return map[string]any{"resourceManager": d.Azure.ResourceManager, "authentication": map[string]any{"loginEndpoint": d.Azure.Authority}}, nil
	case "resourceid":
		return "/subscriptions/" + d.Azure.Subscription + "/resourceGroups/" + d.Azure.Group + "/providers/" + text(0) + "/" + text(1), nil
	case "subscriptionresourceid":
		return "/subscriptions/" + d.Azure.Subscription + "/providers/" + text(0) + "/" + text(1), nil
	case "reference":
		_, short, _ := strings.Cut(text(0), "/providers/")
		found, ok := d.Azure.References[short]
		if !ok {
			return nil, fmt.Errorf("nothing is known of %s", text(0))
		}
		return found, nil
	}
	return plain(strings.ToLower(name), args, text)
}

// plain are the functions that ask nothing of the place.
func plain(name string, args []any, text func(int) string) (any, error) {
	switch name {
	case "concat":
		var b strings.Builder
		for i := range args {
			fmt.Fprint(&b, args[i])
		}
		return b.String(), nil
	case "guid", "uniquestring":
		sum := sha256.Sum256(fmt.Append(nil, args...))
		if name == "uniquestring" {
			return hex.EncodeToString(sum[:])[:13], nil
		}
		h := hex.EncodeToString(sum[:])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32], nil
	case "take":
		n, _ := number(args[1])
		return text(0)[:min(n, len(text(0)))], nil
	case "replace":
		return strings.ReplaceAll(text(0), text(1), text(2)), nil
	case "split":
		out := []any{}
		for part := range strings.SplitSeq(text(0), text(1)) {
			out = append(out, part)
		}
		return out, nil
	}
	return objects(name, args, text)
}

// objects are those that decide, or make objects.
func objects(name string, args []any, text func(int) string) (any, error) {
	switch name {
	case "empty":
		return args[0] == nil || reflect.ValueOf(args[0]).Len() == 0, nil
	case "equals":
		return reflect.DeepEqual(args[0], args[1]), nil
	case "greater":
		a, _ := number(args[0])
		b, _ := number(args[1])
		return a > b, nil
	case "if":
		if args[0] == true {
			return args[1], nil
		}
		return args[2], nil
	case "json":
		var v any
		err := json.Unmarshal([]byte(text(0)), &v)
		return v, err
	case "string":
		b, err := json.Marshal(args[0])
		return string(b), err
	case "createobject":
		out := map[string]any{}
		for i := 0; i+1 < len(args); i += 2 {
			out[text(i)] = args[i+1]
		}
		return out, nil
	case "union":
		out := map[string]any{}
		for _, a := range args {
			m, ok := a.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("union of a %T", a)
			}
			out = union(out, m)
		}
		return out, nil
	}
	return nil, fmt.Errorf("there is no function %s here", name)
}

// union lays b over a, objects within objects too.
func union(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for key, value := range b {
		inner, ok := value.(map[string]any)
		before, both := out[key].(map[string]any)
		if ok && both {
			value = union(before, inner)
		}
		out[key] = value
	}
	return out
}

// Environment evaluates the resources, and returns what the first container of the
// container group is started with. Secret values come with the others.
func (d *Deployment) Environment() (command, environ []string, err error) {
	for _, r := range d.Resources {
		v, err := d.Eval(r)
		if err != nil {
			return nil, nil, err
		}
		if r["type"] != "Microsoft.ContainerInstance/containerGroups" {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, nil, err
		}
		var group struct {
			Properties struct {
				Containers []struct {
					Properties struct {
						Command              []string `json:"command"`
						EnvironmentVariables []struct {
							Name        string  `json:"name"`
							Value       *string `json:"value"`
							SecureValue *string `json:"secureValue"`
						} `json:"environmentVariables"`
					} `json:"properties"`
				} `json:"containers"`
			} `json:"properties"`
		}
		if err := json.Unmarshal(b, &group); err != nil {
			return nil, nil, fmt.Errorf("the container group: %w", err)
		}
		c := group.Properties.Containers[0].Properties
		command = c.Command
		for _, e := range c.EnvironmentVariables {
			if value := cmp.Or(e.Value, e.SecureValue); value != nil {
				environ = append(environ, e.Name+"="+*value)
			}
		}
	}
	if command == nil {
		return nil, nil, errors.New("the template has no container group")
	}
	return command, environ, nil
}
