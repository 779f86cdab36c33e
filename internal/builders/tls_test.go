package builders_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/builders"
)

// authority makes a directory as the Secret of builders has it.
func authority(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "builders"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for file, c := range map[string]*x509.Certificate{"ca.crt": ca, "tls.crt": leaf} {
		public := &key.PublicKey
		if c == ca {
			public = &caKey.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, public, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(file, "CERTIFICATE", der)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("tls.key", "PRIVATE KEY", der)
	return dir
}

// TestTLS: both sides must show a certificate of the same authority, and the
// builder's must have the builders' name.
func TestTLS(t *testing.T) {
	t.Parallel()
	const name = "builders.hub.svc"
	dir := authority(t, name)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	b := startBuilder(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13})))
	close(b.finish)
	for what, c := range map[string]struct {
		dir, server string
		fine        bool
	}{
		"ours":                {dir, name, true},
		"another name":        {dir, "hub.hub.svc", false},
		"another authority":   {authority(t, name), name, false},
		"without certificate": {"", name, false},
	} {
		cfg := builders.Config{Addresses: []string{b.address}, PerBuilder: 1, Wait: 50 * time.Millisecond, TLS: c.dir, ServerName: c.server}
		err := builders.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil))).Use(t.Context(), "env", func(string) {}, build)
		if c.fine != (err == nil) || !c.fine && binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
}
