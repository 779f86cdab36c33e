// Package farhost is another machine for tests of what reaches the network: a
// namespace with an address of its own, behind a pair of interfaces. Builds and
// sessions may not reach the machine they run on, so a server that stands in
// for one of the internet has to be elsewhere.
package farhost

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is the other machine.
type Host struct {
	ns    netns.NsHandle
	link  string
	block byte // its network is 198.51.100.block/30, of RFC 5737, which is nobody's
}

const (
	blocks = 64
	bits   = 30
)

// Network is what a hub must allow for builds to reach the host.
func (h *Host) Network() netip.Prefix { return netip.PrefixFrom(h.at(0), bits) }

func (h *Host) at(i byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, h.block + i}) }

// New makes it; needs root.
func New() (*Host, error) {
	h := &Host{ns: netns.None()}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	h.ns, err = netns.New()
	if err == nil {
		err = netns.Set(home)
	}
	if err != nil {
		return nil, err // the thread stays locked: it is in the wrong namespace
	}
	runtime.UnlockOSThread()
	if err := h.connect(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// take makes the pair of interfaces, in the first network that no other process has:
// there is one interface of a name.
func (h *Host) take() error {
	for i := range blocks {
		h.block = byte((os.Getpid() + i) % blocks * 4)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("bnf%d", h.block)
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(h.ns))})
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			h.link = attrs.Name
		}
		return err
	}
	return errors.New("all networks for other machines are taken")
}

func (h *Host) connect() error {
	if err := h.take(); err != nil {
		return err
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := netlink.NewHandleAt(h.ns)
	if err != nil {
		return err
	}
	defer there.Close()
	return errors.Join(up(here, h.link, h.at(1)), up(there, "eth0", h.Addr()))
}

func up(h *netlink.Handle, name string, address netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(netip.PrefixFrom(address, bits).String())
	if err != nil {
		return err
	}
	return errors.Join(h.AddrAdd(link, a), h.LinkSetUp(link))
}

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.at(2) }

// Listen opens a free port of the host.
func (h *Host) Listen() (net.Listener, error) { return h.ListenOn(0) }

// ListenOn opens a port of the host.
func (h *Host) ListenOn(port uint16) (net.Listener, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := netns.Set(h.ns); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", netip.AddrPortFrom(h.Addr(), port).String())
	if back := netns.Set(home); back != nil {
		return nil, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return l, err
}

// Close removes the host; its listeners are the caller's to close.
func (h *Host) Close() error {
	var errs []error
	if link, err := netlink.LinkByName(h.link); err == nil && h.link != "" {
		errs = append(errs, netlink.LinkDel(link))
	}
	if h.ns.IsOpen() {
		errs = append(errs, h.ns.Close())
	}
	return errors.Join(errs...)
}
