package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
)

// Namespace is a network namespace with its address.
type Namespace struct {
	ID   string
	Path string // of the pinned namespace, for setns(2)
	Addr netip.Addr
}

// Attach makes a namespace that stays until Detach. The id is [a-z0-9-], at
// most 63 characters. Returns invalid for another id, conflict for one that is
// there, limited when no address is free. It leaves nothing when it fails.
func (n *Network) Attach(ctx context.Context, id string) (Namespace, error) {
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`).MatchString(id) {
		return Namespace{}, binnacle.Errorf(binnacle.CodeInvalid, "A network cannot be called %q.", id)
	}
	addr, err := n.reserve(id)
	if err != nil {
		return Namespace{}, err
	}
	ns := Namespace{ID: id, Path: filepath.Join(n.dir, id), Addr: addr}
	if err := n.attach(ns); err != nil {
		return Namespace{}, errors.Join(fmt.Errorf("make the network of %s: %w", id, err), n.Detach(context.WithoutCancel(ctx), id))
	}
	return ns, nil
}

func (n *Network) attach(ns Namespace) error {
	inside, fd, err := pinNamespace(ns.Path)
	if err != nil {
		return err
	}
	defer inside.Close()
	defer unix.Close(fd)
	// Fixed hardware addresses and permanent neighbours: nothing is learnt, so
	// nothing can be forged.
	ip := ns.Addr.As4()
	outerMAC := net.HardwareAddr{0x02, 0xb1, ip[0], ip[1], ip[2], ip[3]}
	innerMAC := net.HardwareAddr{0x02, 0xb2, ip[0], ip[1], ip[2], ip[3]}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.linkName(ns.Addr), n.mtu, outerMAC
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: innerMAC, PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make its interface: %w", err)
	}
	if err := netlink.LinkSetAlias(veth, ns.ID); err != nil { // the kernel takes none while it makes the interface
		return fmt.Errorf("label its interface: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("switch its interface on: %w", err)
	}
	host := &net.IPNet{IP: ns.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := configureInside(inside, host, n.gateway, outerMAC); err != nil {
		return err
	}
	neigh := &netlink.Neigh{LinkIndex: veth.Index, State: netlink.NUD_PERMANENT, IP: host.IP, HardwareAddr: innerMAC}
	if err := netlink.NeighSet(neigh); err != nil {
		return fmt.Errorf("tell its hardware address: %w", err)
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: veth.Index, Dst: host, Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("make the route to it: %w", err)
	}
	return nil
}

func configureInside(h *netlink.Handle, host *net.IPNet, gateway netip.Addr, gatewayMAC net.HardwareAddr) error {
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find its inner interface: %w", err)
	}
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: host}); err != nil {
		return fmt.Errorf("give it its address: %w", err)
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fmt.Errorf("switch its inner interface on: %w", err)
	}
	index, gw := eth.Attrs().Index, net.IP(gateway.AsSlice())
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gw, HardwareAddr: gatewayMAC}
	if err := h.NeighSet(neigh); err != nil {
		return fmt.Errorf("tell it the gateway's hardware address: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gw, Flags: int(netlink.FLAG_ONLINK)}); err != nil {
		return fmt.Errorf("make its default route: %w", err)
	}
	return nil
}

// pinNamespace makes an empty namespace with loopback and without IPv6, bound
// to path, and returns a netlink handle and a descriptor of it.
func pinNamespace(path string) (_ *netlink.Handle, fd int, err error) {
	// A namespace belongs to a thread. The thread comes back to the goroutines
	// only in its old namespace; otherwise it stays locked and dies.
	runtime.LockOSThread()
	old, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, -1, fmt.Errorf("open our own network: %w", err)
	}
	defer unix.Close(old)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, -1, fmt.Errorf("make an empty network: %w", err)
	}
	defer func() {
		if back := unix.Setns(old, unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("come back from the new network: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	for _, which := range []string{"all", "default"} {
		file := "/proc/sys/net/ipv6/conf/" + which + "/disable_ipv6"
		if err := os.WriteFile(file, []byte("1"), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, -1, fmt.Errorf("switch IPv6 off: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return nil, -1, fmt.Errorf("pin it: %w", err)
	}
	if err := errors.Join(f.Close(), unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")); err != nil {
		return nil, -1, fmt.Errorf("pin it: %w", err)
	}
	if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, -1, fmt.Errorf("open it: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, -1, errors.Join(fmt.Errorf("talk to it: %w", err), unix.Close(fd))
	}
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		h.Close()
		return nil, -1, errors.Join(fmt.Errorf("switch its loopback on: %w", err), unix.Close(fd))
	}
	return h, fd, nil
}

// Detach removes a namespace; one that is not there is no error. Processes that
// still run in it lose their network.
func (n *Network) Detach(_ context.Context, id string) error {
	n.mu.Lock()
	addr, ok := n.byID[id]
	n.mu.Unlock()
	var errs []error
	if ok {
		link, err := netlink.LinkByName(n.linkName(addr))
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove the interface of %s: %w", id, err))
		}
	}
	errs = append(errs, unpin(filepath.Join(n.dir, filepath.Base(id))))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.byID, id)
	delete(n.used, addr)
	n.mu.Unlock()
	return nil
}

func unpin(path string) error {
	// EINVAL: a plain file, after a restart of the machine or a cut-off Attach.
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin the namespace %s: %w", filepath.Base(path), err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin the namespace %s: %w", filepath.Base(path), err)
	}
	return nil
}

// List returns all namespaces, by id.
func (n *Network) List() []Namespace {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]Namespace, 0, len(n.byID))
	for id, addr := range n.byID {
		list = append(list, Namespace{ID: id, Path: filepath.Join(n.dir, id), Addr: addr})
	}
	slices.SortFunc(list, func(a, b Namespace) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Sweep removes the namespaces that keep does not want.
func (n *Network) Sweep(ctx context.Context, keep func(id string) bool) error {
	var errs []error
	for _, ns := range n.List() {
		if !keep(ns.ID) {
			errs = append(errs, n.Detach(ctx, ns.ID))
		}
	}
	return errors.Join(errs...)
}

// reserve takes the next free address in turn, so that one that was just given
// back is not used at once.
func (n *Network) reserve(id string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.byID[id]; ok {
		return netip.Addr{}, binnacle.Errorf(binnacle.CodeConflict, "A network for %s is there already.", id)
	}
	for range 1 << (32 - n.subnet.Bits()) {
		n.next = n.next.Next()
		if !n.subnet.Contains(n.next) {
			n.next = n.subnet.Addr().Next()
		}
		last := !n.subnet.Contains(n.next.Next()) // the broadcast address
		if n.next == n.gateway || last || n.used[n.next] {
			continue
		}
		n.byID[id], n.used[n.next] = n.next, true
		return n.next, nil
	}
	return netip.Addr{}, binnacle.Errorf(binnacle.CodeLimited, "No address is free for another session.")
}

func (n *Network) linkName(addr netip.Addr) string {
	return n.name + "-" + strconv.FormatUint(uint64(offset(n.subnet, addr)), 16)
}

func offset(p netip.Prefix, a netip.Addr) uint32 {
	x, y := p.Addr().As4(), a.As4()
	var d uint32
	for i := range x {
		d = d<<8 | uint32(y[i]-x[i])
	}
	return d
}

func addOffset(p netip.Prefix, d uint32) netip.Addr {
	b := p.Addr().As4()
	for i := range b {
		b[i] += byte(d >> (24 - 8*i) & 0xff)
	}
	return netip.AddrFrom4(b)
}

// recover learns from the kernel what is there: an interface tells the address
// by its name and the id by its alias. What is only half there is removed.
func (n *Network) recover(ctx context.Context) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		hexOffset, ours := strings.CutPrefix(link.Attrs().Name, n.name+"-")
		if !ours {
			continue
		}
		id := link.Attrs().Alias
		d, err := strconv.ParseUint(hexOffset, 16, 32)
		if err != nil || id == "" || !pinned(filepath.Join(n.dir, id)) || !n.subnet.Contains(addOffset(n.subnet, uint32(d))) {
			n.log.InfoContext(ctx, "removed an interface without a namespace", "interface", link.Attrs().Name)
			if err := netlink.LinkDel(link); err != nil {
				return fmt.Errorf("remove %s: %w", link.Attrs().Name, err)
			}
			continue
		}
		addr := addOffset(n.subnet, uint32(d))
		n.byID[id], n.used[addr] = addr, true
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		if _, ok := n.byID[e.Name()]; !ok {
			if err := unpin(filepath.Join(n.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
