package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
)

// layout is where everything of one cluster is: its files, its addresses, its
// names in the kernel. Up to 16 clusters fit on a machine, told apart by their
// number.
type layout struct {
	number int
	dir    string // its files; all of them go when it stops
	bin    string // programs, as this machine finds them
}

// Addresses: the cluster has 10.(64+number).0.0/16.
func (l layout) prefix() netip.Prefix { return netip.PrefixFrom(l.addr(0, 0), 16) }

func (l layout) addr(c, d int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(64 + l.number), byte(c), byte(d)})
}

func (l layout) host() netip.Addr       { return l.addr(0, 1) } // this machine, as the nodes see it
func (l layout) node(i int) netip.Addr  { return l.addr(0, 10+i) }
func (l layout) services() netip.Prefix { return netip.PrefixFrom(l.addr(16, 0), 20) }
func (l layout) apiService() netip.Addr { return l.addr(16, 1) }
func (l layout) dnsService() netip.Addr { return l.addr(16, 10) }
func (l layout) pods() netip.Prefix     { return netip.PrefixFrom(l.addr(128, 0), 17) }
func (l layout) podsOf(i int) netip.Prefix {
	return netip.PrefixFrom(l.addr(128+i, 0), 24)
}

// balancer is the address of the i-th Service of type LoadBalancer.
func (l layout) balancer(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 64, byte(l.number), byte(i)})
}

func (l layout) server() string   { return "https://" + net.JoinHostPort(l.host().String(), "6443") }
func (l layout) registry() string { return net.JoinHostPort(l.host().String(), "5000") }

// Names in the kernel.
func (l layout) bridge() string    { return "bnk" + strconv.Itoa(l.number) }
func (l layout) veth(i int) string { return fmt.Sprintf("bnk%dn%d", l.number, i) }
func (l layout) table() string     { return "binnacle_" + l.bridge() }
func (l layout) cgroup(i int) string {
	return fmt.Sprintf("/binnacle-kube%d-%s", l.number, nodeName(i))
}
func nodeName(i int) string              { return "node" + strconv.Itoa(i) }
func (l layout) path(p ...string) string { return filepath.Join(append([]string{l.dir}, p...)...) }

func (l layout) program(name string) string { return filepath.Join(l.bin, name) }

// nodeBin is where nodes find the programs: the checkout may be below a place
// that they have their own of.
func (l layout) nodeBin() string { return l.path("bin") }

func (l layout) nodeProgram(name string) string { return filepath.Join(l.nodeBin(), name) }
