package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/engine/runtime"
)

func checkRoot(context.Context, config.Config) finding {
	const name = "root"
	if os.Geteuid() != 0 {
		return fail(name, "sudo binnacle …", "Sessions need root: network namespaces, mounts and control groups.")
	}
	have, err := effectiveCapabilities()
	if err != nil {
		return warn(name, "", "The capabilities can't be read: %v.", err)
	}
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{
		{unix.CAP_SYS_ADMIN, "SYS_ADMIN"},
		{unix.CAP_NET_ADMIN, "NET_ADMIN"},
		{unix.CAP_CHOWN, "CHOWN"},
		{unix.CAP_DAC_OVERRIDE, "DAC_OVERRIDE"},
		{unix.CAP_SETUID, "SETUID"},
		{unix.CAP_SETGID, "SETGID"},
		{unix.CAP_MKNOD, "MKNOD"},
		{unix.CAP_KILL, "KILL"},
	} {
		if have&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fail(name, "run this container with --privileged, or on a virtual machine", "Root here lacks the capabilities %s.", strings.Join(missing, ", "))
	}
	return good(name, "root, with the capabilities that are needed")
}

func effectiveCapabilities() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return 0, errors.New("no CapEff in /proc/self/status")
}

func checkKernel(context.Context, config.Config) finding {
	const name, major, minor = "kernel", 5, 10
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return warn(name, "", "The version can't be read: %v.", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	v := numbers(release)
	if v[0] < major || (v[0] == major && v[1] < minor) {
		return fail(name, "apt-get install linux-image-generic && reboot", "Linux %s is older than %d.%d.", release, major, minor)
	}
	return good(name, "Linux %s", release)
}

func checkNamespaces(context.Context, config.Config) finding {
	const name = "namespaces"
	var missing []string
	for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "cgroup"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			missing = append(missing, ns)
		}
	}
	if len(missing) > 0 {
		return fail(name, "use a distribution's own kernel", "The kernel has no namespaces of kind %s.", strings.Join(missing, ", "))
	}
	return good(name, "all kinds that containers need")
}

func checkOverlay(ctx context.Context, _ config.Config) finding {
	const name = "overlayfs"
	if hasFilesystem("overlay") {
		return good(name, "there")
	}
	// The module may only not be loaded yet.
	if err := exec.CommandContext(ctx, "modprobe", "overlay").Run(); err == nil && hasFilesystem("overlay") {
		return good(name, "there")
	}
	return fail(name, "modprobe overlay", "The kernel can't mount overlayfs.")
}

func hasFilesystem(want string) bool {
	f, err := os.Open("/proc/filesystems")
	if err != nil {
		return false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 0 && fields[len(fields)-1] == want {
			return true
		}
	}
	return false
}

func checkFirewall(context.Context, config.Config) finding {
	const name = "nftables"
	conn, err := nftables.New()
	if err == nil {
		_, err = conn.ListTables()
	}
	if err != nil && os.Geteuid() != 0 {
		return warn(name, "sudo binnacle doctor", "Only root can tell.")
	}
	if err != nil {
		return fail(name, "modprobe nf_tables", "The kernel refuses: %v.", err)
	}
	return good(name, "there")
}

// checkCgroups tells the layout and which limits hold.
func checkCgroups(context.Context, config.Config) finding {
	const name, root = "cgroups", "/sys/fs/cgroup"
	controllers, layout := map[string]bool{}, "v1"
	if b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		layout = "v2"
		for c := range strings.FieldsSeq(string(b)) {
			controllers[c] = true
		}
	} else {
		if _, err := os.Stat(filepath.Join(root, "unified", "cgroup.procs")); err == nil {
			layout = "hybrid (v1 controllers)"
		}
		for _, c := range []string{"memory", "cpu", "pids"} {
			if _, err := os.Stat(filepath.Join(root, c, "cgroup.procs")); err == nil {
				controllers[c] = true
			}
		}
	}
	var missing []string
	for _, c := range []string{"memory", "cpu", "pids"} {
		if !controllers[c] {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return fail(name, "add cgroup_enable=memory to the kernel's command line and reboot", "%s, without %s: limits would not hold.", layout, strings.Join(missing, ", "))
	}
	return good(name, "%s, with memory, cpu and pids", layout)
}

func checkRuntime(ctx context.Context, _ config.Config) finding {
	const name = "runc"
	dir, err := os.MkdirTemp("", "binnacle-doctor-")
	if err != nil {
		return warn(name, "", "It can't be tried: %v.", err)
	}
	defer os.RemoveAll(dir)
	paths, err := runtime.Install(dir)
	if err != nil {
		return fail(name, "make build", "This build carries no runc or no shim, and the machine has none.")
	}
	where := "part of this program"
	if !runtime.Embedded(runtime.Runc) {
		where = paths.Runc
	}
	out, err := exec.CommandContext(ctx, paths.Runc, "--version").Output()
	if err != nil {
		return fail(name, "make build", "%s does not run: %v.", where, err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	version := strings.TrimPrefix(first, "runc version ")
	if cve := runcFault(version); cve != "" {
		return fail(name, "make build", "%s is version %s, which lets an image break out (%s).", where, version, cve)
	}
	return good(name, "%s, %s", version, where)
}

// runcFault names the advisory that a version of runc is open to: escapes by
// the content of an image alone. Empty is none that is known.
func runcFault(version string) string {
	v := numbers(version)
	before := func(minor, patch int) bool { return v[0] == 1 && v[1] == minor && v[2] < patch }
	switch {
	case v[0] < 1, v[0] == 1 && v[1] < 2, before(2, 8), before(3, 3):
		return "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881"
	case v[0] == 1 && v[1] == 2, before(3, 6), before(4, 3):
		return "CVE-2026-41579"
	default:
		return ""
	}
}

// numbers reads "1.2.3-rc1+x" as 1, 2, 3; what is missing is 0.
func numbers(version string) [3]int {
	var out [3]int
	version = strings.TrimPrefix(version, "v")
	for i, part := range strings.SplitN(version, ".", 3) {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			part = part[:end]
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out[i] = n
	}
	return out
}

func checkGit(ctx context.Context, c config.Config) finding {
	const name = "git"
	out, err := exec.CommandContext(ctx, c.Source.Git, "--version").Output()
	if err != nil {
		return fail(name, "apt-get install git", "%s does not run: %v.", c.Source.Git, err)
	}
	version := strings.TrimSpace(strings.TrimPrefix(string(out), "git version "))
	v := numbers(version)
	if v[0] < 2 || (v[0] == 2 && v[1] < 34) {
		return fail(name, "apt-get install git", "Version %s is older than 2.34.", version)
	}
	if _, err := exec.LookPath("git-lfs"); err != nil && c.Source.LFS {
		return warn(name, "apt-get install git-lfs", "%s; without git-lfs large files stay pointers.", version)
	}
	return good(name, "%s", version)
}

func checkBase(_ context.Context, c config.Config) finding {
	const name = "base image"
	if c.Base.Image != "" {
		return good(name, "%s, as configured", c.Base.Image)
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return fail(name, "apt-get install mmdebstrap", "mmdebstrap, which installs the base image, is missing, and no base.image is configured.")
	}
	return good(name, "mmdebstrap installs Debian %s", c.Base.Suite)
}

func sizeText(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
