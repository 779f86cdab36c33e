package source

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// guard decides which addresses the public may make us connect to.
type guard struct {
	allow, deny []netip.Prefix
	denyHosts   []string
	resolver    resolver
}

// privateNetworks are the special-purpose ranges of RFC 6890 and what clouds
// use for their metadata services. Ranges that embed IPv4 addresses (6to4,
// Teredo, local NAT64) are closed as a whole: nobody serves git there.
func privateNetworks() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"168.63.129.16/32", // Azure's platform services
		"::/16", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/9", "ff00::/8",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// check refuses an address of a private network.
func (g *guard) check(addr netip.Addr) error {
	if addr.Zone() != "" {
		return errPrivate
	}
	addr = embedded(addr.Unmap())
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	if in(g.deny) {
		return errPrivate
	}
	if in(g.allow) {
		return nil
	}
	if !addr.IsValid() || in(privateNetworks()) {
		return errPrivate
	}
	return nil
}

// embedded is the IPv4 address a NAT64 gateway would make of addr.
func embedded(addr netip.Addr) netip.Addr {
	if netip.MustParsePrefix("64:ff9b::/96").Contains(addr) {
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}

var (
	errPrivate  = errors.New("the address belongs to a private network")
	errNoSuch   = errors.New("no host has this name")
	errLookup   = errors.New("the name could not be looked up")
	errDenyHost = errors.New("the host is on the operator's list")
)

// lookup is the addresses of host, each of them checked. One private address
// among several is enough to refuse the name.
func (g *guard) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	for _, denied := range g.denyHosts {
		denied = strings.ToLower(strings.Trim(denied, "."))
		if name == denied || strings.HasSuffix(name, "."+denied) {
			return nil, errDenyHost
		}
	}
	addr, literal := parseAddr(name)
	if literal {
		return []netip.Addr{addr}, g.check(addr)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		// The resolver would answer too; RFC 6761 says what.
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		return []netip.Addr{addr}, g.check(addr)
	}
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", name)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return nil, errNoSuch
	}
	if err != nil || len(addrs) == 0 {
		return nil, errLookup
	}
	for _, a := range addrs {
		if err := g.check(a); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// parseAddr reads an address in any notation that some resolver takes for one:
// beside the usual, 2130706433, 0x7f.1 and 0177.0.0.1. A name of digits that
// is none of them is the invalid address, which nothing allows.
func parseAddr(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, true
	}
	parts := strings.Split(s, ".")
	last := parts[len(parts)-1]
	if last == "" || last[0] < '0' || last[0] > '9' {
		return netip.Addr{}, strings.Contains(s, ":")
	}
	// The last label begins with a digit: no top-level domain does.
	var value uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(octal(p), 0, 32)
		if err != nil || len(parts) > 4 || strings.Contains(p, "_") {
			return netip.Addr{}, true
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, true
			}
			value |= n << (24 - 8*i)
			continue
		}
		if n >= 1<<(8*(4-i)) {
			return netip.Addr{}, true
		}
		value |= n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// octal keeps 010 octal and turns away Go's own 0o and 0b.
func octal(s string) string {
	if len(s) > 1 && s[0] == '0' && strings.ContainsAny(s[1:2], "oObB") {
		return "-"
	}
	return s
}

// refusal is what a person is told when the guard said no.
func refusal(host string, err error) *binnacle.Error {
	e := &binnacle.Error{Op: "source.guard", Err: err}
	switch {
	case errors.Is(err, errPrivate):
		e.Code, e.Message = binnacle.CodeForbidden, "This hub does not fetch from "+quote(host)+": its address belongs to a private network."
		e.Hint = "Use a repository that the public can reach, or ask the operator of this hub to allow that network."
	case errors.Is(err, errDenyHost):
		e.Code, e.Message = binnacle.CodeForbidden, "This hub does not fetch from "+quote(host)+"."
		e.Hint = "Ask the operator of this hub why."
	case errors.Is(err, errNoSuch):
		e.Code, e.Message = binnacle.CodeNotFound, "There is no host called "+quote(host)+"."
		e.Hint = "Check the spelling of the address."
	default:
		e.Code, e.Message = binnacle.CodeUnavailable, "The host "+quote(host)+" could not be reached."
		e.Hint = "Try again in a few minutes."
	}
	return e
}
