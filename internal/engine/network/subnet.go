package network

import (
	"encoding/binary"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/binnacle-hub/binnacle"
)

// chooseSubnet takes the configured subnet, or a free one: first the one that
// the directory's name hashes to, then the following ones.
func (n *Network) chooseSubnet() (netip.Prefix, error) {
	taken, err := n.takenPrefixes()
	if err != nil {
		return netip.Prefix{}, err
	}
	if n.cfg.Subnet.IsValid() {
		if p := n.cfg.Subnet.Masked(); !overlaps(taken, p) {
			return p, nil
		}
		return netip.Prefix{}, &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "network.subnet",
			Message: "The subnet for sessions, " + n.cfg.Subnet.String() + ", is in use on this machine.",
			Hint:    "Choose another one, or leave it unset.",
		}
	}
	const first, bits, count = 10<<24 | 192<<16, 20, 1 << 10 // 10.192.0.0/10 in pieces of /20
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.name)) // never fails
	for i := range uint32(count) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], first+(h.Sum32()+i)%count<<(32-bits))
		if p := netip.PrefixFrom(netip.AddrFrom4(b), bits); !overlaps(taken, p) {
			return p, nil
		}
	}
	return netip.Prefix{}, &binnacle.Error{
		Code: binnacle.CodeConflict, Op: "network.subnet",
		Message: "No subnet of 10.192.0.0/10 is free for sessions.", Hint: "Set a subnet that this machine does not use.",
	}
}

// takenPrefixes is what this machine has routes to, but for the very wide ones,
// and its resolvers.
func (n *Network) takenPrefixes() ([]netip.Prefix, error) {
	const wide = 12 // a route to all of 10.0.0.0/8 does not mean that all of it is used
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > wide {
			taken = append(taken, p)
		}
		if gw, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
			taken = append(taken, netip.PrefixFrom(gw, 32))
		}
	}
	for _, u := range n.upstream {
		if u.Addr().Is4() {
			taken = append(taken, netip.PrefixFrom(u.Addr(), 32))
		}
	}
	return taken, nil
}

func overlaps(taken []netip.Prefix, p netip.Prefix) bool {
	for _, t := range taken {
		if t.Overlaps(p) {
			return true
		}
	}
	return false
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP.To4())
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a, ones), ok
}

// uplinkMTU is what fits through the way out; larger packets would only come
// back with a complaint.
func uplinkMTU() int {
	const ethernet = 1500
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return ethernet
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return min(ethernet, link.Attrs().MTU)
		}
	}
	return ethernet
}

func systemResolvers() []netip.AddrPort {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, netip.AddrPortFrom(a, 53))
		}
	}
	return list
}

// codeOr is the code of an error that says one, else code.
func codeOr(err error, code binnacle.Code) binnacle.Code {
	if c := binnacle.CodeOf(err); c != binnacle.CodeInternal {
		return c
	}
	return code
}
