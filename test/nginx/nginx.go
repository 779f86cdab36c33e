// Package nginx runs a real nginx for tests, Debian's package "nginx-light", before
// a server on the loopback. It is configured as the Ingress controller of the same
// name does it for an Ingress: what annotations say, and that controller's defaults
// where they say nothing.
package nginx

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// annotation is the beginning of the names that are understood.
const annotation = "nginx.ingress.kubernetes.io/"

// directives are what annotations become.
func directives() map[string]string {
	return map[string]string{
		"proxy-read-timeout": "proxy_read_timeout %ss;", "proxy-send-timeout": "proxy_send_timeout %ss;",
		"proxy-buffering": "proxy_buffering %s;", "proxy-request-buffering": "proxy_request_buffering %s;",
		"proxy-body-size": "client_max_body_size %s;",
	}
}

// Server is a running nginx.
type Server struct {
	// Address is where it answers, with TLS for Name.
	Address, Name string
	// Roots trust its certificate.
	Roots *x509.CertPool
}

// Start starts an nginx before upstream that ends with the test. It is skipped when
// there is no nginx; with BINNACLE_TEST_REQUIRE=all that fails it.
func Start(t testing.TB, upstream string, annotations map[string]string) *Server {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/nginx") // not on everybody's PATH
	}
	if err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("nginx is not installed (tools/setup.sh test), and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("nginx is not installed; tools/setup.sh test installs it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: l.Addr().String(), Name: "example.com", Roots: x509.NewCertPool()}
	_ = l.Close() // nginx takes it at once
	dir := t.TempDir()
	s.certificate(t, dir)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(s.config(t, dir, upstream, annotations)), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(bin, "-c", conf, "-p", dir, "-e", "stderr")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", s.Address)
		if err == nil {
			_ = c.Close()
			return s
		}
		select {
		case <-done:
			t.Fatalf("nginx ended: %s", said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("nginx does not answer")
		}
	}
}

// certificate writes one for Name: net/http's own for tests.
func (s *Server) certificate(t testing.TB, dir string) {
	t.Helper()
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	s.Roots.AddCert(h.Certificate())
	key, err := x509.MarshalPKCS8PrivateKey(h.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: h.Certificate().Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *Server) config(t testing.TB, dir, upstream string, annotations map[string]string) string {
	t.Helper()
	lines := map[string]string{
		"proxy-read-timeout": "60", "proxy-send-timeout": "60", "proxy-buffering": "off", "proxy-request-buffering": "on", "proxy-body-size": "1m",
	}
	for name, value := range annotations {
		short, ours := strings.CutPrefix(name, annotation)
		if _, known := lines[short]; !ours || !known {
			t.Fatalf("this nginx does not know the annotation %s", name)
		}
		lines[short] = value
	}
	var location strings.Builder
	for name, value := range lines {
		fmt.Fprintf(&location, "      "+directives()[name]+"\n", value)
	}
	return fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen %[2]s ssl http2;
    server_name %[3]s;
    ssl_certificate %[1]s/cert.pem;
    ssl_certificate_key %[1]s/key.pem;
    location / {
      proxy_pass http://%[4]s;
      proxy_http_version 1.1;
      proxy_redirect off;
      proxy_connect_timeout 5s;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port 443;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Scheme $scheme;
      proxy_set_header X-Scheme $scheme;
      proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
      proxy_set_header Proxy "";
%[5]s    }
  }
}
`, dir, s.Address, s.Name, upstream, location.String())
}
