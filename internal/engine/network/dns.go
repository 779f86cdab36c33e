package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle"
)

const (
	dnsTimeout = 3 * time.Second // for one resolver; clients ask again after as long
	dnsAtOnce  = 512             // questions under way, of all namespaces
	dnsPerAddr = 64              // and of one of them
)

// Run answers the DNS questions of namespaces until ctx ends. Namespaces cannot
// reach the machine's own resolvers, which often have private addresses.
func (n *Network) Run(ctx context.Context) error {
	address := netip.AddrPortFrom(n.gateway, 53).String()
	var lc net.ListenConfig
	udp, err := lc.ListenPacket(ctx, "udp4", address)
	if err != nil {
		return noDNS(address, err)
	}
	tcp, err := lc.Listen(ctx, "tcp4", address)
	if err != nil {
		return errors.Join(noDNS(address, err), udp.Close())
	}
	f := &forwarder{upstream: n.upstream, busy: map[netip.Addr]int{}}
	servers := []*dns.Server{
		{PacketConn: udp, Handler: f},
		{Listener: tcp, Handler: f, ReadTimeout: dnsTimeout, IdleTimeout: func() time.Duration { return dnsTimeout }},
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		g.Go(func() error {
			defer close(done)
			if err := s.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("answer DNS: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			select {
			case <-ctx.Done():
			case <-done:
				return nil
			}
			select { // a server that has not started cannot be shut down
			case <-started:
			case <-done:
				return nil
			}
			if err := s.Shutdown(); err != nil {
				return fmt.Errorf("stop answering DNS: %w", err)
			}
			return nil
		})
	}
	return g.Wait()
}

func noDNS(address string, err error) error {
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "network.dns",
		Message: "The resolver of sessions cannot listen on " + address + ".",
		Hint:    "A name server of this machine that listens on every address has the port; bind it to its own address only.", Err: err,
	}
}

// forwarder passes questions on to the machine's resolvers.
type forwarder struct {
	upstream []netip.AddrPort
	mu       sync.Mutex
	total    int
	busy     map[netip.Addr]int
}

// ServeDNS answers one question.
func (f *forwarder) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	defer w.Close()
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) // who does not listen does not matter
		return
	}
	client := clientOf(w.RemoteAddr())
	if !f.enter(client) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)) // as above
		return
	}
	defer f.leave(client)
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	answer := f.ask(q, overTCP)
	answer.Id = q.Id
	if !overTCP {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer) // as above
}

func (f *forwarder) ask(q *dns.Msg, overTCP bool) *dns.Msg {
	for _, u := range f.upstream {
		client := &dns.Client{Net: "udp", Timeout: dnsTimeout, UDPSize: dns.DefaultMsgSize}
		if overTCP {
			client.Net = "tcp"
		}
		answer, _, err := client.Exchange(q.Copy(), u.String())
		if err == nil && answer.Rcode != dns.RcodeServerFailure {
			return answer
		}
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

func (f *forwarder) enter(client netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.total >= dnsAtOnce || f.busy[client] >= dnsPerAddr {
		return false
	}
	f.total++
	f.busy[client]++
	return true
}

func (f *forwarder) leave(client netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total--
	if f.busy[client]--; f.busy[client] == 0 {
		delete(f.busy, client)
	}
}

func clientOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}
