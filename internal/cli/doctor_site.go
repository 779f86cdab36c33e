package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle/internal/config"
)

func checkData(_ context.Context, c config.Config) finding {
	const name = "data"
	dir := existing(c.Data)
	if unix.Access(dir, unix.W_OK) != nil {
		return fail(name, "sudo binnacle …, or choose another directory with --data", "%s can't be written.", dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil {
		switch int64(st.Type) { //nolint:unconvert // its type differs between architectures
		case unix.OVERLAYFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC:
			return fail(name, "choose a directory on a local disk with --data", "%s is on a file system that overlayfs can't stand on.", c.Data)
		}
		if st.Flags&unix.ST_NOEXEC != 0 || st.Flags&unix.ST_NODEV != 0 {
			return warn(name, "choose another directory with --data", "%s is mounted noexec or nodev: some images will not build.", c.Data)
		}
	}
	return good(name, "%s", c.Data)
}

// existing is the nearest directory above path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) || path == "/" { //nolint:gosec // the operator names it
			return path
		}
		path = filepath.Dir(path)
	}
}

func checkDisk(_ context.Context, c config.Config) finding {
	const name, least, comfortable = "disk", 5 << 30, 20 << 30
	var st unix.Statfs_t
	if err := unix.Statfs(existing(c.Data), &st); err != nil {
		return warn(name, "", "The free space can't be read: %v.", err)
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:gosec // block sizes are positive
	switch {
	case free < least:
		return fail(name, "binnacle clean --all", "%s free; images need at least %s.", sizeText(free), sizeText(least))
	case free < comfortable:
		return warn(name, "binnacle clean", "%s free: a few images fill that.", sizeText(free))
	case st.Files > 0 && st.Ffree < 200_000:
		return warn(name, "binnacle clean", "Only %d files can still be made.", st.Ffree)
	default:
		return good(name, "%s free", sizeText(free))
	}
}

func checkMemory(_ context.Context, c config.Config) finding {
	const name, least = "memory", 1 << 30
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return warn(name, "", "It can't be read: %v.", err)
	}
	total := info.Totalram * uint64(info.Unit)
	session := uint64(c.Launch.Limits.Memory) //nolint:gosec // validated
	switch {
	case total < least:
		return fail(name, "use a machine with at least 2 GiB", "%s is too little for JupyterLab.", sizeText(total))
	case total < session:
		return warn(name, "binnacle serve --set launch.limits.memory=1GiB", "%s, less than the %s one session may use.", sizeText(total), sizeText(session))
	default:
		return good(name, "%s; a session may use %s", sizeText(total), sizeText(session))
	}
}

func checkPort(ctx context.Context, c config.Config) finding {
	const name = "listen"
	if runs, err := hubRuns(ctx, c); err == nil && runs {
		return good(name, "a hub already answers")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fail(name, "binnacle serve --listen 127.0.0.1:0", "%s can't be listened on: %v.", c.Listen, err)
	}
	_ = l.Close()
	return good(name, "%s is free", c.Listen)
}

// checkDNS asks the machine's resolver for the forge people use most, or for
// the proxy when there is one: then nothing else needs a name.
func checkDNS(ctx context.Context, c config.Config) finding {
	const name, patience = "names", 5 * time.Second
	address := c.Source.Hosts["gh"]
	if c.Source.Proxy != "" {
		address = c.Source.Proxy
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return warn(name, "binnacle config check", "%q is not an address.", config.Secret(address))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, u.Hostname()); err != nil {
		return warn(name, "cat /etc/resolv.conf", "%s is not found: launches from there will fail. Without internet, configure mirrors and source.hosts.", u.Hostname())
	}
	return good(name, "%s is found", u.Hostname())
}

// checkClock compares the clock with this program's own age and asks the
// kernel whether something keeps it right: wrong clocks break TLS.
func checkClock(context.Context, config.Config) finding {
	const name = "clock"
	if self, err := os.Executable(); err == nil {
		if info, err := os.Stat(self); err == nil && info.ModTime().After(time.Now().Add(24*time.Hour)) {
			return fail(name, "timedatectl set-ntp true", "It says %s, which is before this program was built.", time.Now().Format(time.DateOnly))
		}
	}
	var t unix.Timex
	const unsynchronised = 0x40
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unsynchronised != 0 {
		return good(name, "%s, not kept by NTP here", time.Now().UTC().Format(time.RFC3339))
	}
	return good(name, "%s", time.Now().UTC().Format(time.RFC3339))
}

func checkCA(_ context.Context, c config.Config) finding {
	const name = "TLS trust"
	path := c.CABundle
	if path == "none" {
		return good(name, "builds trust what their image trusts")
	}
	if path == "" {
		path = "/etc/ssl/certs/ca-certificates.crt"
		if _, err := os.Stat(path); err != nil {
			return fail(name, "apt-get install ca-certificates", "The machine has no certificate authorities.")
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fail(name, "binnacle config check", "%v.", err)
	}
	n := strings.Count(string(b), "-----BEGIN CERTIFICATE-----")
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return fail(name, "update-ca-certificates", "%s holds no certificate.", path)
	}
	return good(name, "%d authorities from %s, for fetching and builds", n, path)
}

func checkProxy(ctx context.Context, c config.Config) finding {
	const name, patience = "proxy", 3 * time.Second
	if c.Source.Proxy == "" {
		return good(name, "none configured")
	}
	shown := config.Secret(c.Source.Proxy)
	u, err := url.Parse(c.Source.Proxy)
	if err != nil {
		return fail(name, "binnacle config check", "%s is not an address.", shown)
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(map[string]int{"https": 443}[u.Scheme])
		if port == "0" {
			port = "80"
		}
	}
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fail(name, "unset HTTPS_PROXY, or correct outbound_proxy", "%s does not answer: %v.", shown, err)
	}
	_ = conn.Close()
	return good(name, "%s answers", shown)
}
