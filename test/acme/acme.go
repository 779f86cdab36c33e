// Package acme runs a real certificate authority for tests, Let's Encrypt's Pebble,
// which asks a real DNS server where names lead; both are on the loopback.
package acme

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log" //nolint:depguard // what Pebble takes
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority is a running authority.
type Authority struct {
	// Directory is its address; Trust is what its clients must trust for that.
	Directory string
	Trust     *x509.Certificate
	// Roots are what browsers trust when they trust the authority.
	Roots *x509.CertPool

	mu    sync.Mutex
	names map[string]string
	asked int
}

// Start starts an authority that ends with the test. It connects to port of the
// addresses that names have, and its certificates are valid for so long.
func Start(t testing.TB, port int, validity time.Duration) *Authority {
	t.Helper()
	return On(t, netip.MustParseAddr("127.0.0.1"), port, validity)
}

// On is Start with an authority that answers at another address of this machine.
func On(t testing.TB, address netip.Addr, port int, validity time.Duration) *Authority {
	t.Helper()
	// Pebble waits on purpose before it looks, and knows no other way to say no.
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	a := &Authority{names: map[string]string{}}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "of tests", ValidityPeriod: uint64(validity.Seconds())}})
	front := wfe.New(quiet, store, va.New(quiet, 1, port, false, a.serveDNS(t), store), authority, []string{"authority.example"}, true, false, 1, 1)
	server := httptest.NewUnstartedServer(front.Handler())
	_ = server.Listener.Close()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	server.Listener, server.TLS = l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, address)}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	a.Directory, a.Trust, a.Roots = server.URL+wfe.DirectoryPath, server.Certificate(), x509.NewCertPool()
	a.Roots.AddCert(authority.GetRootCert(0).Cert)
	return a
}

// selfSigned is what the authority's own server shows.
func selfSigned(t testing.TB, address netip.Addr) tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority.example"}, IPAddresses: []net.IP{address.AsSlice()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	b, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{b}, PrivateKey: private}
}

// Point makes a name lead to an address; empty removes it.
func (a *Authority) Point(name, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.names, name)
	if address != "" {
		a.names[name] = address
	}
}

// Asked says how often the DNS was asked for the address of a name.
func (a *Authority) Asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *Authority) serveDNS(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(a.answer)}
	done := make(chan struct{})
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
	return l.Addr().String()
}

func (a *Authority) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	a.mu.Lock()
	for _, question := range q.Question {
		address, ok := a.names[strings.ToLower(strings.TrimSuffix(question.Name, "."))]
		if question.Qtype == dns.TypeA {
			a.asked++
		}
		switch {
		case !ok:
			m.Rcode = dns.RcodeNameError
		case question.Qtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(address),
			})
		}
	}
	a.mu.Unlock()
	_ = w.WriteMsg(m)
}
