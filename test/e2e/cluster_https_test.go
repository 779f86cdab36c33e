package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/binnacle-hub/binnacle/test/acme"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// https: the hub gets its certificate by itself, from a real authority that reaches it
// through the cluster's load balancer, at whichever of two replicas that leads to. A
// session that was there before is reached by wss.
func (r *trial) https(t *testing.T, repo *githost.Repo, w working) {
	t.Helper()
	const name, port = "hub.example.org", 443
	host, _, _ := strings.Cut(r.Registry, ":")
	authority := acme.On(t, netip.MustParseAddr(host), port, 90*24*time.Hour) // where pods reach it
	address := r.Address(230)
	authority.Point(name, address)
	r.trust(t, authority)
	b, err := yaml.Marshal(map[string]any{
		"replicas": 2, "service": map[string]any{"type": "LoadBalancer", "loadBalancerIP": address},
		"https": map[string]any{"acme": map[string]any{"domain": name, "email": "ops@example.org", "ca": authority.Directory}},
	})
	if err != nil {
		t.Fatal(err)
	}
	values := filepath.Join(t.TempDir(), "https.yaml")
	if err := os.WriteFile(values, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r.helm(t, "upgrade", "hub", "../../internal/deploy/chart/binnacle", "--reuse-values", "-f", values, "--wait", "--timeout", "3m")
	browser := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authority.Roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(address, "443"))
		},
	}}
	defer browser.CloseIdleConnections()
	hub := dial("https://" + name + "/").WithHTTP(browser).WithToken(r.token)
	eventually(t, "the hub has a certificate that browsers trust", func() bool {
		_, err := hub.Version(t.Context())
		return err == nil
	})
	r.oneCertificate(t, authority, name)
	redirected(t, "http://"+address, name)

	s := w.Server
	s.URL, s.Client = strings.Replace(s.URL, "http://127.0.0.1:8585", "https://"+name, 1), browser
	k := r.attach(t, s, w.kernel)
	runCell(t, k, "print(knots + 2)", "14")
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	l, fresh := ready(t, hub, launchOf(repo.URL))
	if !strings.HasPrefix(l.Session.URL, "https://"+name+"/user/") {
		t.Errorf("a session is at %s", l.Session.URL)
	}
	fresh.Client = browser
	cell(t, fresh, "print(6 * 7)", "42")
	if err := hub.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// trust makes the hub trust the server of the authority.
func (r *trial) trust(t *testing.T, a *acme.Authority) {
	t.Helper()
	maps := r.Client.CoreV1().ConfigMaps(r.namespace)
	site, err := maps.Get(t.Context(), "site-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	site.Data["ca.pem"] += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Trust.Raw}))
	if _, err := maps.Update(t.Context(), site, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// oneCertificate: all replicas show the same one.
func (r *trial) oneCertificate(t *testing.T, a *acme.Authority, name string) {
	t.Helper()
	shown := func(p corev1.Pod) *x509.Certificate {
		d := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: a.Roots, MinVersion: tls.VersionTLS12}}
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(p.Status.PodIP, "443"))
		if err != nil {
			t.Log(p.Name, err)
			return nil
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	}
	eventually(t, "both replicas have the certificate", func() bool {
		var first *x509.Certificate
		n := 0
		for _, p := range r.pods(t, "hub") {
			if p.DeletionTimestamp != nil {
				continue
			}
			switch c := shown(p); {
			case c == nil:
				return false
			case first != nil && !first.Equal(c):
				t.Fatal("replicas have a certificate each")
			default:
				first = c
			}
			n++
		}
		return n == 2
	})
}
