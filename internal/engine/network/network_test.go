package network_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/miekg/dns"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
)

var _ = netproviders.Opt{}

func TestWayOut(t *testing.T) {
	w := newWorld(t)
	cfg := network.DefaultConfig()
	cfg.Allow = []netip.Prefix{netip.PrefixFrom(allowed, 32), netip.PrefixFrom(denied, 32)}
	cfg.Deny = []netip.Prefix{netip.PrefixFrom(denied, 32)}
	n := newNetwork(t, cfg)
	ns := attach(t, n, "s-one")
	for _, a := range []netip.Addr{public, allowed} {
		said, err := dial(t, ns, a, port)
		if err != nil {
			t.Fatalf("%s is not reachable: %v", a, err)
		}
		if !strings.HasPrefix(said, hostAddr.String()+":") {
			t.Errorf("%s saw the address %s, want the machine's", a, said)
		}
	}
	closed := addresses()
	closed["denied"] = denied
	for name, a := range closed {
		if _, err := dial(t, ns, a, port); err == nil {
			t.Errorf("%s (%s) answered", name, a)
		}
		if got := w.seen(a); got != 0 {
			t.Errorf("%d connections arrived at %s (%s)", got, name, a)
		}
	}
	if _, err := dial(t, ns, public, 25); err == nil {
		t.Error("mail is not refused")
	}
}

func TestMachineAndOthersAreClosed(t *testing.T) {
	newWorld(t)
	n := newNetwork(t, network.Config{Outbound: true, Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	one, two := attach(t, n, "s-one"), attach(t, n, "s-two")
	var arrived sync.Map
	listen := func(where string) func() {
		return func() {
			l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
			must(t, err)
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					arrived.Store(where, true)
					c.Close()
				}
			}()
		}
	}
	listen("machine")()
	h, err := netns.GetFromPath(two.Path)
	must(t, err)
	defer h.Close()
	in(t, h, listen("other session"))
	for name, a := range map[string]netip.Addr{"machine": hostAddr, "gateway": n.Gateway(), "other session": two.Addr} {
		if _, err := dial(t, one, a, port); err == nil {
			t.Errorf("%s answered", name)
		}
	}
	arrived.Range(func(where, _ any) bool { t.Errorf("something arrived at the %s", where); return true })
	if _, err := dial(t, two, two.Addr, port); err != nil { // the listener does work
		t.Error(err)
	}
}

func TestNoForgery(t *testing.T) {
	w := newWorld(t)
	n := newNetwork(t, network.DefaultConfig())
	one, two := attach(t, n, "s-one"), attach(t, n, "s-two")
	h, err := netns.GetFromPath(one.Path)
	must(t, err)
	defer h.Close()
	before := w.seen(netip.Addr{})
	in(t, h, func() {
		// The session takes the other's address and sends from it.
		nl, err := netlink.NewHandle()
		must(t, err)
		defer nl.Close()
		eth, err := nl.LinkByName("eth0")
		must(t, err)
		must(t, nl.AddrAdd(eth, addr(t, two.Addr.String()+"/32")))
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: two.Addr.AsSlice()}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(public, port)))
		must(t, err)
		defer c.Close()
		q, err := new(dns.Msg).SetQuestion("forged.example.org.", dns.TypeA).Pack()
		must(t, err)
		_, err = c.Write(q)
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		if _, err := c.Read(make([]byte, 512)); err == nil {
			t.Error("a packet with another session's address was answered")
		}
		if list, err := nl.AddrList(eth, netlink.FAMILY_V6); err != nil || len(list) != 0 {
			t.Errorf("IPv6 addresses inside: %v, %v", list, err)
		}
	})
	if got := w.seen(netip.Addr{}); got != before {
		t.Error("a packet with another session's address arrived")
	}
}

func TestConnectionLimits(t *testing.T) {
	newWorld(t)
	n := newNetwork(t, network.Config{Outbound: true, ConnectionRate: 1})
	ns := attach(t, n, "s-one")
	h, err := netns.GetFromPath(ns.Path)
	must(t, err)
	defer h.Close()
	const asked = 20
	fds := make([]unix.PollFd, asked)
	in(t, h, func() {
		for i := range fds { // all at once: who is refused now may pass a second later
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			t.Cleanup(func() { _ = unix.Close(fd) })
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: public.As4(), Port: port}); !errors.Is(err, unix.EINPROGRESS) {
				t.Fatalf("connect: %v", err)
			}
			fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
		}
	})
	ok, err := unix.Poll(fds, 5000)
	must(t, err)
	if ok == 0 || ok == asked {
		t.Errorf("%d of %d connections passed; want some but not all", ok, asked)
	}
}

func TestClosedNetwork(t *testing.T) {
	w := newWorld(t)
	n := newNetwork(t, network.Config{Allow: []netip.Prefix{netip.PrefixFrom(allowed, 32)}})
	ns := attach(t, n, "s-one")
	before := w.seen(public)
	if _, err := dial(t, ns, public, port); err == nil || w.seen(public) != before {
		t.Error("a public address answered although nothing may go out")
	}
	if _, err := dial(t, ns, allowed, port); err != nil {
		t.Error(err)
	}
}

func TestDNS(t *testing.T) {
	newWorld(t)
	n := newNetwork(t, network.DefaultConfig())
	ns := attach(t, n, "s-one")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	h, err := netns.GetFromPath(ns.Path)
	must(t, err)
	defer h.Close()
	ask := func(q *dns.Msg) (answer *dns.Msg, err error) {
		for range 50 { // until Run listens
			in(t, h, func() {
				c := &dns.Client{Timeout: time.Second}
				answer, _, err = c.Exchange(q, netip.AddrPortFrom(n.Gateway(), 53).String())
			})
			if err == nil {
				return answer, nil
			}
			<-time.After(10 * time.Millisecond)
		}
		return nil, err
	}
	answer, err := ask(new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))
	must(t, err)
	if len(answer.Answer) != 1 || !strings.HasSuffix(answer.Answer[0].String(), public.String()) {
		t.Errorf("answer: %v", answer)
	}
	answer, err = ask(new(dns.Msg).SetAxfr("example.org."))
	must(t, err)
	if answer.Rcode != dns.RcodeRefused {
		t.Errorf("a zone transfer is answered with %s, want REFUSED", dns.RcodeToString[answer.Rcode])
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	cfg := network.DefaultConfig()
	cfg.Dir = dir
	first := newNetwork(t, cfg)
	ns := attach(t, first, "s-one")
	_, err := first.Provider().New(t.Context(), "", struct{}{})
	must(t, err)
	must(t, first.Close())

	second := newNetwork(t, cfg)
	if diff := cmp.Diff([]network.Namespace{ns}, second.List(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("after a restart (build steps are gone):\n%s", diff)
	}
	if second.Gateway() != first.Gateway() {
		t.Errorf("the gateway moved from %s to %s", first.Gateway(), second.Gateway())
	}
	if _, err := dial(t, ns, public, port); err != nil {
		t.Error(err)
	}
	if _, err := second.Attach(t.Context(), "s-one"); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("attaching again: %v, want conflict", err)
	}
	if two := attach(t, second, "s-two"); two.Addr == ns.Addr {
		t.Errorf("two namespaces have the address %s", two.Addr)
	}
	must(t, second.Sweep(t.Context(), func(id string) bool { return id == "s-two" }))
	if got := len(second.List()); got != 1 {
		t.Errorf("%d namespaces after the sweep, want 1", got)
	}
}

func TestHalfMadeIsRemoved(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	cfg := network.DefaultConfig()
	cfg.Dir = dir
	n := newNetwork(t, cfg)
	one, two := attach(t, n, "s-one"), attach(t, n, "s-two")
	must(t, unix.Unmount(one.Path, unix.MNT_DETACH)) // killed before the mount, or the machine restarted
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if l.Attrs().Alias == "s-two" {
			must(t, netlink.LinkDel(l))
		}
	}
	again := newNetwork(t, cfg)
	if got := again.List(); len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
	if left := leftovers(t, dir); len(left) != 1 { // the bridge
		t.Errorf("left over: %v (of %v, %v)", left, one, two)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	n, err := network.New(t.Context(), network.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	must(t, err)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := n.Attach(t.Context(), fmt.Sprintf("s-%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, n.Remove(t.Context()))
	if left := leftovers(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	c, err := nftables.New()
	must(t, err)
	tables, err := c.ListTables()
	must(t, err)
	for _, table := range tables {
		if strings.HasPrefix(table.Name, "binnacle") {
			t.Errorf("the table %s is left over", table.Name)
		}
	}
}

func TestSubnetInUse(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	_, err := network.New(t.Context(), network.Config{Dir: dir, Subnet: netip.MustParsePrefix("203.0.113.0/24")}, slog.New(slog.DiscardHandler))
	if binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("got %v, want conflict", err)
	}
	if left := leftovers(t, dir); len(left) != 0 {
		t.Errorf("left over by a network that was refused: %v", left)
	}
	one, two := newNetwork(t, network.DefaultConfig()), newNetwork(t, network.DefaultConfig())
	if one.Subnet().Overlaps(two.Subnet()) {
		t.Errorf("two hubs share %s and %s", one.Subnet(), two.Subnet())
	}
}

func TestProvider(t *testing.T) {
	newWorld(t)
	n := newNetwork(t, network.DefaultConfig())
	ns, err := n.Provider().New(t.Context(), "host", struct{}{})
	must(t, err)
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}}}
	must(t, ns.Set(spec))
	if list := n.List(); len(list) != 1 || spec.Linux.Namespaces[0].Path != list[0].Path {
		t.Errorf("the step runs in %v, namespaces: %v", spec.Linux.Namespaces, list)
	}
	must(t, ns.Close())
	if list := n.List(); len(list) != 0 {
		t.Errorf("left over: %v", list)
	}
}

func TestValidate(t *testing.T) {
	for _, cfg := range []network.Config{
		{},
		{Dir: "/d", Subnet: netip.MustParsePrefix("10.0.0.0/30")},
		{Dir: "/d", Subnet: netip.MustParsePrefix("fd00::/64")},
		{Dir: "/d", Connections: -1},
	} {
		if cfg.Validate() == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	newWorld(b)
	n := newNetwork(b, network.DefaultConfig())
	var up, down time.Duration
	for b.Loop() {
		start := time.Now()
		attach(b, n, "s-one")
		up += time.Since(start)
		start = time.Now()
		must(b, n.Detach(b.Context(), "s-one"))
		down += time.Since(start)
	}
	b.ReportMetric(float64(up.Microseconds())/float64(b.N), "attach-us/op")
	b.ReportMetric(float64(down.Microseconds())/float64(b.N), "detach-us/op")
}
