// Package delegation finds out whether a DNS zone that we made can be found from
// the internet: whether the zone above it names its name servers, and what is to be
// entered there when not.
package delegation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/binnacle-hub/binnacle"
)

// Checker asks the DNS.
type Checker struct {
	// Resolver is a name server that looks things up, as host or host:port; empty is
	// the first of the machine's.
	Resolver string
	// Port is where name servers of zones answer; empty is 53.
	Port string
	// Timeout bounds each question; 0 is three seconds.
	Timeout time.Duration
}

// Report is what the zone above says of a zone.
type Report struct {
	Zone string
	// Parent is the zone above, as far as it is known.
	Parent string
	// Wanted are the zone's own name servers, Found those that the parent names.
	Wanted, Found []string
	// Missing are wanted and not found, Foreign are found and not wanted.
	Missing, Foreign []string
	// Lame are wanted servers that do not answer for the zone.
	Lame []string
}

// OK says that the zone is found from everywhere.
func (r Report) OK() bool { return len(r.Missing)+len(r.Foreign) == 0 && len(r.Lame) < len(r.Wanted) }

// String says what is so and what has to be done, in lines.
func (r Report) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	parent := r.Parent
	if parent == "" {
		parent = "the domain above"
	}
	switch {
	case r.OK():
		line("%s is delegated by %s.", r.Zone, parent)
	case len(r.Found) == 0:
		line("%s does not delegate %s yet. Whoever runs the DNS of %s has to enter there:", parent, r.Zone, parent)
		for _, s := range r.Wanted {
			line("  %s. NS %s.", r.Zone, s)
		}
	case len(r.Missing)+len(r.Foreign) > 0:
		line("%s delegates %s, but not as it should be. Whoever runs the DNS of %s has to", parent, r.Zone, parent)
		for _, s := range r.Missing {
			line("  add     %s. NS %s.", r.Zone, s)
		}
		for _, s := range r.Foreign {
			line("  remove  %s. NS %s.", r.Zone, s)
		}
	default:
		line("%s delegates %s, but none of its name servers answers for it: %s.", parent, r.Zone, strings.Join(r.Lame, ", "))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Check compares what the zone above says with the name servers the zone has.
// Returns unavailable when the DNS does not answer.
func (c Checker) Check(ctx context.Context, zone string, servers []string) (Report, error) {
	r := Report{Zone: plain(zone), Wanted: sorted(servers)}
	resolver, err := c.resolver()
	if err != nil {
		return r, away(err)
	}
	above, names, err := c.parent(ctx, resolver, r.Zone)
	if err != nil {
		return r, away(err)
	}
	r.Parent = above
	found, err := c.delegated(ctx, resolver, r.Zone, names)
	if err != nil {
		return r, away(err)
	}
	r.Found = sorted(found)
	r.Missing, r.Foreign = without(r.Wanted, r.Found), without(r.Found, r.Wanted)
	if len(r.Found) > 0 && len(r.Missing)+len(r.Foreign) == 0 {
		r.Lame = c.lame(ctx, resolver, r.Zone, r.Wanted)
	}
	return r, nil
}

func away(err error) error {
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "deploy.dns", Message: "The DNS could not be asked about the domain: " + err.Error() + ".",
		Hint: "Try again; where the network's own name server does not know the internet, set dns.resolver to one that does.", Err: err,
	}
}

func (c Checker) resolver() (string, error) {
	address := c.Resolver
	if address == "" {
		cfg, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return "", err
		}
		if len(cfg.Servers) == 0 {
			return "", errors.New("this machine has no name server")
		}
		address = net.JoinHostPort(cfg.Servers[0], cfg.Port)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "53")
	}
	return address, nil
}

// ask asks a server, over TCP when the answer does not fit.
func (c Checker) ask(ctx context.Context, server, name string, kind uint16, recurse bool) (*dns.Msg, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 3 * time.Second
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.RecursionDesired = recurse
	client := &dns.Client{Timeout: timeout}
	answer, _, err := client.ExchangeContext(ctx, m, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, m, server)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", server, name, err)
	}
	return answer, nil
}

// parent is the nearest zone above, and its name servers.
func (c Checker) parent(ctx context.Context, resolver, zone string) (string, []string, error) {
	for _, name, ok := strings.Cut(zone, "."); ok; _, name, ok = strings.Cut(name, ".") {
		m, err := c.ask(ctx, resolver, name, dns.TypeNS, true)
		if err != nil {
			return "", nil, err
		}
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			return "", nil, fmt.Errorf("ask %s for %s: %s", resolver, name, dns.RcodeToString[m.Rcode])
		}
		if names := servers(m.Answer, name); len(names) > 0 {
			return name, names, nil
		}
	}
	return "", nil, nil
}

// delegated are the name servers that the zone above names: said by its own
// servers, which know of a change at once, or by the resolver where those cannot be
// reached.
func (c Checker) delegated(ctx context.Context, resolver, zone string, parents []string) ([]string, error) {
	for _, name := range parents {
		for _, address := range c.addresses(ctx, resolver, name) {
			m, err := c.ask(ctx, address, zone, dns.TypeNS, false)
			if err != nil || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
				continue
			}
			return servers(append(m.Answer, m.Ns...), zone), nil
		}
	}
	m, err := c.ask(ctx, resolver, zone, dns.TypeNS, true)
	if err != nil {
		return nil, err
	}
	return servers(append(m.Answer, m.Ns...), zone), nil
}

// lame are the servers that can be reached and do not answer for the zone.
func (c Checker) lame(ctx context.Context, resolver, zone string, names []string) []string {
	var out []string
	for _, name := range names {
		addresses := c.addresses(ctx, resolver, name)
		if len(addresses) == 0 {
			continue
		}
		if m, err := c.ask(ctx, addresses[0], zone, dns.TypeSOA, false); err == nil && (m.Rcode != dns.RcodeSuccess || !m.Authoritative) {
			out = append(out, name)
		}
	}
	return out
}

func (c Checker) addresses(ctx context.Context, resolver, name string) []string {
	port := c.Port
	if port == "" {
		port = "53"
	}
	var out []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := c.ask(ctx, resolver, name, kind, true)
		if err != nil {
			continue
		}
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				out = append(out, net.JoinHostPort(rr.A.String(), port))
			case *dns.AAAA:
				out = append(out, net.JoinHostPort(rr.AAAA.String(), port))
			}
		}
	}
	return out
}

// servers are the name servers of a zone among records.
func servers(records []dns.RR, zone string) []string {
	var out []string
	for _, rr := range records {
		if ns, ok := rr.(*dns.NS); ok && plain(ns.Hdr.Name) == plain(zone) {
			out = append(out, ns.Ns)
		}
	}
	return out
}

func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func sorted(names []string) []string {
	var out []string
	for _, n := range names {
		if n = plain(strings.TrimSpace(n)); n != "" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func without(list, other []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}
