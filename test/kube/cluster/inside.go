package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inside is the first process of a node. It reads what the node is to be,
// makes it so, and then starts the node's programs again whenever they end.
func Inside(stdin io.Reader) error {
	var spec nodeSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return fmt.Errorf("read what the node is to be: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("set the name of the node: %w", err)
	}
	if err := mounts(spec); err != nil {
		return err
	}
	if err := interfaces(spec); err != nil {
		return err
	}
	return supervise(spec)
}

// mounts gives the node its own places below /var/lib, /var/log and /run, so
// that its programs are where they are on every node. Nothing of it is seen
// outside.
func mounts(spec nodeSpec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("part from the machine's mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil { // kubelet and containers share mounts
		return fmt.Errorf("part from the machine's mounts: %w", err)
	}
	aside := filepath.Join(spec.Dir, "cgroup")
	steps := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"proc", "/proc", "proc", 0},
		{spec.Bin, filepath.Join(spec.Dir, "..", "bin"), "", unix.MS_BIND}, // before what may cover it
		{"/sys/fs/cgroup", aside, "", unix.MS_BIND | unix.MS_REC},
		{"sysfs", "/sys", "sysfs", 0}, // shows the interfaces of this network
		{aside, "/sys/fs/cgroup", "", unix.MS_BIND | unix.MS_REC},
		{filepath.Join(spec.Dir, "lib"), "/var/lib", "", unix.MS_BIND},
		{filepath.Join(spec.Dir, "log"), "/var/log", "", unix.MS_BIND},
		{filepath.Join(spec.Dir, "run"), "/run", "", unix.MS_BIND},
	}
	for _, s := range steps {
		if err := unix.Mount(s.source, s.target, s.kind, s.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", s.target, err)
		}
	}
	// Private first, else the hierarchies would go from the other place too.
	if err := errors.Join(unix.Mount("", aside, "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Unmount(aside, unix.MNT_DETACH)); err != nil {
		return fmt.Errorf("mount /sys/fs/cgroup: %w", err)
	}
	// /etc/resolv.conf is often a link into /run, which is empty now.
	resolv := "/etc/resolv.conf"
	if link, err := os.Readlink(resolv); err == nil {
		if !filepath.IsAbs(link) {
			link = filepath.Join("/etc", link)
		}
		resolv = link
		_ = os.MkdirAll(filepath.Dir(resolv), 0o755)
	}
	own := filepath.Join(spec.Dir, "..", "etc", "resolv.conf")
	if _, err := os.Stat(resolv); err != nil {
		b, err := os.ReadFile(own)
		if err != nil {
			return err
		}
		return os.WriteFile(resolv, b, 0o644)
	}
	if err := unix.Mount(own, resolv, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/resolv.conf: %w", err)
	}
	return nil
}

// interfaces configures the node's end of the cable.
func interfaces(spec nodeSpec) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch forwarding on: %w", err)
	}
	address, err := netlink.ParseAddr(spec.Address)
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	err = errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(eth, address), netlink.LinkSetUp(eth),
		netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(spec.Gateway)}))
	for to, via := range spec.Routes {
		p, parse := netip.ParsePrefix(to)
		err = errors.Join(err, parse, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(p), Gw: net.ParseIP(via)}))
	}
	if err != nil {
		return fmt.Errorf("configure the network of the node: %w", err)
	}
	return nil
}

// supervise is what process 1 does for ever: start programs, and take leave of
// every process that ends, its own children and orphans alike.
func supervise(spec nodeSpec) error {
	running := map[int]program{}
	for _, p := range spec.Programs {
		if err := launch(spec, running, p); err != nil {
			return err
		}
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for programs: %w", err)
		}
		p, ours := running[pid]
		if !ours {
			continue
		}
		delete(running, pid)
		fmt.Fprintf(os.Stderr, "%s ended (%d, %v); starting it again\n", p.Name, status.ExitStatus(), status.Signal())
		const pause = time.Second
		time.Sleep(pause) // what ends at once is not started in a tight loop
		if err := launch(spec, running, p); err != nil {
			return err
		}
	}
}

func launch(spec nodeSpec, running map[int]program, p program) error {
	log, err := os.OpenFile(filepath.Join(spec.Logs, spec.Name+"-"+p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	// Not os/exec: it would wait for its child itself.
	proc, err := os.StartProcess(p.Args[0], p.Args, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{null, log, log}, Dir: "/"})
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	running[proc.Pid] = p
	return proc.Release()
}
