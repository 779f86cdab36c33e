package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Imported is what binderhub-deploy's configuration means here.
type Imported struct {
	Config Config
	// Secrets are those that the source held, by the ..._from setting that now
	// says where they are. They are never written into binnacle.yaml.
	Secrets map[string]Secret
	// Notes tell what has no counterpart and why none is needed.
	Notes []string
}

// legacy is one key of binderhub-deploy: its path in config.json and its
// variable in container mode.
type legacy struct {
	path, env string
	// note is said when the key has a value and no counterpart.
	note string
	set  func(i *Imported, value string) (problem string)
	// example of a right value.
	example string
}

// IsImportable says that a file is a config.json of binderhub-deploy, or is meant to
// be one: what is wrong with it is for [Import] to say.
func IsImportable(b []byte) bool {
	var doc map[string]json.RawMessage
	if json.Unmarshal(b, &doc) != nil {
		b = bytes.TrimSpace(b)
		return bytes.HasPrefix(b, []byte("{")) && (bytes.Contains(b, []byte(`"binderhub"`)) || bytes.Contains(b, []byte(`"container_registry"`)))
	}
	_, hub := doc["binderhub"]
	_, registry := doc["container_registry"]
	return hub || registry
}

// Import reads a config.json of binderhub-deploy. All problems, those of what
// it becomes too, are returned with the paths of config.json.
func Import(b []byte) (Imported, Problems) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var doc any
	err := dec.Decode(&doc)
	if err == nil {
		if _, extra := dec.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("something follows the last brace")
		}
	}
	if err != nil {
		p := Problem{Message: "is not JSON: " + err.Error()}
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			p.Line = 1 + bytes.Count(b[:e.Offset], []byte("\n"))
		}
		return Imported{Config: Default()}, Problems{p}
	}
	values, ps := flatten(doc)
	lines, twice := linesOf(b)
	i, ps := convert(values, append(ps, twice...), func(k legacy) string { return k.path })
	for n := range ps {
		if ps[n].Line == 0 {
			ps[n].Line = lines[ps[n].Path]
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Line - b.Line })
	return i, ps
}

// linesOf says on which line each key of a JSON document is, by its path, and which
// keys are there twice. All JSON is YAML, whose parser knows lines.
func linesOf(b []byte) (map[string]int, Problems) {
	lines, ps := map[string]int{}, Problems{}
	var doc yaml.Node
	if err := yaml.Unmarshal(bytes.ReplaceAll(b, []byte("\t"), []byte(" ")), &doc); err != nil || len(doc.Content) == 0 {
		return lines, nil
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			path := prefix + strings.TrimSuffix(key.Value, ":")
			if _, twice := lines[path]; twice {
				ps = append(ps, Problem{Path: path, Line: key.Line, Message: "is set twice", Example: exampleOf(path)})
				continue
			}
			lines[path] = key.Line
			walk(path+".", n.Content[i+1])
		}
	}
	walk("", doc.Content[0])
	return lines, ps
}

// exampleOf is how a key of config.json may be written.
func exampleOf(path string) string {
	for _, k := range legacyKeys() {
		if k.path == path {
			return k.example
		}
	}
	return ""
}

// ImportEnviron reads the variables of binderhub-deploy's container mode. ok is
// false when BINDERHUB_CONTAINER_MODE is not set.
func ImportEnviron(environ []string) (i Imported, ps Problems, ok bool) {
	env := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	if env["BINDERHUB_CONTAINER_MODE"] == "" {
		return Imported{}, nil, false
	}
	values := map[string]string{}
	for _, k := range legacyKeys() {
		if v, set := env[k.env]; set && k.env != "" {
			values[k.path] = v
		}
	}
	if _, set := values["azure.log_to_blob_storage"]; !set {
		values["azure.log_to_blob_storage"] = "true" // container mode forced it
	}
	i, ps = convert(values, nil, func(k legacy) string { return k.env })
	return i, ps, true
}

// flatten turns the document into texts by path. null, "null" and "" are not
// there.
func flatten(doc any) (map[string]string, Problems) {
	values, ps := map[string]string{}, Problems{}
	known := map[string]legacy{}
	for _, k := range legacyKeys() {
		known[k.path] = k
	}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			ps = append(ps, Problem{Path: strings.TrimSuffix(prefix, "."), Message: "an object is expected here", Example: "{ … }"})
			return
		}
		for key, value := range m {
			// The README of binderhub-deploy spells the key "https:".
			path := prefix + strings.TrimSuffix(key, ":")
			_, leaf := known[path]
			section := slices.ContainsFunc(legacyKeys(), func(k legacy) bool { return strings.HasPrefix(k.path, path+".") })
			switch text, scalar := scalarText(value); {
			case !leaf && !section:
				ps = append(ps, Problem{Path: path, Message: "binderhub-deploy has no such key"})
			case section && value == nil:
			case section:
				walk(path+".", value)
			case !scalar:
				ps = append(ps, Problem{Path: path, Message: "one value is expected here", Example: known[path].example})
			default:
				values[path] = text
			}
		}
	}
	walk("", doc)
	return values, ps
}

func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// convert applies the values in the order of the keys. name is what a key is
// called in the source.
func convert(values map[string]string, ps Problems, name func(legacy) string) (Imported, Problems) {
	i := Imported{Config: Default(), Secrets: map[string]Secret{}}
	i.Config.Target = TargetAzure
	i.Config.HTTPS.Enabled = false
	for _, k := range legacyKeys() {
		v := strings.TrimSpace(values[k.path])
		if v == "null" {
			v = ""
		}
		if v != "" && k.note != "" {
			i.Notes = append(i.Notes, name(k)+": "+k.note)
		}
		if k.set == nil || ps.has(name(k)) { // its value is of a wrong kind
			continue
		}
		if problem := k.set(&i, v); problem != "" {
			ps = append(ps, Problem{Path: name(k), Message: problem, Example: k.example})
		}
	}
	i.finish(values)
	i.Config.normalise()
	// What the result lacks is told by the name of the key that it comes from.
	names := origin(name)
	for _, p := range i.Config.Validate() {
		if from, ok := names[p.Path]; ok {
			p.Path, p.Example = from.path, from.example
		}
		if !ps.has(p.Path) {
			ps = append(ps, p)
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return i, ps
}

// origin says which key of the source a setting comes from.
func origin(name func(legacy) string) map[string]legacy {
	from := map[string]string{ //nolint:gosec // names of settings, no credentials
		"name": "binderhub.name", "azure.subscription": "azure.subscription", "azure.region": "azure.location",
		"azure.resource_group": "azure.res_grp_name", "azure.nodes.min": "azure.node_count", "azure.nodes.max": "azure.node_count",
		"azure.nodes.size": "azure.vm_size", "registry.kind": "container_registry", "registry.name": "acr.registry_name",
		"registry.sku": "acr.sku", "registry.prefix": "binderhub.image_prefix", "registry.username": "docker.username",
		"registry.password_from": "docker.password", "registry.organisation": "docker.org", "dns.domain": "https.domain_name",
		"https.email": "https.contact_email", "azure.client": "azure.sp_app_id", "azure.secret_from": "azure.sp_app_key", "azure.tenant": "azure.sp_tenant_id",
	}
	out := map[string]legacy{}
	for _, k := range legacyKeys() {
		for ours, theirs := range from {
			if theirs == k.path {
				out[ours] = legacy{path: name(k), example: k.example}
			}
		}
	}
	return out
}

// finish decides what follows from several keys.
func (i *Imported) finish(values map[string]string) {
	c := &i.Config
	given := func(path string) bool { v := strings.TrimSpace(values[path]); return v != "" && v != "null" }
	if given("azure.sp_app_id") || given("azure.sp_app_key") {
		c.Azure.SignIn = "service_principal"
		if c.Azure.SecretFrom == "" && given("azure.sp_app_key") {
			c.Azure.SecretFrom = "env:SP_APP_KEY"
		}
	}
	if c.Registry.Kind != RegistryAzure {
		c.Registry.Name = ""
		c.Registry.SKU = Default().Registry.SKU
	}
	if c.Registry.Kind != RegistryDockerHub {
		c.Registry.Username, c.Registry.PasswordFrom, c.Registry.Organisation = "", "", ""
		delete(i.Secrets, "registry.password_from")
	}
	if !c.HTTPS.Enabled {
		c.DNS.Domain, c.HTTPS.Email = "", ""
	}
}

// slug makes a name of ours of one of theirs.
func slug(s string) string {
	s = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s), "-"), "-")
	const longest = 40
	if len(s) > longest {
		s = strings.TrimRight(s[:longest], "-")
	}
	return s
}

// atoi takes a number however it was quoted.
func atoi(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", v)
	}
	return n, nil
}
