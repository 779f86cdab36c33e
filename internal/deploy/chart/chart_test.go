package chart_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/chart"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
)

// variants are the main ways to install the chart.
func variants() []string {
	return []string{"single", "replicas", "ingress", "gateway", "https", "everything"}
}

func values(t *testing.T, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.UnmarshalStrict(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render is what `helm template` prints, by file.
func render(t *testing.T, v map[string]any) (map[string]string, error) {
	t.Helper()
	c, err := chart.Load("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return renderChart(c, v)
}

func renderChart(c *v2.Chart, v map[string]any) (map[string]string, error) {
	return renderFor(c, v, "v1.34.4")
}

// renderFor renders for a cluster of that version.
func renderFor(c *v2.Chart, v map[string]any, version string) (map[string]string, error) {
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion.Version = version
	all, err := util.ToRenderValues(c, v, common.ReleaseOptions{Name: "hub", Namespace: "binder", Revision: 1, IsInstall: true}, caps)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// objects are those of the rendered files, one YAML document each.
func objects(t *testing.T, files map[string]string) []string {
	t.Helper()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		for doc := range strings.SplitSeq(files[name], "\n---\n") {
			var tree map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &tree); err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
			}
			if tree != nil {
				out = append(out, strings.TrimSpace(doc)+"\n")
			}
		}
	}
	return out
}

func rendered(t *testing.T, name string) []string {
	t.Helper()
	files, err := render(t, values(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, files)
}

func TestLint(t *testing.T) {
	t.Parallel()
	for _, name := range variants() {
		result := lint.RunAll(chart.Name, values(t, name), "binder")
		for _, m := range result.Messages {
			if !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %s", name, m)
			}
		}
	}
}

// Everything made by chance is masked: keys, passwords.
func masked(doc string) string {
	return regexp.MustCompile(`(?m)^(  (?:ca\.crt|tls\.crt|tls\.key|password|url): ).*$`).ReplaceAllString(doc, "${1}MASKED")
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, name := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden(t, "testdata/"+name+".golden.yaml", masked(strings.Join(rendered(t, name), "---\n")))
		})
	}
}

// Objects are what the API types have, with no field too many.
func TestObjectsAreStrict(t *testing.T) {
	t.Parallel()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	foreign := []string{"kind: ServiceMonitor", "kind: HTTPRoute"} // of APIs that are not Kubernetes' own
	for _, name := range variants() {
		for _, doc := range rendered(t, name) {
			if slices.ContainsFunc(foreign, func(s string) bool { return strings.Contains(doc, s) }) {
				continue
			}
			if _, _, err := decoder.Decode([]byte(doc), nil, nil); err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
			}
		}
	}
}

func decode[T runtime.Object](t *testing.T, docs []string) map[string]T {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme).UniversalDeserializer()
	out := map[string]T{}
	for _, doc := range docs {
		o, _, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			continue // of another API
		}
		if typed, ok := o.(T); ok {
			b, _ := json.Marshal(o)
			var meta struct{ Metadata struct{ Name string } }
			_ = json.Unmarshal(b, &meta)
			out[meta.Metadata.Name] = typed
		}
	}
	return out
}

// The configuration that the chart writes is one that the hub reads.
func TestConfigurationIsRead(t *testing.T) {
	t.Parallel()
	for _, name := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := hubConfig(t, rendered(t, name))
			if !c.Kubernetes.Enabled || c.Kubernetes.Session.Network.HubNamespace != "binder" {
				t.Errorf("kubernetes: %+v", c.Kubernetes)
			}
		})
	}
}

func hubConfig(t *testing.T, docs []string) config.Config {
	t.Helper()
	text := decode[*corev1.Secret](t, docs)["hub-binnacle-config"].StringData["binnacle.yaml"]
	// The files of the pod are not here.
	text = regexp.MustCompile(`(?m)^tls:\n  cert: .*\n  key: .*\n  redirect: .*\n`).ReplaceAllString(text, "")
	path := filepath.Join(t.TempDir(), "binnacle.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Sources{Path: path})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// The chart's policies are those that session/kubernetes wants: written in two
// languages, said once.
func TestPoliciesOfSessions(t *testing.T) {
	t.Parallel()
	mail := values(t, "single")
	mail["config"] = map[string]any{"kubernetes": map[string]any{"session": map[string]any{"network": map[string]any{
		"deny_ports": []any{587, 25, 1, 465, 65535}, "allow": []any{"10.1.2.3/32"},
	}}}}
	open := values(t, "single")
	open["config"] = map[string]any{"kubernetes": map[string]any{"session": map[string]any{"network": map[string]any{"deny_ports": []any{}}}}}
	for name, v := range map[string]map[string]any{"single": values(t, "single"), "everything": values(t, "everything"), "mail": mail, "open": open} {
		files, err := render(t, v)
		if err != nil {
			t.Fatal(err)
		}
		docs := objects(t, files)
		got := decode[*networkingv1.NetworkPolicy](t, docs)
		for _, want := range kubernetes.Policies(hubConfig(t, docs).Kubernetes.Session) {
			p := got[want.Name]
			if p == nil {
				t.Errorf("%s: no policy %s", name, want.Name)
				continue
			}
			if diff := cmp.Diff(want.Spec, p.Spec); diff != "" || p.Namespace != want.Namespace {
				t.Errorf("%s: %s in %s:\n%s", name, want.Name, p.Namespace, diff)
			}
		}
	}
}

// What the hub may do, all of it: a change is to be looked at.
func TestRightsAreFew(t *testing.T) {
	t.Parallel()
	var got []string
	docs := rendered(t, "everything")
	for name, role := range decode[*rbacv1.Role](t, withoutWatch(docs)) {
		for _, rule := range role.Rules {
			got = append(got, fmt.Sprintf("%s/%s: %v %v %v", role.Namespace, name, rule.Resources, rule.ResourceNames, rule.Verbs))
		}
	}
	slices.Sort(got)
	want := []string{
		"binder/hub-binnacle: [endpointslices] [] [get list watch]",
		"binder/hub-binnacle: [leases] [] [create]",
		"binder/hub-binnacle: [leases] [hub] [get update patch]",
	}
	for _, rule := range kubernetes.Rules() {
		want = append(want, fmt.Sprintf("science/hub-binnacle-sessions: %v %v %v", rule.Resources, rule.ResourceNames, rule.Verbs))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(decode[*rbacv1.ClusterRole](t, withoutWatch(docs))); n > 0 {
		t.Errorf("%d roles for the whole cluster", n)
	}
}

const follower = "hub-binnacle-watch"

// withoutWatch leaves out what is there for who follows the repository.
func withoutWatch(docs []string) []string {
	return slices.DeleteFunc(slices.Clone(docs), func(doc string) bool {
		return strings.Contains(doc, "  name: "+follower) || strings.Contains(doc, "-"+follower)
	})
}

// Who follows the repository may do what the hub may, or Kubernetes would not let it
// write the hub's roles; and whatever kind of object the chart has. For the whole
// cluster it may touch by name what the chart has there, and make nothing.
func TestRightsToFollow(t *testing.T) {
	t.Parallel()
	docs := rendered(t, "everything")
	mine := map[string][]rbacv1.PolicyRule{}
	var hub []rbacv1.Role
	for _, doc := range docs { // two roles have the same name
		for _, role := range decode[*rbacv1.Role](t, []string{doc}) {
			if role.Name == follower {
				mine[role.Namespace] = role.Rules
			} else {
				hub = append(hub, *role)
			}
		}
	}
	for _, role := range hub {
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if !allowed(mine[role.Namespace], rule.APIGroups[0], resource, verb) {
						t.Errorf("it may not %s %s in %s, and the hub may", verb, resource, role.Namespace)
					}
				}
			}
		}
	}
	wide := decode[*rbacv1.ClusterRole](t, docs)["binder-"+follower]
	for _, doc := range docs {
		var o struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		resource := strings.ToLower(o.Kind) + "s"
		for from, to := range map[string]string{"ys": "ies", "sss": "sses"} {
			if stem, ok := strings.CutSuffix(resource, from); ok {
				resource = stem + to
			}
		}
		rules := mine[o.Metadata.Namespace]
		if o.Kind == "Namespace" {
			rules = mine[o.Metadata.Name]
		} else if o.Metadata.Namespace == "" {
			rules = wide.Rules
		}
		for _, verb := range []string{"get", "patch"} {
			if !allowed(rules, group, resource, verb) {
				t.Errorf("it may not %s the %s %s", verb, o.Kind, o.Metadata.Name)
			}
		}
	}
	for _, rule := range wide.Rules {
		if len(rule.ResourceNames) == 0 || slices.Contains(rule.Verbs, "create") || slices.Contains(rule.Verbs, "escalate") {
			t.Errorf("of the whole cluster it may %v %v", rule.Verbs, rule.Resources)
		}
	}
}

func allowed(rules []rbacv1.PolicyRule, group, resource, verb string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb)
	})
}

// Only builders and trial databases may leave what `restricted` asks for.
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	for _, doc := range rendered(t, "everything") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct{ Template struct{ Spec corev1.PodSpec } }
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil || len(o.Spec.Template.Spec.Containers) == 0 {
			continue
		}
		spec := o.Spec.Template.Spec
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s: variables of services look like settings of the hub", o.Metadata.Name)
		}
		if o.Metadata.Name == "hub-binnacle-builders" {
			continue
		}
		if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
			t.Errorf("%s: runs as root", o.Metadata.Name)
		}
		for _, c := range append(spec.InitContainers, spec.Containers...) {
			if c.SecurityContext == nil || c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation || c.SecurityContext.Capabilities == nil {
				t.Errorf("%s/%s: may gain privileges", o.Metadata.Name, c.Name)
			}
		}
	}
}

// No secret is in the release but what the chart makes by chance.
func TestSecretsByReference(t *testing.T) {
	t.Parallel()
	docs := strings.Join(rendered(t, "replicas"), "---\n")
	if !strings.Contains(docs, "name: hub-database") || strings.Contains(docs, base64.StdEncoding.EncodeToString([]byte("postgres://"))) {
		t.Error("the database's address is not taken from its Secret")
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, values, want string }{
		{"unknown key", "replica: 2", "additional properties 'replica' not allowed"},
		{"wrong type", "replicas: two", "at '/replicas': got string, want integer"},
		{"wrong choice", "service: {type: Public}", "at '/service/type': value must be one of 'LoadBalancer', 'NodePort', 'ClusterIP'"},
		{"negative", "replicas: -1", "at '/replicas': minimum: got -1, want 0"},
		{"builders without a registry", "{}", "registry.imagePrefix: builders push images"},
		{"replicas without a database", "{replicas: 2, builders: {replicas: 0}}", "replicas: more than one replica of the hub needs a database"},
		{"autoscaling without a database", "{autoscaling: {enabled: true}, builders: {replicas: 0}}", "needs a database"},
		{"two databases", "{postgresql: {enabled: true}, database: {existingSecret: a}, builders: {replicas: 0}}", "choose one database"},
		{"two certificates", "{https: {existingSecret: a, acme: {domain: b}}, builders: {replicas: 0}}", "https: choose"},
		{"acme without a volume", "{hub: {persistence: {enabled: false}}, https: {acme: {domain: b}}, builders: {replicas: 0}}", "needs hub.persistence"},
		{"ingress without a host", "{ingress: {enabled: true}, builders: {replicas: 0}}", "ingress.hosts: name the host"},
		{"route without a gateway", "{httpRoute: {enabled: true, hostnames: [a]}, builders: {replicas: 0}}", "httpRoute: needs parentRefs"},
		{"a registry nobody finds", "{inClusterRegistry: {enabled: true}}", "inClusterRegistry.address: name a node's address"},
		{"placeholders that stay", "{scheduling: {userPlaceholder: {replicas: 1}}, builders: {replicas: 0}}", "needs scheduling.podPriority"},
		{"sessions beside the hub", "{sessions: {namespace: binder}, builders: {replicas: 0}}", "sessions.namespace: must not be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var v map[string]any
			if err := yaml.Unmarshal([]byte(tt.values), &v); err != nil {
				t.Fatal(err)
			}
			_, err := render(t, v)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant: %s", err, tt.want)
			}
		})
	}
}

// An older Kubernetes would drop hostUsers, and run builders as root of the node.
func TestUserNamespacesOfBuilders(t *testing.T) {
	t.Parallel()
	c, err := chart.Load("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	v := values(t, "everything")
	for version, ok := range map[string]bool{"v1.32.9": false, "v1.33.0": true, "v1.34.4-eks-1": true} {
		if _, err := renderFor(c, v, version); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "needs Kubernetes 1.33") {
			t.Errorf("%s: %v", version, err)
		}
	}
	pod := decode[*appsv1.StatefulSet](t, rendered(t, "everything"))["hub-binnacle-builders"].Spec.Template.Spec
	s := pod.Containers[0].SecurityContext
	if pod.HostUsers == nil || *pod.HostUsers || s.Privileged != nil && *s.Privileged || len(s.Capabilities.Drop) == 0 {
		t.Errorf("builders in user namespaces: %v %+v", pod.HostUsers, s)
	}
}

// Images of repositories are fetched from where builders push them.
func TestPrePullerHasTheLogin(t *testing.T) {
	t.Parallel()
	v := values(t, "single")
	v["prePuller"] = map[string]any{"images": []any{"registry.example.org/binnacle/popular:1"}}
	for _, c := range []struct{ own, want []any }{
		{nil, []any{"hub-registry"}}, {[]any{"own"}, []any{"own", "hub-registry"}}, {[]any{"hub-registry"}, []any{"hub-registry"}},
	} {
		v["image"] = map[string]any{"pullSecrets": c.own}
		files, err := render(t, v)
		if err != nil {
			t.Fatal(err)
		}
		var got []any
		for _, s := range decode[*appsv1.DaemonSet](t, objects(t, files))["hub-binnacle-prepuller"].Spec.Template.Spec.ImagePullSecrets {
			got = append(got, s.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// The dashboard asks for metrics that the hub has; TestKubernetes asks a real one.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("binnacle/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatal("not JSON")
	}
	var source []byte
	for _, file := range []string{"../../hub/metrics.go", "../../cli/kubernetes.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	for _, name := range regexp.MustCompile(`(binnacle|binderhub)_[a-z_]+`).FindAll(b, -1) {
		name = regexp.MustCompile(`_(bucket|count)$`).ReplaceAll(name, nil)
		if !bytes.Contains(source, []byte(`"`+string(name)+`"`)) {
			t.Errorf("no metric is called %s", name)
		}
	}
}
