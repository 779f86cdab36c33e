package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/jupyter"
	"github.com/binnacle-hub/binnacle/test/traefik"
)

// The names by which people reach the hub behind an ingress controller, and behind a gateway.
const (
	ingressHost = "hub.example.com"
	gatewayHost = "gateway.example.com"
)

// ways: people reach the hub through a real ingress controller, by an Ingress with
// the annotations of the documentation and by a route of the Gateway API: pages,
// events as they come, a kernel's WebSocket and a large upload. Meanwhile builders
// are what they are by default, privileged; everywhere else in this story they have
// user namespaces of their own.
func (h *clusterHub) ways(t *testing.T) {
	traefik.Define(t, h.Config)
	front := traefik.Start(t, h.Kubeconfig, h.namespace)
	browser := h.behind(t, front)
	before := h.values["url"]
	h.values["url"] = "https://" + ingressHost
	h.values["ingress"] = map[string]any{
		"enabled": true, "ingressClassName": h.namespace, "hosts": []any{ingressHost}, "annotations": annotated(t),
		"tls": []any{map[string]any{"hosts": []any{ingressHost}, "secretName": "hub-tls"}},
	}
	h.values["httpRoute"] = map[string]any{"enabled": true, "parentRefs": []any{map[string]any{"name": "gateway"}}, "hostnames": []any{gatewayHost}}
	host, _, err := net.SplitHostPort(h.Registry)
	if err != nil {
		t.Fatal(err)
	}
	h.hub["trusted_proxies"] = []any{host + "/32"}
	builders := h.values["builders"].(map[string]any)
	builders["userNamespace"] = false
	h.upgrade(t)
	defer func() { // while the cluster still knows what a route is
		h.values["url"], builders["userNamespace"] = before, true
		delete(h.values, "ingress")
		delete(h.values, "httpRoute")
		h.upgrade(t)
	}()
	for _, name := range []string{ingressHost, gatewayHost} {
		t.Run(name, func(t *testing.T) { h.through(t, browser, name) })
	}
}

// annotated are the annotations that docs/kubernetes.md tells people to set.
func annotated(t *testing.T) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, m := range regexp.MustCompile(`(nginx\.ingress\.kubernetes\.io/[a-z-]+): "([^"]*)"`).FindAllStringSubmatch(read(t, "../../docs/kubernetes.md"), -1) {
		out[m[1]] = m[2]
	}
	if len(out) < 3 {
		t.Fatalf("docs/kubernetes.md has only %v", out)
	}
	return out
}

// behind makes what a site has beside its controller: classes, a Gateway and a
// certificate. The client finds every name at the controller.
func (h *clusterHub) behind(t *testing.T, front *traefik.Server) *http.Client {
	t.Helper()
	issued := httptest.NewTLSServer(nil) // for example.com and names below it
	defer issued.Close()
	key, err := x509.MarshalPKCS8PrivateKey(issued.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hub-tls"}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate().Raw}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}}
	if _, err := h.Client.CoreV1().Secrets(h.namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	classes := h.Client.NetworkingV1().IngressClasses()
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}, Spec: networkingv1.IngressClassSpec{Controller: traefik.IngressController}}
	if _, err := classes.Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := classes.Delete(context.WithoutCancel(t.Context()), h.namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	h.gateway(t, front)
	roots := x509.NewCertPool()
	roots.AddCert(issued.Certificate())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, front.Address)
		},
	}}
}

// gateway makes the Gateway that the hub's route attaches to.
func (h *clusterHub) gateway(t *testing.T, front *traefik.Server) {
	t.Helper()
	objects, err := dynamic.NewForConfig(h.Config)
	if err != nil {
		t.Fatal(err)
	}
	const group = "gateway.networking.k8s.io"
	create := func(c dynamic.ResourceInterface, kind, name string, spec map[string]any) {
		t.Helper()
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
		}}
		eventually(t, "the cluster knows a "+kind, func() bool { // its definition is new
			_, err := c.Create(t.Context(), o, metav1.CreateOptions{})
			return err == nil
		})
	}
	create(objects.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "gatewayclasses"}), "GatewayClass", h.namespace, map[string]any{
		"controllerName": traefik.GatewayController,
	})
	create(objects.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "gateways"}).Namespace(h.namespace), "Gateway", "gateway", map[string]any{
		"gatewayClassName": h.namespace,
		"listeners": []any{map[string]any{
			"name": "https", "port": front.Port, "protocol": "HTTPS", "hostname": gatewayHost,
			"tls": map[string]any{"certificateRefs": []any{map[string]any{"name": "hub-tls"}}},
		}},
	})
}

// through uses the hub as a person does, by a name that leads to the controller.
func (h *clusterHub) through(t *testing.T, browser *http.Client, name string) {
	t.Helper()
	base := "https://" + name
	get := func(path string) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			return nil, "", err
		}
		res, err := browser.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res, string(b), err
	}
	eventually(t, "the controller leads to the hub", func() bool {
		res, body, err := get("/")
		return err == nil && res.StatusCode == http.StatusOK && strings.Contains(body, "<html")
	})

	// Events come while the build goes on.
	const marker = "building behind "
	dir := plainDir(t, map[string]string{
		"requirements.txt": read(t, "../../examples/requirements/requirements.txt"),
		"postBuild":        "#!/bin/bash\necho " + marker + name + "\nsleep 3\n",
	})
	if err := os.Chmod(filepath.Join(dir, "postBuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	repo, err := h.git.Repo(t.Context(), strings.ReplaceAll(name, ".", "-"), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(base).WithHTTP(browser)
	l, err := c.Launch(t.Context(), launchOf(repo.URL))
	if err != nil {
		t.Fatal(err)
	}
	at := binnacle.Phase("")
	var events []binnacle.Event
	err = c.Events(t.Context(), l.ID, 0, func(e binnacle.Event) error {
		events = append(events, e)
		if e.Kind == binnacle.EventLog && strings.HasSuffix(e.Message, marker+name) && at == "" {
			now, err := c.Get(t.Context(), l.ID)
			at = now.Phase
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = c.Get(t.Context(), l.ID); err != nil || l.Phase != binnacle.PhaseReady || at != binnacle.PhaseBuilding {
		t.Fatalf("the line of the build came in phase %q; %+v %v\n%s", at, l, err, logOf(events))
	}

	// The kernel's WebSocket, and a file larger than controllers like.
	s := jupyter.Server{URL: strings.Replace(l.Session.URL, "https://"+ingressHost, base, 1), Token: l.Session.Token, Client: browser}
	const size = 16 << 20
	body, err := json.Marshal(map[string]any{"type": "file", "format": "text", "content": strings.Repeat("x", size)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"api/contents/large.txt", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "token "+s.Token)
	res, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusCreated {
		t.Errorf("an upload of 16 MiB: %s", res.Status)
	}
	cell(t, s, "import os; print(os.path.getsize('large.txt'))", "16777216")
	if err := c.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}
