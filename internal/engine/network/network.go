// Package network gives sessions and build steps a network namespace each: one
// address, the way out to the public internet and a resolver, and nothing else.
// No namespace reaches another one, this machine, its private neighbours or a
// cloud's metadata service, unless the operator allows the address.
//
// Every namespace has a routed veth pair of its own; there is no shared segment
// on which one could pose as another. The gateway address sits on a bridge
// without ports, where a forwarder of ours answers DNS. The rules are one
// nftables table. Both are named after the data directory, so several hubs on a
// machine do not meet. Everything is kept by the kernel: a new process finds it
// again, and sessions stay connected while no process runs.
//
// Other firewalls keep their say: a packet passes only if every table lets it.
// Docker sets the FORWARD policy to DROP; New warns and names the rules to add.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/binnacle-hub/binnacle"
)

// Defaults of Config.
const (
	DefaultConnections    = 1000
	DefaultConnectionRate = 50
)

// Config of the network.
type Config struct {
	// Dir is the data directory: namespaces are pinned in netns/ below it and
	// the names of interfaces and tables are derived from it.
	Dir string
	// Subnet holds the addresses, /24 or larger. The zero value takes a free
	// /20 out of 10.192.0.0/10.
	Subnet netip.Prefix
	// Outbound lets namespaces out to public addresses. Allow holds without it.
	Outbound bool
	// Allow lists addresses that are reachable although they are private. It
	// never opens this machine itself or another namespace.
	Allow []netip.Prefix
	// Deny lists addresses that are not reachable although they are public; it
	// wins over Allow.
	Deny []netip.Prefix
	// DenyPorts are TCP ports nobody may connect to, such as 25.
	DenyPorts []uint16
	// DNS are the resolvers asked for namespaces; empty takes the machine's.
	DNS []netip.AddrPort
	// Connections is how many connections one namespace may have open; 0 is
	// DefaultConnections.
	Connections int
	// ConnectionRate is how many new ones it may open a second, after a burst of
	// four times as many; 0 is DefaultConnectionRate.
	ConnectionRate int
}

// DefaultConfig lets namespaces out to the public internet, but for mail.
func DefaultConfig() Config {
	return Config{Outbound: true, DenyPorts: []uint16{25}}
}

// Validate reports every problem.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: must be set"))
	}
	if c.Subnet.IsValid() && (!c.Subnet.Addr().Is4() || c.Subnet.Bits() > 24 || c.Subnet.Bits() < 8) {
		errs = append(errs, fmt.Errorf("subnet: must be an IPv4 network between /8 and /24, not %s", c.Subnet))
	}
	const most = 1 << 20
	if c.Connections < 0 || c.Connections > most || c.ConnectionRate < 0 || c.ConnectionRate > most {
		errs = append(errs, fmt.Errorf("connections, connection_rate: must be between 0 and %d", most))
	}
	return errors.Join(errs...)
}

// Network makes namespaces. Its methods are safe for concurrent use.
type Network struct {
	cfg      Config
	log      *slog.Logger
	name     string // of the bridge and the table, and how every interface begins
	dir      string
	subnet   netip.Prefix
	gateway  netip.Addr
	upstream []netip.AddrPort
	mtu      int

	mu   sync.Mutex
	byID map[string]netip.Addr
	used map[netip.Addr]bool
	next netip.Addr
}

// New sets the network up, or finds what an earlier process set up and brings
// it to cfg. Namespaces of build steps are removed, because no build outlives
// its process. Returns invalid for a wrong cfg, conflict when the subnet is in
// use, unavailable when the kernel refuses.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "network.new", Message: "The network's configuration is wrong.", Err: err}
	}
	if cfg.Connections == 0 {
		cfg.Connections = DefaultConnections
	}
	if cfg.ConnectionRate == 0 {
		cfg.ConnectionRate = DefaultConnectionRate
	}
	sum := sha256.Sum256([]byte(filepath.Clean(cfg.Dir)))
	n := &Network{
		cfg: cfg, log: log, name: "bn" + hex.EncodeToString(sum[:3]), dir: filepath.Join(cfg.Dir, "netns"),
		byID: map[string]netip.Addr{}, used: map[netip.Addr]bool{}, upstream: cfg.DNS,
	}
	if len(n.upstream) == 0 {
		n.upstream = systemResolvers()
	}
	if err := n.setUp(ctx); err != nil {
		return nil, &binnacle.Error{
			Code: codeOr(err, binnacle.CodeUnavailable), Op: "network.new", Message: "The network of sessions could not be set up.",
			Hint: "Run as root, and see `binnacle doctor`.", Err: err,
		}
	}
	return n, nil
}

func (n *Network) setUp(ctx context.Context) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of namespaces: %w", err)
	}
	n.mtu = uplinkMTU()
	if err := n.bridge(); err != nil {
		return err
	}
	n.next = n.gateway
	if err := n.recover(ctx); err != nil {
		return err
	}
	if err := n.forwarding(ctx); err != nil {
		return err
	}
	if err := n.firewall(); err != nil {
		return err
	}
	n.warnForeign(ctx)
	return n.Sweep(ctx, func(id string) bool { return !strings.HasPrefix(id, buildPrefix) })
}

// bridge makes the interface that holds the gateway address, or takes the
// subnet from the one that is there.
func (n *Network) bridge() (err error) {
	link, err := netlink.LinkByName(n.name)
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		return fmt.Errorf("look for %s: %w", n.name, err)
	}
	if link == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.name
		link = &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("make %s: %w", n.name, err)
		}
		defer func() {
			if err != nil { // such as a subnet that is in use
				err = errors.Join(err, netlink.LinkDel(link))
			}
		}()
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("read the address of %s: %w", n.name, err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && (!n.cfg.Subnet.IsValid() || n.cfg.Subnet.Masked() == p.Masked()) {
			n.subnet, n.gateway = p.Masked(), p.Addr()
			return netlink.LinkSetUp(link)
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("take the old address from %s: %w", n.name, err)
		}
	}
	if n.subnet, err = n.chooseSubnet(); err != nil {
		return err
	}
	n.gateway = n.subnet.Addr().Next()
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: n.gateway.AsSlice(), Mask: net.CIDRMask(n.subnet.Bits(), 32)}}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", n.name, n.gateway, err)
	}
	return netlink.LinkSetUp(link)
}

// forwarding lets this machine pass packets on. It is a setting of the whole
// machine, so we say when we change it, and never set it back: others may rely
// on it by then.
func (n *Network) forwarding(ctx context.Context) error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read whether this machine forwards packets: %w", err)
	}
	if strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch packet forwarding on: %w", err)
	}
	n.log.InfoContext(ctx, "switched packet forwarding on for this machine", "setting", "net.ipv4.ip_forward")
	return nil
}

// Gateway is where namespaces send their packets and their DNS questions.
func (n *Network) Gateway() netip.Addr { return n.gateway }

// Subnet holds all addresses of namespaces.
func (n *Network) Subnet() netip.Prefix { return n.subnet }

// ResolvConf is the resolv.conf of a namespace.
func (n *Network) ResolvConf() string {
	return "nameserver " + n.gateway.String() + "\noptions timeout:3 attempts:3\n"
}

// Close lets go of the network without changing it: sessions stay connected,
// only names do not resolve until the next Run.
func (n *Network) Close() error { return nil }

// Remove takes everything away: namespaces, interfaces, rules.
func (n *Network) Remove(ctx context.Context) error {
	errs := []error{n.Sweep(ctx, func(string) bool { return false }), n.dropFirewall()}
	if link, err := netlink.LinkByName(n.name); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	if err := os.Remove(n.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove the directory of namespaces: %w", err))
	}
	return errors.Join(errs...)
}
