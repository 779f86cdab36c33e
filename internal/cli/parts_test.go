package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/config"
)

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := cli.Notify(t.Context(), []string{"NOTIFY_SOCKET=" + path}, "READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, _, err := l.ReadFrom(b)
	if err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	if err := cli.Notify(t.Context(), nil, "READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}

func TestReadBuild(t *testing.T) {
	var events int
	count := func(binnacle.Event) error { events++; return nil }
	img, err := cli.ReadBuild(strings.NewReader(`{"event":{"kind":"log"}}`+"\n"+`{"image":{"name":"x","digest":"sha256:1"}}`), count)
	if err != nil || img.Name != "x" || events != 1 {
		t.Errorf("got %v, %v, %d events", img, err, events)
	}
	_, err = cli.ReadBuild(strings.NewReader(`{"error":{"code":"build_failed","message":"no"}}`), count)
	if binnacle.CodeOf(err) != binnacle.CodeBuildFailed {
		t.Errorf("got %v", err)
	}
	_, err = cli.ReadBuild(strings.NewReader(`{"event":{"kind":"log"}}`), count)
	if binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("a hub that goes away: %v", err)
	}
}

func TestCheckAddress(t *testing.T) {
	c, err := config.Load(config.Sources{Set: map[string]string{"source.allow": "10.1.0.0/16", "network.deny": "203.0.113.9/32"}})
	if err != nil {
		t.Fatal(err)
	}
	check := cli.CheckAddress(c)
	for address, ok := range map[string]bool{
		"203.0.113.7:443": true, "203.0.113.9:443": false, "10.1.2.3:443": true, "10.2.2.3:443": false, "127.0.0.1:80": false,
		"169.254.169.254:80": false, "[::1]:80": false, "[fd00::1]:80": false, "[::ffff:127.0.0.1]:80": false, "100.100.100.200:80": false, "0.0.0.0:80": false, "x": false,
	} {
		if err := check(t.Context(), address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A new certificate is used without a restart; a broken one is not.
func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	serial := func(n int64, at time.Time) {
		writeCertificate(t, cert, key, n)
		for _, f := range []string{cert, key} {
			if err := os.Chtimes(f, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := time.Now().Add(-time.Hour)
	serial(1, start)
	get := cli.CertFiles(cert, key, slog.New(slog.NewTextHandler(t.Output(), nil)))
	want := func(n int64) {
		t.Helper()
		c, err := get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil || leaf.SerialNumber.Int64() != n {
			t.Errorf("serial %v, not %d (%v)", leaf.SerialNumber, n, err)
		}
	}
	want(1)
	serial(2, start.Add(time.Minute))
	want(2)
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(2)
}

func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hub.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSessionEnv has repo2docker's table for --env.
func TestSessionEnv(t *testing.T) {
	have, err := cli.SessionEnv([]string{"FOO={}", "BAR=baz", "SPAM", "NO_SPAM", "SPAM_2=", "EMPTY", "EQUALS=a=b"}, []string{"SPAM=eggs", "SPAM_2=here", "EMPTY="})
	want := map[string]string{"FOO": "{}", "BAR": "baz", "SPAM": "eggs", "SPAM_2": "", "EMPTY": "", "EQUALS": "a=b"}
	if diff := cmp.Diff(want, have); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{"=x", ""} {
		if _, err := cli.SessionEnv([]string{bad}, nil); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestToHTTPS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ own, host, asked, want string }{
		{"https://hub.example.org", "hub.example.org", "/v2/gh/o/r/HEAD?urlpath=lab", "https://hub.example.org/v2/gh/o/r/HEAD?urlpath=lab"},
		{"https://hub.example.org", "old.example.org:80", "/", "https://old.example.org/"},
		{"https://hub.example.org:8443", "hub.example.org", "/v2/git/https%3A%2F%2Fa/b", "https://hub.example.org:8443/v2/git/https%3A%2F%2Fa/b"},
		{"https://hub.example.org", "", "/", "https://hub.example.org/"},
		{"https://hub.example.org", "hub.example.org", "//elsewhere.example.org/a", "https://hub.example.org//elsewhere.example.org/a"},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.asked, nil)
		r.Host = tt.host
		if strings.HasPrefix(tt.asked, "//") {
			r.URL = &url.URL{Path: tt.asked}
		}
		w := httptest.NewRecorder()
		cli.ToHTTPS(tt.own).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); w.Code != http.StatusPermanentRedirect || got != tt.want {
			t.Errorf("%s of %s: %d to %q, not %q", tt.asked, tt.host, w.Code, got, tt.want)
		}
	}
}
