package certificate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle/internal/certificate"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/acme"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

const (
	label  = "my-hub.cloud.example"
	domain = "hub.example.org"
)

// hub listens as a hub does, and serves with a keeper's certificates.
type hub struct {
	l      net.Listener
	keeper *certificate.Keeper
	stop   func()
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// start starts a hub; the test ends it.
func start(t testing.TB, l net.Listener, storage certmagic.Storage, cfg certificate.Config) *hub {
	t.Helper()
	cfg.Listen, cfg.Email = l.Addr(), "ada@example.org"
	h := &hub{l: l, keeper: certificate.New(cfg, storage, slog.New(slog.NewTextHandler(t.Output(), nil)))}
	config := h.keeper.TLS()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				s := tls.Server(c, config)
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				if s.HandshakeContext(ctx) == nil {
					_, _ = io.WriteString(s, "hub")
					_ = s.Close()
				}
			})
		}
	})
	wg.Go(func() {
		if err := h.keeper.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	t.Cleanup(h.stop)
	return h
}

func config(a *acme.Authority, names ...string) certificate.Config {
	trust := x509.NewCertPool()
	trust.AddCert(a.Trust)
	return certificate.Config{Names: names, CA: a.Directory, Roots: trust, Wait: []time.Duration{100 * time.Millisecond}}
}

// served is the certificate that a browser which trusts the authority gets.
func served(a *acme.Authority, address, name string) (*x509.Certificate, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: name, RootCAs: a.Roots}}
	c, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "hub" {
		return nil, fmt.Errorf("%q: %w", b, err)
	}
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// eventually is the certificate that is right for name in the end.
func eventually(t testing.TB, a *acme.Authority, address, name string, right func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	var last error
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		c, err := served(a, address, name)
		if err == nil && right(c) {
			return c
		}
		last = err
	}
	t.Fatalf("%s has no such certificate: %v", name, last)
	return nil
}

func anyCertificate(*x509.Certificate) bool { return true }

// TestDefect02CertificateIsIssued gets a certificate (binderhub-deploy asked nobody
// for one), keeps it over a restart and while the
// authority is away, and adds a domain without a handshake that fails for the name
// from before.
func TestDefect02CertificateIsIssued(t *testing.T) {
	if testing.Short() {
		t.Skip("an authority waits a second for each order")
	}
	l := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	a := acme.Start(t, port(l), 90*24*time.Hour)
	a.Point(label, "127.0.0.1")
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	h := start(t, l, storage, config(a, label))
	first := eventually(t, a, address, label, anyCertificate)
	if err := h.keeper.Problem(); err != nil {
		t.Error(err)
	}
	h.stop()

	asked := a.Asked()
	again := start(t, listen(t, address), storage, config(a, label))
	if c := eventually(t, a, address, label, anyCertificate); !c.Equal(first) || a.Asked() != asked {
		t.Error("a restart got a new certificate")
	}
	again.stop()

	// The own domain does not lead here yet: the label goes on, and the hub says what
	// is missing; once the DNS is right nobody has to do anything.
	moved := start(t, listen(t, address), storage, config(a, domain, label))
	for end := time.Now().Add(20 * time.Second); moved.keeper.Problem() == nil && time.Now().Before(end); {
		<-time.After(20 * time.Millisecond)
	}
	err := moved.keeper.Problem()
	if err == nil || !strings.Contains(err.Error(), "no address for "+domain+" in the DNS") || strings.Contains(err.Error(), label) {
		t.Errorf("%v", err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Log(n, "handshakes meanwhile")
				return
			case <-time.After(10 * time.Millisecond):
			}
			if c, err := served(a, address, label); err != nil || !c.Equal(first) {
				t.Error("the name from before does not work:", err)
			}
		}
	})
	a.Point(domain, "127.0.0.1")
	c := eventually(t, a, address, domain, anyCertificate)
	if diff := cmp.Diff([]string{domain}, c.DNSNames); diff != "" {
		t.Error(diff)
	}
	close(stop)
	wg.Wait()
	if err := moved.keeper.Problem(); err != nil {
		t.Error(err)
	}
}

func TestRenews(t *testing.T) {
	if testing.Short() {
		t.Skip("a certificate lives for seconds")
	}
	l := listen(t, "127.0.0.1:0")
	const validity = 24 * time.Second // a third of it is time to renew, on a machine that is busy
	a := acme.Start(t, port(l), validity)
	a.Point(domain, "127.0.0.1")
	cfg := config(a, domain)
	cfg.Check = 300 * time.Millisecond
	start(t, l, &certmagic.FileStorage{Path: t.TempDir()}, cfg)
	first := eventually(t, a, l.Addr().String(), domain, anyCertificate)
	for {
		c, err := served(a, l.Addr().String(), domain)
		if err != nil {
			t.Fatal("a handshake failed while the certificate was renewed:", err)
		}
		if !c.Equal(first) {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestRefused says why, and does not ask again before the authority allows it,
// not even after a restart.
func TestRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("an authority waits a second for each order")
	}
	l := listen(t, "127.0.0.1:0")
	other := listen(t, "127.0.0.2:"+strconv.Itoa(port(l)))
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	a := acme.Start(t, port(l), time.Hour)
	a.Point("closed.example.org", "127.0.0.3") // nobody listens there
	a.Point("other.example.org", "127.0.0.2")
	cfg := config(a, "closed.example.org", "other.example.org", "missing.example.org")
	cfg.Wait = []time.Duration{time.Hour}
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	h := start(t, l, storage, cfg)
	problems := func(k *certificate.Keeper) string {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
			if err := k.Problem(); err != nil && strings.Count(err.Error(), "\n") == len(cfg.Names)-1 {
				return err.Error()
			}
		}
		t.Fatal(k.Problem())
		return ""
	}
	got := problems(h.keeper)
	for _, want := range []string{
		"can't connect to closed.example.org on port 443", "other.example.org on port 443", "finds no address for missing.example.org in the DNS",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not said:\n%s", want, got)
		}
	}
	h.stop()
	asked := a.Asked()
	again := start(t, listen(t, l.Addr().String()), storage, cfg)
	if second := problems(again.keeper); second != got || a.Asked() != asked {
		t.Errorf("asked %d times after the restart, and says\n%s", a.Asked()-asked, second)
	}
	// An authority that cannot be reached is another matter than one that refuses.
	cfg.CA, cfg.Names = "https://127.0.0.1:1/dir", []string{domain}
	gone := start(t, listen(t, "127.0.0.1:0"), &certmagic.FileStorage{Path: t.TempDir()}, cfg)
	if got := problems(gone.keeper); !strings.Contains(got, "can't be reached") {
		t.Error(got)
	}
}

// TestReplicas: two processes share a PostgreSQL. The authority reaches only the
// one that did not ask; both serve the same certificate, which was asked for once.
func TestReplicas(t *testing.T) {
	server := postgres.Start(t)
	url := server.Database()
	open := func() *store.Store {
		s, err := store.OpenPostgres(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	l := listen(t, "127.0.0.2:0")
	a := acme.Start(t, port(l), 90*24*time.Hour)
	a.Point(domain, "127.0.0.2")
	trust := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Trust.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	// The other process begins first, asks, and cannot answer: the name leads here.
	address := "127.0.0.1:" + strconv.Itoa(port(l))
	cmd := exec.Command(os.Args[0], "-test.run=^TestReplicaProcess$")
	cmd.Env = append(os.Environ(), "REPLICA_DATABASE="+url, "REPLICA_CA="+a.Directory, "REPLICA_TRUST="+trust, "REPLICA_LISTEN="+address)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// What answers here asks nothing by itself: it has the storage only.
	here := start(t, l, certificate.NewStorage(open(), 30*time.Second), config(a))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends itself
		_ = cmd.Wait()
	})
	first := eventually(t, a, address, domain, anyCertificate)
	here.stop()
	asked := a.Asked()
	second := start(t, listen(t, "127.0.0.2:"+strconv.Itoa(port(l))), certificate.NewStorage(open(), 30*time.Second), config(a, domain))
	if c := eventually(t, a, second.l.Addr().String(), domain, anyCertificate); !c.Equal(first) || a.Asked() != asked {
		t.Error("a second replica got a certificate of its own")
	}
}

// TestReplicaProcess is the other process of TestReplicas.
func TestReplicaProcess(t *testing.T) {
	url := os.Getenv("REPLICA_DATABASE")
	if url == "" {
		return // only started by TestReplicas
	}
	s, err := store.OpenPostgres(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := os.ReadFile(os.Getenv("REPLICA_TRUST"))
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(b)
	cfg := certificate.Config{Names: []string{domain}, CA: os.Getenv("REPLICA_CA"), Roots: trust}
	h := start(t, listen(t, os.Getenv("REPLICA_LISTEN")), certificate.NewStorage(s, 30*time.Second), cfg)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	h.stop()
}

// TestStorage is what certmagic asks of a storage, and locks that end when their
// holder does.
func TestStorage(t *testing.T) {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	s := certificate.NewStorage(db, time.Second)
	for _, key := range []string{"a/b/one", "a/b/two", "a/c"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string][2][]string{
		"a": {{"a/b", "a/c"}, {"a/b", "a/b/one", "a/b/two", "a/c"}}, "": {{"a"}, {"a", "a/b", "a/b/one", "a/b/two", "a/c"}},
	} {
		for i, recursive := range []bool{false, true} {
			got, err := s.List(ctx, dir, recursive)
			if diff := cmp.Diff(want[i], got); err != nil || diff != "" {
				t.Error(dir, recursive, err, diff)
			}
		}
	}
	dir, err := s.Stat(ctx, "a/b")
	file, ferr := s.Stat(ctx, "a/b/two")
	if err != nil || ferr != nil || dir.IsTerminal || !file.IsTerminal || file.Size != 7 || !s.Exists(ctx, "a/b") || s.Exists(ctx, "a/x") {
		t.Error(dir, file, err, ferr)
	}
	_, load := s.Load(ctx, "a/x")
	_, stat := s.Stat(ctx, "a/x")
	_, list := s.List(ctx, "x", true)
	for _, err := range []error{load, stat, list} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if err := errors.Join(s.Delete(ctx, "a/b"), s.Delete(ctx, "a/b")); err != nil || s.Exists(ctx, "a/b/one") {
		t.Error(err)
	}

	if err := s.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond) // longer than the lease
	defer cancel()
	if err := certificate.NewStorage(db, time.Second).Lock(short, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("a lock was given twice:", err)
	}
	if err := s.Unlock(ctx, "x"); err != nil {
		t.Error(err)
	}
	if got, err := db.Acquire(ctx, "x", "who died", 300*time.Millisecond); !got || err != nil {
		t.Error(got, err)
	}
	if err := errors.Join(s.Lock(ctx, "x"), s.Unlock(ctx, "x")); err != nil {
		t.Error("the lock of who died stays:", err)
	}
	if err := s.Unlock(ctx, "x"); err == nil {
		t.Error("unlocked twice")
	}
}

// TestBegin: nobody asks the authority before it can reach the hub; a failure would
// keep it from asking again for an hour.
func TestBegin(t *testing.T) {
	if testing.Short() {
		t.Skip("an authority waits a second for each order")
	}
	l := listen(t, "127.0.0.1:0")
	a := acme.Start(t, port(l), 90*24*time.Hour)
	begun, reachable := make(chan struct{}), make(chan struct{})
	cfg := config(a, label)
	cfg.Wait = []time.Duration{time.Hour}
	cfg.Begin = func(ctx context.Context) {
		close(begun)
		select {
		case <-reachable:
		case <-ctx.Done():
		}
	}
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	h := start(t, l, storage, cfg)
	<-begun
	a.Point(label, "127.0.0.1")
	close(reachable)
	eventually(t, a, l.Addr().String(), label, anyCertificate)
	h.stop()
	// The next start has one, and waits for nothing.
	l = listen(t, l.Addr().String())
	cfg.Begin = func(context.Context) { t.Error("it waits though there is a certificate") }
	start(t, l, storage, cfg)
	eventually(t, a, l.Addr().String(), label, anyCertificate)
}
