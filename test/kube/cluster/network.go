package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const maxClusters = 16

// claim makes the bridge of the first number that is free on this machine. The
// bridge is the claim: the kernel makes a name once. Its alias is our
// directory, by which a later `down` finds what a killed process left.
func (l *layout) claim() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for l.number = range maxClusters {
		if taken(routes, l.prefix()) {
			continue
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = l.bridge()
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); errors.Is(err, unix.EEXIST) {
			continue
		} else if err != nil {
			return fmt.Errorf("make the bridge %s: %w", l.bridge(), err)
		}
		return errors.Join(
			netlink.LinkSetAlias(bridge, l.dir),
			netlink.AddrAdd(bridge, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(l.host(), 24))}),
			netlink.LinkSetUp(bridge),
		)
	}
	return fmt.Errorf("none of the %d networks for clusters is free on this machine; `make kube-down` removes what one left", maxClusters)
}

func taken(routes []netlink.Route, p netip.Prefix) bool {
	const wide = 12 // a route to all of 10.0.0.0/8 does not mean that all of it is used
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > wide && netip.PrefixFrom(a, ones).Overlaps(p) {
			return true
		}
	}
	return false
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// connect gives a node, the namespace of process pid, its cable to the bridge,
// and this machine the routes to its pods. Services are reached through the first node;
// see [cluster.reroute].
func (l layout) connect(ctx context.Context, i, pid int) error {
	bridge, err := netlink.LinkByName(l.bridge())
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = l.veth(i), bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	// The one of a node that has just ended goes a moment later.
	const attempts, pause = 100, 50 * time.Millisecond
	for range attempts {
		if err = netlink.LinkAdd(veth); !errors.Is(err, unix.EEXIST) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	if err != nil {
		return fmt.Errorf("make the interface of %s: %w", nodeName(i), err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("switch on the interface of %s: %w", nodeName(i), err)
	}
	if err := netlink.RouteReplace(l.route(bridge, l.podsOf(i), i)); err != nil {
		return fmt.Errorf("make the route to the pods of %s: %w", nodeName(i), err)
	}
	// Where there is one already, connections are on their way there.
	if err := netlink.RouteAdd(l.route(bridge, l.services(), i)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the route to Services: %w", err)
	}
	return nil
}

// route leads this machine to a part of the cluster's addresses through node i.
func (l layout) route(bridge netlink.Link, to netip.Prefix, i int) *netlink.Route {
	return &netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: ipNet(to), Gw: l.node(i).AsSlice(), Src: l.host().AsSlice()}
}

// reroute lets Services be reached through a node that runs, as a cloud's load balancer
// does when one has ended; without any, through the next that starts.
func (c *cluster) reroute() error {
	bridge, err := netlink.LinkByName(c.bridge())
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(c.services())}, netlink.RT_FILTER_DST)
	if err != nil {
		return fmt.Errorf("find the route to Services: %w", err)
	}
	running := 0
	for i := c.cfg.Nodes; i > 0; i-- {
		p := c.processes.list()[nodeName(i)]
		if p == nil {
			continue
		}
		select {
		case <-p.done:
		default:
			running = i
			if slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.Equal(c.node(i).AsSlice()) }) {
				return nil
			}
		}
	}
	if running > 0 {
		return netlink.RouteReplace(c.route(bridge, c.services(), running))
	}
	for _, r := range routes {
		if err := netlink.RouteDel(&r); err != nil {
			return err
		}
	}
	return nil
}

// masquerade lets pods reach what this machine reaches:
//
//	postrouting: ip saddr 10.N.0.0/16 oifname != bridge masquerade
//
// and switches forwarding on, as every node of a Kubernetes does.
func (l layout) masquerade() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch forwarding on: %w", err)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Name: l.table(), Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	ours := l.prefix().Addr().As4()
	ifname := make([]byte, unix.IFNAMSIZ)
	copy(ifname, l.bridge())
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ours[:2]},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname},
		&expr.Masq{},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the rules of nftables: %w", err)
	}
	return nil
}

// disconnect removes the bridge and the rules; interfaces of nodes went with
// their namespaces, routes go with the bridge.
func (l layout) disconnect() error {
	var errs []error
	c, err := nftables.New()
	if err == nil {
		t := c.AddTable(&nftables.Table{Name: l.table(), Family: nftables.TableFamilyIPv4}) // so that the deletion finds it
		c.DelTable(t)
		err = c.Flush()
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("remove the rules of nftables: %w", err))
	}
	links, err := netlink.LinkList()
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list interfaces: %w", err))...)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if name != l.bridge() && !strings.HasPrefix(name, l.bridge()+"n") {
			continue
		}
		if err := netlink.LinkDel(link); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove the interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// numberOf finds the cluster whose files are in dir, by the alias of its bridge.
func numberOf(dir string) (int, bool) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, false
	}
	for _, link := range links {
		var n int
		if _, err := fmt.Sscanf(link.Attrs().Name, "bnk%d", &n); err == nil && link.Attrs().Alias == dir && link.Type() == "bridge" {
			return n, true
		}
	}
	return 0, false
}
