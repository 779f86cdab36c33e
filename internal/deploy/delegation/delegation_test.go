package delegation_test

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/delegation"
)

// zone is an authoritative server on an address of the loopback.
type zone struct {
	origin string

	mu      sync.Mutex
	records []dns.RR
	refuse  bool
}

func (z *zone) set(t *testing.T, records ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = nil
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		z.records = append(z.records, rr)
	}
}

// ServeDNS answers as an authoritative server does: what is in the zone, or the
// referral to the zone below.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	name := strings.ToLower(q.Question[0].Name)
	if z.refuse || !dns.IsSubDomain(z.origin, name) {
		m.Rcode, m.Authoritative = dns.RcodeRefused, false
		_ = w.WriteMsg(m)
		return
	}
	exists := false
	for _, rr := range z.records {
		h := rr.Header()
		if h.Rrtype == dns.TypeNS && h.Name != z.origin && dns.IsSubDomain(h.Name, name) {
			m.Ns, m.Authoritative, exists = append(m.Ns, rr), false, true
			continue
		}
		if h.Name == name {
			exists = true
			if h.Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

func serve(t *testing.T, address string, h dns.Handler) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: h}
	started, done := make(chan struct{}), make(chan struct{})
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
	return pc.LocalAddr().String()
}

// recursor looks names up from the top of the tree, without remembering; it knows
// the addresses of servers that are within their own zones.
type recursor struct {
	root, port string
	glue       map[string]string
}

func (r recursor) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := r.lookup(q.Question[0].Name, q.Question[0].Qtype, 0)
	code := m.Rcode
	m.SetReply(q)
	m.Rcode = code
	m.RecursionAvailable = true
	_ = w.WriteMsg(m)
}

func (r recursor) lookup(name string, kind uint16, depth int) *dns.Msg {
	server := r.root
	if a, ok := r.glue[name]; ok && kind == dns.TypeA {
		return &dns.Msg{Answer: []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(a)}}}
	}
	failed := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}
	for range 8 {
		q := new(dns.Msg)
		q.SetQuestion(name, kind)
		q.RecursionDesired = false
		m, err := dns.Exchange(q, server)
		if err != nil || depth > 4 {
			return failed
		}
		if len(m.Answer) > 0 || len(m.Ns) == 0 {
			code := m.Rcode
			out := &dns.Msg{Answer: m.Answer}
			out.Rcode = code
			return out
		}
		next := r.lookup(m.Ns[0].(*dns.NS).Ns, dns.TypeA, depth+1)
		if len(next.Answer) == 0 {
			return failed
		}
		server = net.JoinHostPort(next.Answer[0].(*dns.A).A.String(), r.port)
	}
	return failed
}

// TestDelegation runs the tree of a small internet on the loopback: the top, the
// institute's domain, the cloud's, and the zone that a deployment made.
func TestDelegation(t *testing.T) {
	top := &zone{origin: "."}
	root := serve(t, "127.0.0.1:0", top)
	_, port, err := net.SplitHostPort(root)
	if err != nil {
		t.Fatal(err)
	}
	institute, cloud, ours := &zone{origin: "example.org."}, &zone{origin: "dns.example."}, &zone{origin: "hub.example.org."}
	serve(t, "127.0.0.2:"+port, institute)
	serve(t, "127.0.0.3:"+port, cloud)
	serve(t, "127.0.0.4:"+port, ours)
	top.set(t, "example.org. NS ns.example.org.", "dns.example. NS a.dns.example.")
	resolver := serve(t, "127.0.0.1:0", recursor{root, port, map[string]string{"ns.example.org.": "127.0.0.2", "a.dns.example.": "127.0.0.3"}})
	soa := func(z string) string { return z + " SOA a.dns.example. ops.example.org. 1 3600 600 86400 300" }
	cloud.set(t, "ns1.dns.example. A 127.0.0.4", "ns2.dns.example. A 127.0.0.4", "old.dns.example. A 127.0.0.4")
	ours.set(t, soa("hub.example.org."), "hub.example.org. NS ns1.dns.example.", "hub.example.org. NS ns2.dns.example.")
	base := []string{soa("example.org."), "example.org. NS ns.example.org."}
	wanted := []string{"NS1.dns.example.", "ns2.dns.example"}
	c := delegation.Checker{Resolver: resolver, Port: port, Timeout: time.Second}
	for _, tt := range []struct {
		name    string
		records []string
		refuse  bool // the zone's own servers
		ok      bool
		want    string
	}{
		{
			"nothing", nil, false, false,
			"example.org does not delegate hub.example.org yet. Whoever runs the DNS of example.org has to enter there:\n" +
				"  hub.example.org. NS ns1.dns.example.\n  hub.example.org. NS ns2.dns.example.",
		},
		{"right", []string{"hub.example.org. NS ns1.dns.example.", "hub.example.org. NS NS2.dns.example."}, false, true, "hub.example.org is delegated by example.org."},
		{
			"half, and one from before",
			[]string{"hub.example.org. NS ns1.dns.example.", "hub.example.org. NS old.dns.example."},
			false, false,
			"example.org delegates hub.example.org, but not as it should be. Whoever runs the DNS of example.org has to\n" +
				"  add     hub.example.org. NS ns2.dns.example.\n  remove  hub.example.org. NS old.dns.example.",
		},
		{
			"lame",
			[]string{"hub.example.org. NS ns1.dns.example.", "hub.example.org. NS ns2.dns.example."},
			true, false,
			"example.org delegates hub.example.org, but none of its name servers answers for it: ns1.dns.example, ns2.dns.example.",
		},
		{"an address instead", []string{"hub.example.org. A 192.0.2.1"}, false, false, "example.org does not delegate hub.example.org yet. Whoever runs the DNS of example.org has to enter there:\n" +
			"  hub.example.org. NS ns1.dns.example.\n  hub.example.org. NS ns2.dns.example."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			institute.set(t, append(base, tt.records...)...)
			ours.mu.Lock()
			ours.refuse = tt.refuse
			ours.mu.Unlock()
			r, err := c.Check(t.Context(), "hub.example.org", wanted)
			if err != nil || r.OK() != tt.ok {
				t.Error(r.OK(), err)
			}
			if diff := cmp.Diff(tt.want, r.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("only the resolver can be reached", func(t *testing.T) {
		institute.set(t, append(base, "hub.example.org. NS ns1.dns.example.", "hub.example.org. NS ns2.dns.example.")...)
		n, _ := strconv.Atoi(port)
		r, err := delegation.Checker{Resolver: resolver, Port: strconv.Itoa(n%65535 + 1), Timeout: 100 * time.Millisecond}.Check(t.Context(), "hub.example.org", wanted)
		if err != nil || len(r.Missing)+len(r.Foreign) != 0 {
			t.Error(r, err)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		_, err := delegation.Checker{Resolver: "127.0.0.9:1", Timeout: 100 * time.Millisecond}.Check(t.Context(), "hub.example.org", wanted)
		if binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			t.Error(err)
		}
	})
}
