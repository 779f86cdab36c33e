package chart_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write golden files and values.schema.json anew")

// enums are the values with a fixed choice.
func enums() map[string][]any {
	return map[string][]any{
		"image.pullPolicy":              {"Always", "IfNotPresent", "Never"},
		"service.type":                  {"LoadBalancer", "NodePort", "ClusterIP"},
		"service.externalTrafficPolicy": {"", "Local", "Cluster"},
		"ingress.pathType":              {"Prefix", "Exact", "ImplementationSpecific"},
		"sessions.podSecurity":          {"", "restricted", "baseline", "privileged"},
	}
}

// items are the kinds of lists' items that are not objects.
func stringLists() []string {
	return []string{
		"image.pullSecrets", "sessions.imagePullSecrets", "ingress.hosts", "httpRoute.hostnames", "prePuller.images", "service.loadBalancerSourceRanges",
		"https.acme.also",
	}
}

// open are maps with keys of others.
func open(path string, n *yaml.Node) bool {
	return len(n.Content) == 0 || strings.HasSuffix(path, "resources") || path == "metrics.dashboard.labels"
}

// schema describes values.yaml by its defaults and comments: they are written
// once. Every key has a comment.
func schema(t *testing.T, path string, n *yaml.Node, comment string) map[string]any {
	t.Helper()
	s := map[string]any{}
	if comment != "" {
		s["description"] = comment
	}
	if e, ok := enums()[path]; ok {
		s["enum"] = e
	}
	switch {
	case n.Kind == yaml.MappingNode && open(path, n):
		s["type"] = "object"
	case n.Kind == yaml.MappingNode:
		props := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			text := strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(k.HeadComment, "# ", ""), "\n", " "))
			if text == "" {
				t.Errorf("values.yaml:%d: %s has no comment", k.Line, k.Value)
			}
			props[k.Value] = schema(t, strings.TrimPrefix(path+"."+k.Value, "."), v, text)
		}
		if path == "" {
			props["global"] = map[string]any{"type": "object", "description": "What Helm gives to charts within charts."}
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", props, false
	case n.Kind == yaml.SequenceNode:
		s["type"] = "array"
		item := "object"
		for _, p := range stringLists() {
			if p == path {
				item = "string"
			}
		}
		s["items"] = map[string]any{"type": item}
	case n.Tag == "!!int":
		s["type"] = "integer"
		if !strings.HasSuffix(path, "Priority") {
			s["minimum"] = 0
		}
	case n.Tag == "!!bool":
		s["type"] = "boolean"
	default:
		s["type"] = "string"
	}
	return s
}

func TestSchemaIsOfValues(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("binnacle/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	s := schema(t, "", doc.Content[0], "Values of the chart of Binnacle.")
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	golden(t, "binnacle/values.schema.json", out.String())
}

// golden compares with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, diff)
	}
}
