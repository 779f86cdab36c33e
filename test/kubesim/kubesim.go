// Package kubesim is a stand-in for a cluster's API server, for tests that need
// hundreds of empty clusters and no pods: it keeps objects, and what they ask for
// is there at once. Deployments are ready, load balancers have addresses, and a
// namespace that is deleted takes along what is in it.
//
// It knows the kinds that the chart has, without their schemas; who applies an
// object owns all of it. What it can't do is an error, never a guess. The real cluster
// of the tests is in test/kube: what matters is shown there too.
package kubesim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// Address is that of every load balancer.
const Address = "192.0.2.7"

// Cluster is the state of one. The zero value is an empty cluster.
type Cluster struct {
	// Front stands before the API and may keep requests from it; nil lets all through.
	Front func(http.Handler) http.Handler
	// Starting says that pods are not ready until [Cluster.Edit] says so.
	Starting bool
	// Exec runs a command in a pod that a test has put there, and returns its exit code;
	// nil refuses.
	Exec func(Process) (code int)

	mu      sync.Mutex
	objects map[string]map[string]any // by path
	version int
	writes  []string
}

// kind is a resource of the API.
type kind struct {
	group, version, plural, name string
	cluster                      bool // not in a namespace
}

func kinds() []kind {
	const rbac = "rbac.authorization.k8s.io"
	return []kind{
		{"", "v1", "namespaces", "Namespace", true},
		{"", "v1", "nodes", "Node", true},
		{"", "v1", "configmaps", "ConfigMap", false},
		{"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", false},
		{"", "v1", "pods", "Pod", false},
		{"", "v1", "secrets", "Secret", false},
		{"", "v1", "serviceaccounts", "ServiceAccount", false},
		{"", "v1", "services", "Service", false},
		{"apps", "v1", "daemonsets", "DaemonSet", false},
		{"apps", "v1", "deployments", "Deployment", false},
		{"apps", "v1", "statefulsets", "StatefulSet", false},
		{"authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", true},
		{"coordination.k8s.io", "v1", "leases", "Lease", false},
		{"networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", false},
		{"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", false},
		{rbac, "v1", "rolebindings", "RoleBinding", false},
		{rbac, "v1", "roles", "Role", false},
		{"scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", true},
		{"storage.k8s.io", "v1", "storageclasses", "StorageClass", true},
	}
}

// Start serves a cluster until the test ends, and returns the kubeconfig for it.
func Start(t testing.TB, c *Cluster) (kubeconfig []byte) {
	t.Helper()
	c.objects = map[string]map[string]any{
		"/api/v1/nodes/node-1": {
			"metadata": map[string]any{"name": "node-1"},
			"status":   map[string]any{"allocatable": map[string]any{"cpu": "4"}, "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
		},
		"/apis/storage.k8s.io/v1/storageclasses/standard": {
			"metadata": map[string]any{"name": "standard", "annotations": map[string]any{"storageclass.kubernetes.io/is-default-class": "true"}},
		},
	}
	var handler http.Handler = c
	if c.Front != nil {
		handler = c.Front(c)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return Kubeconfig(srv.URL)
}

// Kubeconfig says how to reach an API server that asks for no credentials.
func Kubeconfig(server string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: sim
contexts: [{name: sim, context: {cluster: sim, user: sim}}]
clusters: [{name: sim, cluster: {server: %s}}]
users: [{name: sim, user: {token: of-the-simulator}}]
`, server)
}

// Writes are the requests that changed something, in order.
func (c *Cluster) Writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

// State is every object by its path, as JSON, without what differs in each run.
func (c *Cluster) State() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for path, o := range c.objects {
		o = maps.Clone(o)
		m := maps.Clone(meta(o))
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation"} {
			delete(m, field)
		}
		o["metadata"] = m
		b, err := json.Marshal(o)
		if err != nil {
			b = []byte(err.Error())
		}
		out[path] = string(b)
	}
	return out
}

// Edit changes the objects below a path, as somebody else would.
func (c *Cluster) Edit(below string, change func(path string, o map[string]any)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, o := range c.objects {
		if strings.HasPrefix(path, below) {
			change(path, o)
		}
	}
}

// Remove takes the objects below a path away.
func (c *Cluster) Remove(below string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.objects, func(path string, _ map[string]any) bool { return strings.HasPrefix(path, below) })
}

// Add puts an object of somebody else there.
func (c *Cluster) Add(path string, o map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(path, o)
}

func meta(o map[string]any) map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

// ServeHTTP answers one request.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if pod, ok := execOf(strings.Split(strings.Trim(r.URL.Path, "/"), "/")); ok {
		c.exec(w, r, pod)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/version":
		answer(w, http.StatusOK, map[string]any{"major": "1", "minor": "34", "gitVersion": "v1.34.2"})
	case parts[0] == "api" && len(parts) <= 2, parts[0] == "apis" && (len(parts) == 1 || len(parts) == 3):
		discover(w, parts)
	case parts[0] == "openapi" && len(parts) > 1 && parts[1] == "v3":
		openapi(w, parts[2:])
	default:
		c.resource(w, r, parts)
	}
}

// discover says which kinds there are.
func discover(w http.ResponseWriter, parts []string) {
	switch {
	case len(parts) == 1 && parts[0] == "api":
		answer(w, http.StatusOK, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case len(parts) == 1:
		var groups []any
		for _, k := range kinds() {
			v := map[string]any{"groupVersion": k.group + "/" + k.version, "version": k.version}
			g := map[string]any{"name": k.group, "versions": []any{v}, "preferredVersion": v}
			if k.group != "" && !slices.ContainsFunc(groups, func(have any) bool { m, ok := have.(map[string]any); return ok && m["name"] == k.group }) {
				groups = append(groups, g)
			}
		}
		answer(w, http.StatusOK, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
	default:
		group := strings.TrimSuffix(strings.Join(parts[1:], "/"), "/v1")
		if parts[0] == "api" {
			group = ""
		}
		var list []any
		for _, k := range kinds() {
			if k.group == group {
				list = append(list, map[string]any{
					"name": k.plural, "kind": k.name, "namespaced": !k.cluster, "singularName": strings.ToLower(k.name),
					"verbs": []string{"create", "delete", "get", "list", "patch", "update", "watch"},
				})
			}
		}
		if list == nil {
			refuse(w, http.StatusNotFound, "NotFound", "the simulator has no group "+group)
			return
		}
		answer(w, http.StatusOK, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": strings.Join(parts[1:], "/"), "resources": list})
	}
}

// openapi says of each kind that its fields may be validated when it is patched, which
// is all that Helm asks for; they are not.
func openapi(w http.ResponseWriter, parts []string) {
	paths := map[string]any{}
	for _, k := range kinds() {
		at := "apis/" + k.group + "/" + k.version
		if k.group == "" {
			at = "api/" + k.version
		}
		switch {
		case len(parts) == 0:
			paths[at] = map[string]any{"serverRelativeURL": "/openapi/v3/" + at}
		case strings.Join(parts, "/") == at:
			paths["/"+at+"/"+k.plural] = map[string]any{"patch": map[string]any{
				"x-kubernetes-group-version-kind": map[string]string{"group": k.group, "version": k.version, "kind": k.name},
				"parameters":                      []any{map[string]any{"name": "fieldValidation", "in": "query"}},
			}}
		}
	}
	answer(w, http.StatusOK, map[string]any{"openapi": "3.0.0", "paths": paths})
}

// resource answers for the objects of one kind. A path is the base of a group, then
// perhaps a namespace, the kind, and perhaps a name.
func (c *Cluster) resource(w http.ResponseWriter, r *http.Request, parts []string) {
	base := 3
	group := ""
	if parts[0] == "api" {
		base = 2
	} else if len(parts) > 1 {
		group = parts[1]
	}
	namespace, rest := "", parts[min(base, len(parts)):]
	if len(rest) > 2 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	i := -1
	if len(rest) > 0 && len(rest) < 3 {
		i = slices.IndexFunc(kinds(), func(k kind) bool { return k.group == group && k.plural == rest[0] })
	}
	if i < 0 {
		refuse(w, http.StatusNotFound, "NotFound", "the simulator has no "+r.URL.Path)
		return
	}
	k := kinds()[i]
	if len(rest) == 1 {
		c.collection(w, r, k, namespace)
		return
	}
	path := "/" + strings.Join(parts, "/")
	switch r.Method {
	case http.MethodGet:
		if o, ok := c.objects[path]; ok {
			answer(w, http.StatusOK, typed(k, o))
			return
		}
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, rest[1]))
	case http.MethodPut, http.MethodPatch:
		c.change(w, r, k, namespace, path)
	case http.MethodDelete:
		o, ok := c.objects[path]
		if !ok {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, rest[1]))
			return
		}
		c.wrote(r)
		c.drop(k, path, rest[1])
		answer(w, http.StatusOK, typed(k, o))
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	}
}

// drop takes an object away; a namespace with all that is in it.
func (c *Cluster) drop(k kind, path, name string) {
	delete(c.objects, path)
	if k.plural != "namespaces" {
		return
	}
	maps.DeleteFunc(c.objects, func(path string, _ map[string]any) bool { return strings.Contains(path, "/namespaces/"+name+"/") })
}

func (c *Cluster) wrote(r *http.Request) { c.writes = append(c.writes, r.Method+" "+r.URL.Path) }

// collection lists the objects of a kind, or makes one.
func (c *Cluster) collection(w http.ResponseWriter, r *http.Request, k kind, namespace string) {
	switch {
	case r.Method == http.MethodPost && k.plural == "selfsubjectaccessreviews":
		answer(w, http.StatusCreated, typed(k, map[string]any{"status": map[string]any{"allowed": true}}))
	case r.Method == http.MethodPost:
		o, ok := body(w, r)
		if !ok {
			return
		}
		name, _ := meta(o)["name"].(string)
		path := strings.TrimSuffix(r.URL.Path, "/") + "/" + name
		if !c.hasNamespace(w, namespace) {
			return
		}
		if _, there := c.objects[path]; there {
			refuse(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s %q already exists", k.plural, name))
			return
		}
		c.wrote(r)
		answer(w, http.StatusCreated, typed(k, c.store(path, o)))
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") == "":
		c.list(w, r, k)
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the simulator does not do "+r.Method+" "+r.URL.String())
	}
}

func (c *Cluster) hasNamespace(w http.ResponseWriter, namespace string) bool {
	if _, ok := c.objects["/api/v1/namespaces/"+namespace]; !ok && namespace != "" {
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("namespaces %q not found", namespace))
		return false
	}
	return true
}

func (c *Cluster) list(w http.ResponseWriter, r *http.Request, k kind) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil || r.URL.Query().Get("fieldSelector") != "" {
		refuse(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("the simulator can't select by %s: %v", r.URL.RawQuery, err))
		return
	}
	prefix, plural, _ := strings.Cut(r.URL.Path, "/"+k.version)
	plural = strings.Trim(plural, "/")
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(c.objects)) {
		rest, ok := strings.CutPrefix(path, prefix+"/"+k.version+"/")
		if !ok {
			continue
		}
		dir := rest[:strings.LastIndex(rest, "/")]
		everywhere := plural == k.plural && strings.HasPrefix(dir, "namespaces/") && strings.HasSuffix(dir, "/"+k.plural)
		if dir != plural && !everywhere {
			continue
		}
		have := labels.Set{}
		found, _ := meta(c.objects[path])["labels"].(map[string]any)
		for name, value := range found {
			have[name] = fmt.Sprint(value)
		}
		if selector.Matches(have) {
			items = append(items, typed(k, c.objects[path]))
		}
	}
	answer(w, http.StatusOK, map[string]any{
		"kind": k.name + "List", "apiVersion": apiVersion(k), "metadata": map[string]any{"resourceVersion": strconv.Itoa(c.version)}, "items": items,
	})
}

// change replaces an object, or applies or merges a patch.
func (c *Cluster) change(w http.ResponseWriter, r *http.Request, k kind, namespace, path string) {
	o, ok := body(w, r)
	if !ok || !c.hasNamespace(w, namespace) {
		return
	}
	have, there := c.objects[path]
	switch how := r.Header.Get("Content-Type"); {
	case !there && (r.Method == http.MethodPut || !strings.Contains(how, "apply-patch")):
		refuse(w, http.StatusNotFound, "NotFound", path+" not found")
		return
	case r.Method == http.MethodPut:
		if v := meta(o)["resourceVersion"]; v != nil && v != "" && v != meta(have)["resourceVersion"] {
			refuse(w, http.StatusConflict, "Conflict", path+" has been modified")
			return
		}
	case strings.Contains(how, "apply-patch"): // of its only owner: it says all
	case strings.Contains(how, "merge-patch"):
		o = merge(have, o)
	default:
		refuse(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the simulator does not do patches of the kind "+how)
		return
	}
	c.wrote(r)
	answer(w, http.StatusOK, typed(k, c.store(path, o)))
}

// merge lays a merge patch over an object.
func merge(have, patch map[string]any) map[string]any {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range patch {
		inner, isMap := value.(map[string]any)
		switch {
		case value == nil:
			delete(out, name)
		case isMap:
			before, _ := out[name].(map[string]any)
			out[name] = merge(before, inner)
		default:
			out[name] = value
		}
	}
	return out
}

// store keeps an object with what a cluster adds to it.
func (c *Cluster) store(path string, o map[string]any) map[string]any {
	c.version++
	m := maps.Clone(meta(o))
	before := meta(c.objects[path])
	m["resourceVersion"] = strconv.Itoa(c.version)
	m["uid"], m["creationTimestamp"], m["generation"] = before["uid"], before["creationTimestamp"], 1
	if before == nil {
		m["uid"], m["creationTimestamp"] = fmt.Sprintf("uid-%d", c.version), time.Now().UTC().Format(time.RFC3339)
	}
	parts := strings.Split(path, "/")
	if i := slices.Index(parts, "namespaces"); i >= 0 && i+2 < len(parts) {
		m["namespace"] = parts[i+1]
	}
	m["name"] = parts[len(parts)-1]
	o["metadata"] = m
	spec, _ := o["spec"].(map[string]any)
	replicas := spec["replicas"]
	if replicas == nil {
		replicas = 1
	}
	ready := map[string]any{"observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas}
	if c.Starting {
		ready["readyReplicas"] = 0
	}
	switch {
	case strings.Contains(path, "/deployments/"), strings.Contains(path, "/statefulsets/"):
		o["status"] = ready
	case strings.Contains(path, "/services/") && spec["type"] == "LoadBalancer":
		o["status"] = map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": Address}}}}
	case strings.Contains(path, "/secrets/") && o["stringData"] != nil:
		o["data"] = merge(mapOf(o["data"]), encoded(mapOf(o["stringData"])))
		delete(o, "stringData")
	}
	c.objects[path] = o
	return o
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// encoded are texts as the data of a Secret.
func encoded(texts map[string]any) map[string]any {
	out := map[string]any{}
	for name, text := range texts {
		b, err := json.Marshal([]byte(fmt.Sprint(text)))
		if err == nil {
			out[name] = strings.Trim(string(b), `"`)
		}
	}
	return out
}

func apiVersion(k kind) string { return strings.TrimPrefix(k.group+"/"+k.version, "/") }

func typed(k kind, o map[string]any) map[string]any {
	out := maps.Clone(o)
	out["kind"], out["apiVersion"] = k.name, apiVersion(k)
	return out
}

func body(w http.ResponseWriter, r *http.Request) (map[string]any, bool) {
	b, err := io.ReadAll(r.Body)
	var o map[string]any
	if err == nil && bytes.HasPrefix(b, []byte("k8s\x00")) { // protobuf, as clients of known types have it
		var known runtime.Object
		if known, _, err = scheme.Codecs.UniversalDeserializer().Decode(b, nil, nil); err == nil {
			o, err = runtime.DefaultUnstructuredConverter.ToUnstructured(known)
		}
	} else if err == nil {
		err = json.Unmarshal(b, &o)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", "the simulator can't read this: "+err.Error())
		return nil, false
	}
	return o, true
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Refuse answers with an error of the API, for what stands in front of it.
func Refuse(w http.ResponseWriter, message string) {
	refuse(w, http.StatusForbidden, "Forbidden", message)
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	answer(w, status, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status, "message": message})
}
