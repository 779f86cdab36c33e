package source_test

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

func netipPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestGuard(t *testing.T) {
	t.Parallel()
	r := &fakeResolver{answers: map[string][][]netip.Addr{
		"public.example.org": {addrs("1.1.1.1", "2606:4700::1111")}, "private.example.org": {addrs("10.0.0.1")}, "mixed.example.org": {addrs("1.1.1.1", "::1")},
		"mapped.example.org": {addrs("::ffff:169.254.169.254")}, "zone.example.org": {addrs("fe80::1%eth0")},
	}}
	for host, ok := range map[string]bool{
		"public.example.org": true, "1.1.1.1": true, "PUBLIC.example.org.": true, "2606:4700::1111": true, "0x01.1.1.1": true, "16843009": true, "64:ff9b::101:101": true,
		"private.example.org": false, "mixed.example.org": false, "mapped.example.org": false, "zone.example.org": false, "missing.example.org": false,
		"localhost": false, "x.localhost": false, "LOCALHOST.": false, "127.0.0.1": false, "127.1": false, "2130706433": false, "0x7f000001": false, "0x7f.0.0.1": false,
		"0177.0.0.1": false, "017700000001": false, "0": false, "0.0.0.0": false, "127.0.0.1.": false, "10.1.2.3": false, "172.31.255.255": false, "192.168.0.1": false,
		"100.64.0.1": false, "100.100.100.200": false, "169.254.169.254": false, "2852039166": false, "168.63.129.16": false, "192.0.0.192": false, "198.18.0.1": false, "224.0.0.1": false,
		"255.255.255.255": false, "240.0.0.1": false, "::1": false, "::": false, "::ffff:127.0.0.1": false, "::ffff:7f00:1": false, "::127.0.0.1": false, "fe80::1": false,
		"fd00:ec2::254": false, "fc00::1": false, "fec0::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "2002:7f00:1::": false,
		"2001:0:1::": false, "2001:db8::1": false, "1.2.3.4.5": false, "1.2.3.0x": false, "99999999999": false, "256.1.1.1": false, "1:2": false, "08.1.1.1": false,
	} {
		if err := source.GuardHost(t.Context(), nil, nil, nil, r, host); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed %t", host, err, ok)
		}
	}
	allow, deny := []netip.Prefix{netipPrefix("10.0.0.0/8")}, []netip.Prefix{netipPrefix("10.0.0.0/24"), netipPrefix("1.1.1.0/24")}
	for host, ok := range map[string]bool{"10.1.0.1": true, "10.0.0.1": false, "1.1.1.1": false, "::ffff:10.0.0.1": false, "8.8.8.8": true, "bad.example.org": false, "x.bad.example.org": false} {
		if err := source.GuardHost(t.Context(), allow, deny, []string{"bad.example.org"}, r, host); (err == nil) != ok {
			t.Errorf("with lists, %s: %v, want allowed %t", host, err, ok)
		}
	}
}

// TestRefusedHosts: forbidden by name, by address, and after the name turned
// out to be private; the listener sees nothing.
func TestRefusedHosts(t *testing.T) {
	t.Parallel()
	trap := listen(t, "127.0.0.1:0")
	_, port, err := net.SplitHostPort(trap.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := newSource(t, func(c *source.Config) { c.Allow = nil; c.DenyHosts = []string{"bad.example.org"} })
	s.SetResolver(&fakeResolver{answers: map[string][][]netip.Addr{"inner.example.org": {addrs("127.0.0.1")}, "bad.example.org": {addrs("1.1.1.1")}}})
	for _, host := range []string{"127.0.0.1", "localhost", "inner.example.org", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "bad.example.org", "sub.bad.example.org"} {
		_, err := s.Resolve(t.Context(), gitSpec("http://"+host+":"+port+"/x", "HEAD"), source.Policy{})
		if binnacle.CodeOf(err) != binnacle.CodeForbidden {
			t.Errorf("%s: %v", host, err)
		}
	}
	_, err = s.Resolve(t.Context(), gitSpec("https://missing.example.org/x", "HEAD"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeNotFound || !strings.Contains(err.Error(), "no host called") {
		t.Errorf("missing host: %v", err)
	}
	for _, spec := range []binnacle.Spec{
		gitSpec("file:///etc", "HEAD"), gitSpec("ssh://git@git.example.org/x", "HEAD"), gitSpec("git://git.example.org/x", "HEAD"), {Provider: binnacle.Dir, Repo: "/etc"},
	} {
		_, err := s.Resolve(t.Context(), spec, source.Policy{})
		if binnacle.CodeOf(err) != binnacle.CodeForbidden {
			t.Errorf("%v: %v", spec, err)
		}
		dir := filepath.Join(t.TempDir(), "out")
		err = s.Fetch(t.Context(), binnacle.Revision{Spec: spec, URL: spec.Repo, Commit: sha}, source.Policy{}, dir, nil)
		if binnacle.CodeOf(err) != binnacle.CodeForbidden {
			t.Errorf("fetch %v: %v", spec, err)
		}
	}
	if n := trap.connections(); n > 0 {
		t.Errorf("%d connections to an address that is closed", n)
	}
}

// TestRebinding: a name that turns private after the check is not followed.
func TestRebinding(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	srv.repo(t, "repo").write("a", "1").commit("one")
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trap := listen(t, "127.0.0.3:"+port)
	s := newSource(t, func(c *source.Config) { c.Allow = []netip.Prefix{netipPrefix("127.0.0.1/32")} })
	s.SetResolver(&fakeResolver{answers: map[string][][]netip.Addr{"rebind.example.org": {addrs("127.0.0.1"), addrs("127.0.0.3")}}})
	_, err = s.Resolve(t.Context(), gitSpec("http://rebind.example.org:"+port+"/repo", "HEAD"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeForbidden || trap.connections() != 0 {
		t.Errorf("%v, %d connections", err, trap.connections())
	}
}

// TestRedirects: one to an allowed address is followed, one to a closed address
// or protocol is not, and no credentials go along (A3).
func TestRedirects(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	srv.repo(t, "repo").write("a", "1").commit("one")
	trap := listen(t, "127.0.0.4:0")
	secret := newRepo(t, filepath.Join(t.TempDir(), "secret"))
	secret.write("a", "s").commit("one")
	var mu sync.Mutex
	var target string
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		http.Redirect(w, r, target+"/info/refs?"+r.URL.RawQuery, http.StatusFound)
	}))
	defer redirect.Close()
	s := newSource(t, func(c *source.Config) { c.Deny = []netip.Prefix{netipPrefix("127.0.0.4/32")} })
	for to, code := range map[string]binnacle.Code{
		srv.URL + "/repo": "", "http://" + trap.Addr().String() + "/repo": binnacle.CodeForbidden, "http://169.254.169.254/repo": binnacle.CodeForbidden,
		"file://" + secret.dir: binnacle.CodeUnavailable, "ext::id": binnacle.CodeUnavailable,
	} {
		mu.Lock()
		target = to
		mu.Unlock()
		_, err := s.Resolve(t.Context(), gitSpec(redirect.URL+"/repo", "HEAD"), source.Policy{})
		if binnacle.CodeOf(err) != code {
			t.Errorf("redirect to %s: %v, want %q", to, err, code)
		}
	}
	if n := trap.connections(); n > 0 {
		t.Errorf("%d connections to an address that is closed", n)
	}
}

// TestTLS goes through CONNECT, with a certificate authority from a file.
func TestTLS(t *testing.T) {
	t.Parallel()
	plain := serve(t, nil)
	plain.repo(t, "repo").write("a", "1").commit("one")
	srv := httptest.NewTLSServer(plain.Config.Handler)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(srv), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []source.Policy{{}, {Local: true}} {
		s := newSource(t, func(c *source.Config) { c.CAFile = ca })
		if got, _, err := fetch(t, s, gitSpec(srv.URL+"/repo", "main"), p); err != nil || got["a"] != "1" {
			t.Errorf("%v, %v", got, err)
		}
		_, err := newSource(t, nil).Resolve(t.Context(), gitSpec(srv.URL+"/repo", "main"), p)
		if binnacle.CodeOf(err) != binnacle.CodeUnavailable || !strings.Contains(binnacle.Public(err).Message, "certificate") {
			t.Errorf("an unknown authority: %v", err)
		}
	}
}

// TestSiteProxy: everything goes through the site's proxy, which is told to
// reach no closed address either.
func TestSiteProxy(t *testing.T) {
	t.Parallel()
	plain := serve(t, nil)
	plain.repo(t, "repo").write("a", "1").commit("one")
	secure := httptest.NewTLSServer(plain.Config.Handler)
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(secure), 0o600); err != nil {
		t.Fatal(err)
	}
	site := newSiteProxy(t)
	s := newSource(t, func(c *source.Config) {
		c.CAFile, c.Proxy = ca, "http://me:hunter2@"+site.Addr().String()
		c.Deny = []netip.Prefix{netipPrefix("127.0.0.5/32")}
	})
	for _, base := range []string{plain.URL, secure.URL} {
		if got, _, err := fetch(t, s, gitSpec(base+"/repo", "main"), source.Policy{}); err != nil || got["a"] != "1" {
			t.Errorf("%s: %v, %v", base, got, err)
		}
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		if !site.saw(u.Host) {
			t.Errorf("%s did not go through the site's proxy", base)
		}
		closed := u.Scheme + "://127.0.0.5:" + u.Port() + "/repo"
		if _, err := s.Resolve(t.Context(), gitSpec(closed, "HEAD"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeForbidden {
			t.Errorf("%s: %v", closed, err)
		}
	}
	if site.saw("127.0.0.5") {
		t.Error("the site's proxy was asked for a closed address")
	}
}

// siteProxy is a forward proxy that writes down what it is asked for.
type siteProxy struct {
	net.Listener
	mu    sync.Mutex
	asked []string
}

func newSiteProxy(t *testing.T) *siteProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &siteProxy{Listener: l}
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ended.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); ended.Wait() })
	return p
}

func (p *siteProxy) serve(in net.Conn) {
	defer in.Close()
	br := bufio.NewReader(in)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, req.Host+" "+req.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	out, err := net.DialTimeout("tcp", req.Host, 5*time.Second)
	if err != nil {
		return
	}
	defer out.Close()
	if req.Method == http.MethodConnect {
		fmt.Fprint(in, "HTTP/1.1 200 OK\r\n\r\n")
	} else if req.Write(out) != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = br.WriteTo(out); _ = out.(*net.TCPConn).CloseWrite() })
	_, _ = in.(*net.TCPConn).ReadFrom(out)
	_ = in.(*net.TCPConn).CloseWrite()
	both.Wait()
}

func (p *siteProxy) saw(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.asked {
		if strings.HasPrefix(a, host) && strings.HasSuffix(a, "Basic bWU6aHVudGVyMg==") {
			return true
		}
	}
	return false
}

func pemOf(srv *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

// TestOtherProtocols: file:// for trusted callers, git:// also for the public
// when the operator says so, connected to the address that was checked.
func TestOtherProtocols(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := newRepo(t, filepath.Join(root, "repo"))
	old := r.write("a", "1").commit("one")
	r.write("a", "2").commit("two")
	s := newSource(t, func(c *source.Config) { c.Protocols = []string{"git"} })
	for ref, want := range map[string]string{"main": "2", old: "1", old[:8]: "1"} {
		if got, _, err := fetch(t, s, gitSpec("file://"+r.dir, ref), source.Policy{Local: true}); err != nil || got["a"] != want {
			t.Errorf("file %s: %v, %v", ref, got, err)
		}
	}
	address := daemon(t, root)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s.SetResolver(&fakeResolver{answers: map[string][][]netip.Addr{"git.example.org": {addrs("127.0.0.1")}, "inner.example.org": {addrs("10.0.0.1")}}})
	if got, _, err := fetch(t, s, gitSpec("git://git.example.org:"+port+"/repo", "main"), source.Policy{}); err != nil || got["a"] != "2" {
		t.Errorf("git: %v, %v", got, err)
	}
	if _, err := s.Resolve(t.Context(), gitSpec("git://inner.example.org/repo", "main"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeForbidden {
		t.Errorf("git, private: %v", err)
	}
	if _, err := s.Resolve(t.Context(), gitSpec("https://git.example.org/repo", "main"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeForbidden {
		t.Errorf("https, not enabled: %v", err)
	}
}

// daemon runs git daemon on a free port until the test ends.
func daemon(t *testing.T, root string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// One git daemon --inetd for each connection: no port to race for.
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ended.Go(func() {
				defer conn.Close()
				cmd := exec.Command("git", "daemon", "--inetd", "--export-all", "--base-path="+root)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + root}
				file, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer file.Close()
				cmd.Stdin, cmd.Stdout = file, file
				_ = cmd.Run()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); ended.Wait() })
	return l.Addr().String()
}
