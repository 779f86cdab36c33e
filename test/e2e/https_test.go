package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/test/acme"
)

// TestHTTPS: the shipped binary gets certificates for its name and for the one from
// before, from a real authority, and answers under both.
func TestHTTPS(t *testing.T) {
	sh, data := ownShell(t)
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	a := acme.Start(t, port, 90*24*time.Hour)
	const name, old = "hub.example.org", "my-hub.cloud.example"
	a.Point(name, "127.0.0.1")
	a.Point(old, "127.0.0.1")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Trust.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(sh.config)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("\nca_bundle: %s\ntls: {redirect: %q, acme: {domain: %s, also: [%s], email: ops@example.org, ca: %q}}\n", ca, plain, name, old, a.Directory)
	if err := os.WriteFile(sh.config, append(config, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), the.bin, "--config", sh.config, "serve", "--listen", addr)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.Roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
	for _, host := range []string{name, old} {
		var body string
		var last error
		for end := time.Now().Add(60 * time.Second); body == "" && time.Now().Before(end); {
			resp, err := browser.Post(fmt.Sprintf("https://%s:%d/api/parse", host, port), "application/json", strings.NewReader(`{"repo":"gh/o/r/HEAD"}`))
			if last = err; err != nil {
				<-time.After(100 * time.Millisecond)
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Proto, resp.Status, err)
			}
			body = string(b)
		}
		if want := fmt.Sprintf(`"launch":"https://%s:%d/v2/gh/o/r/HEAD`, host, port); !strings.Contains(body, want) {
			t.Errorf("under %s the hub says %s, not %s: %v", host, body, want, last)
		}
		redirected(t, "http://"+plain, fmt.Sprintf("%s:%d", host, port))
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	dropNetwork(t, data)
	nothingOf(t, data)
}

// redirected: who comes by http is led to the same page by https.
func redirected(t *testing.T, address, name string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/v2/gh/o/r/HEAD?urlpath=lab", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = name
	res, err := noRedirects().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got, want := res.Header.Get("Location"), "https://"+name+"/v2/gh/o/r/HEAD?urlpath=lab"; res.StatusCode != http.StatusPermanentRedirect || got != want {
		t.Errorf("by http: %s to %q, not %q", res.Status, got, want)
	}
}
