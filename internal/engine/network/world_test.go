package network_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/binnacle-hub/binnacle/internal/engine/network"
)

// needRoot skips a test that needs namespaces, and fails it where nothing may be
// skipped.
func needRoot(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs network namespaces")
	}
	if os.Getuid() != 0 {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
}

const port = 7000

// world is what lies behind this machine: one namespace that has every address
// and counts what arrives at each.
type world struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

func addresses() map[string]netip.Addr {
	return map[string]netip.Addr{
		"metadata":    netip.MustParseAddr("169.254.169.254"),
		"link-local":  netip.MustParseAddr("169.254.7.7"),
		"ten":         netip.MustParseAddr("10.9.9.9"),
		"private-172": netip.MustParseAddr("172.16.5.5"),
		"private-192": netip.MustParseAddr("192.168.77.7"),
		"shared-100":  netip.MustParseAddr("100.64.1.1"),
		"benchmark":   netip.MustParseAddr("198.18.0.9"),
	}
}

var (
	public   = netip.MustParseAddr("203.0.113.10")
	denied   = netip.MustParseAddr("203.0.113.66")
	allowed  = netip.MustParseAddr("10.50.0.5")
	hostAddr = netip.MustParseAddr("203.0.113.1")
)

func newWorld(t testing.TB) *world {
	t.Helper()
	needRoot(t)
	w := &world{count: map[netip.Addr]int{}}
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, err)
	outside, err := netns.New()
	must(t, err)
	h, err := netlink.NewHandle()
	must(t, err)
	must(t, netns.Set(home))
	runtime.UnlockOSThread()
	t.Cleanup(func() { h.Close(); outside.Close(); home.Close() })

	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(outside))}))
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("uplink"); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	up, err := netlink.LinkByName("uplink")
	must(t, err)
	far, err := h.LinkByName("eth0")
	must(t, err)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	must(t, netlink.AddrAdd(up, addr(t, hostAddr.String()+"/24")))
	must(t, netlink.LinkSetUp(up))
	must(t, h.AddrAdd(far, addr(t, "203.0.113.2/24")))
	must(t, h.LinkSetUp(far))
	all := []netip.Addr{public, denied, allowed}
	for _, a := range addresses() {
		all = append(all, a)
	}
	for _, a := range all {
		must(t, h.AddrAdd(far, addr(t, a.String()+"/32")))
	}
	// Everything goes to the far side, metadata addresses too.
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: net.IPv4(203, 0, 113, 2)}))

	in(t, outside, func() {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		must(t, err)
		u, err := net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		must(t, err)
		t.Cleanup(func() { l.Close(); u.Close() })
		go w.accept(l)
		go w.answerDNS(u)
	})
	// The link is ready a moment after it is up.
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 50 {
		c, err := d.Dial("tcp4", netip.AddrPortFrom(public, port).String())
		if err == nil {
			c.Close()
			return w
		}
	}
	t.Fatal("the far side does not answer")
	return nil
}

func (w *world) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		a := netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
		w.mu.Lock()
		w.count[a]++
		w.mu.Unlock()
		_, _ = io.WriteString(c, c.RemoteAddr().String())
		c.Close()
	}
}

// answerDNS is the upstream resolver: every name is 203.0.113.10.
func (w *world) answerDNS(u net.PacketConn) {
	s := &dns.Server{PacketConn: u, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		w.mu.Lock()
		w.count[netip.Addr{}]++
		w.mu.Unlock()
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A " + public.String())
		m.Answer = append(m.Answer, rr)
		_ = rw.WriteMsg(m)
	})}
	_ = s.ActivateAndServe()
}

func (w *world) seen(a netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[a]
}

// dial connects from inside ns and returns what the far side says.
func dial(t testing.TB, ns network.Namespace, a netip.Addr, p uint16) (string, error) {
	t.Helper()
	var said string
	var err error
	h, openErr := netns.GetFromPath(ns.Path)
	must(t, openErr)
	defer h.Close()
	in(t, h, func() {
		var c net.Conn
		// What shall be open is given time on a busy machine: a lost SYN is sent
		// again after a second. What is closed is mostly dropped, without a word.
		d := net.Dialer{Timeout: 300 * time.Millisecond}
		if a == public || a == allowed {
			d.Timeout = 5 * time.Second
		}
		if c, err = d.Dial("tcp4", netip.AddrPortFrom(a, p).String()); err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		said = string(b)
	})
	return said, err
}

// in runs f on a thread in the namespace.
func in(t testing.TB, h netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	must(t, netns.Set(h))
	f()
	must(t, netns.Set(home))
	runtime.UnlockOSThread()
}

func newNetwork(t testing.TB, cfg network.Config) *network.Network {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.DNS = []netip.AddrPort{netip.AddrPortFrom(public, port)}
	n, err := network.New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	t.Cleanup(func() {
		if err := n.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return n
}

func attach(t testing.TB, n *network.Network, id string) network.Namespace {
	t.Helper()
	ns, err := n.Attach(t.Context(), id)
	must(t, err)
	return ns
}

func addr(t testing.TB, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leftovers are interfaces and pinned namespaces of ours.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if name := l.Attrs().Name; len(name) > 2 && name[:2] == "bn" {
			left = append(left, name)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "netns", "*"))
	must(t, err)
	return append(left, files...)
}
