package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// private are the addresses that are nobody's on the public internet: this
// machine's neighbours, metadata services, multicast.
func private() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("224.0.0.0/3"),
	}
}

// firewall replaces our table in one transaction: there is no moment without
// rules, and connections that are open stay open as far as cfg allows them.
//
// In the words of nft, with bn for everything whose name begins with ours:
//
//	prerouting: iifname bn  jump from: ip6 drop; fib saddr . iif oif missing drop
//	input:      iifname bn  jump self: daddr gateway, udp or tcp, dport 53 accept; drop
//	forward:    iifname bn  jump out:  daddr @deny drop; tcp dport @ports drop; oifname bn drop;
//	                                   ct established,related accept; daddr @private and not @allow drop;
//	                                   new connections over the rate or the number drop; accept
//	            oifname bn  jump in:   ct established,related accept; drop
//	postrouting: saddr subnet oifname not bn masquerade
func (n *Network) firewall() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	b := &rules{conn: c, table: &nftables.Table{Name: "binnacle_" + n.name, Family: nftables.TableFamilyINet}}
	c.AddTable(b.table) // so that the deletion finds it
	c.DelTable(b.table)
	c.AddTable(b.table)
	b.base("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	b.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	b.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	for _, name := range []string{"from", "self", "out", "in"} {
		c.AddChain(&nftables.Chain{Name: name, Table: b.table})
	}
	ours := []byte(n.name)
	b.rule("prerouting", from(ours), jump("from"))
	b.rule("from", family(unix.NFPROTO_IPV6), drop())
	b.rule("from", []expr.Any{&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true}, equal([]byte{0})}, drop())
	b.rule("input", from(ours), jump("self"))
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		b.rule("self", to(n.gateway), l4(proto), []expr.Any{dport(), equal([]byte{0, 53})}, accept())
	}
	b.rule("self", drop())
	b.rule("forward", from(ours), jump("out"))
	b.rule("forward", towards(ours), jump("in"))
	b.rule("in", established(), accept())
	b.rule("in", drop())
	if err := n.out(b, ours); err != nil {
		return err
	}
	b.rule("postrouting", saddrIn(n.subnet), []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, notEqual(ours)}, []expr.Any{&expr.Masq{}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the rules of nftables: %w", err)
	}
	return nil
}

func (n *Network) out(b *rules, ours []byte) error {
	deny, err := b.prefixes("deny", n.cfg.Deny)
	if err != nil {
		return err
	}
	allow, err := b.prefixes("allow", n.cfg.Allow)
	if err != nil {
		return err
	}
	closed := private()
	if !n.cfg.Outbound {
		closed = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	}
	shut, err := b.prefixes("private", closed)
	if err != nil {
		return err
	}
	b.rule("out", daddr(), in(deny), drop())
	for _, port := range n.cfg.DenyPorts {
		b.rule("out", l4(unix.IPPROTO_TCP), []expr.Any{dport(), equal(binary.BigEndian.AppendUint16(nil, port))}, drop())
	}
	b.rule("out", towards(ours), drop())
	b.rule("out", established(), accept())
	b.rule("out", daddr(), []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: allow.Name, SetID: allow.ID, Invert: true}}, in(shut), drop())
	rate, count := uint32(n.cfg.ConnectionRate), uint32(n.cfg.Connections) //nolint:gosec // Validate bounds both
	limit := &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(rate), Over: true, Unit: expr.LimitTimeSecond, Burst: 4 * rate}
	if err := b.meter("rate", unix.NFT_DYNSET_OP_UPDATE, true, limit); err != nil {
		return err
	}
	if err := b.meter("open", unix.NFT_DYNSET_OP_ADD, false, &expr.Connlimit{Count: count, Flags: expr.NFT_CONNLIMIT_F_INV}); err != nil {
		return err
	}
	b.rule("out", accept())
	return nil
}

func (n *Network) dropFirewall() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: "binnacle_" + n.name, Family: nftables.TableFamilyINet})
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove the rules of nftables: %w", err)
	}
	return nil
}

// warnForeign tells the operator of a firewall that will not let sessions out.
func (n *Network) warnForeign(ctx context.Context) {
	c, err := nftables.New()
	if err != nil {
		return
	}
	chains, err := c.ListChains()
	if err != nil {
		return
	}
	for _, chain := range chains {
		if chain.Hooknum == nil || *chain.Hooknum != *nftables.ChainHookForward || chain.Policy == nil || *chain.Policy != nftables.ChainPolicyDrop {
			continue
		}
		n.log.WarnContext(ctx, "another firewall may keep sessions and builds from the internet", "table", chain.Table.Name, "chain", chain.Name,
			"try", fmt.Sprintf("iptables -I FORWARD -i %[1]s+ -j ACCEPT; iptables -I FORWARD -o %[1]s+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", n.name))
	}
}

// rules collects a transaction.
type rules struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (b *rules) base(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) {
	policy := nftables.ChainPolicyAccept
	b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: typ, Hooknum: hook, Priority: prio, Policy: &policy})
}

func (b *rules) rule(chain string, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: &nftables.Chain{Name: chain, Table: b.table}, Exprs: slices.Concat(parts...)})
}

// prefixes makes a set of address ranges. IPv6 is left out: there is none in a
// namespace.
func (b *rules) prefixes(name string, list []netip.Prefix) (*nftables.Set, error) {
	set := &nftables.Set{Table: b.table, Name: name, KeyType: nftables.TypeIPAddr, Interval: true, KeyByteOrder: binaryutil.BigEndian}
	var elements []nftables.SetElement
	for _, r := range mergeRanges(list) {
		elements = append(elements, nftables.SetElement{Key: r.first.AsSlice()})
		if end := r.last.Next(); end.IsValid() { // a range up to the last address has no end
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	if err := b.conn.AddSet(set, elements); err != nil {
		return nil, fmt.Errorf("make the set %s: %w", name, err)
	}
	return set, nil
}

// meter drops new connections of an address that is over the limit.
func (b *rules) meter(name string, op uint32, timeout bool, over expr.Any) error {
	set := &nftables.Set{Table: b.table, Name: name, KeyType: nftables.TypeIPAddr, Dynamic: true, Size: 1 << 16, KeyByteOrder: binaryutil.BigEndian}
	if timeout {
		set.HasTimeout, set.Timeout = true, meterTimeout
	}
	if err := b.conn.AddSet(set, nil); err != nil {
		return fmt.Errorf("make the set %s: %w", name, err)
	}
	b.rule("out", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{unix.NFPROTO_IPV4}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: op, Exprs: []expr.Any{over}},
	}, drop())
	return nil
}

const meterTimeout = time.Minute // an address that is quiet is forgotten

type addrRange struct{ first, last netip.Addr }

func mergeRanges(list []netip.Prefix) []addrRange {
	var ranges []addrRange
	for _, p := range list {
		if !p.Addr().Is4() {
			continue
		}
		b := p.Masked().Addr().As4()
		last := binary.BigEndian.Uint32(b[:]) | uint32(1<<(32-p.Bits())-1)
		ranges = append(ranges, addrRange{p.Masked().Addr(), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last)))})
	}
	slices.SortFunc(ranges, func(a, b addrRange) int { return a.first.Compare(b.first) })
	var merged []addrRange
	for _, r := range ranges {
		if k := len(merged) - 1; k >= 0 && (r.first.Compare(merged[k].last) <= 0 || merged[k].last.Next() == r.first) {
			if r.last.Compare(merged[k].last) > 0 {
				merged[k].last = r.last
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

func equal(b []byte) *expr.Cmp    { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
func notEqual(b []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: b} }

// from and towards match every interface whose name begins with prefix: the
// comparison ends with the bytes given.
func from(prefix []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(bytes.Clone(prefix))}
}

func towards(prefix []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(bytes.Clone(prefix))}
}

func family(f byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{f})}
}

func l4(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

func dport() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func daddr() []expr.Any {
	return append(family(unix.NFPROTO_IPV4), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4})
}

func to(a netip.Addr) []expr.Any { return append(daddr(), equal(a.AsSlice())) }

func saddrIn(p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return append(family(unix.NFPROTO_IPV4),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		equal(p.Masked().Addr().AsSlice()))
}

func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func accept() []expr.Any           { return verdict(expr.VerdictAccept, "") }
func drop() []expr.Any             { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }
func jump(chain string) []expr.Any { return verdict(expr.VerdictJump, chain) }
