// Package machine boots a machine for tests: a real systemd as process 1 of
// namespaces of its own, on a copy-on-write view of this machine's files, with
// a real sshd. It shares the network of this machine.
package machine

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed boot.sh
var boot string

// Machine is a running one.
type Machine struct {
	// Address is host:port of its sshd; Identity and KnownHosts are files for it.
	Address, Identity, KnownHosts string

	t   testing.TB
	dir string
	pid int // of its process 1
}

const (
	systemd = "/lib/systemd/systemd"
	sshd    = "/usr/sbin/sshd"
)

// Start boots a machine that ends with the test. It skips the test when it is
// short or something is missing; with BINNACLE_TEST_REQUIRE=all that fails it.
func Start(t testing.TB) *Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("a machine takes seconds to boot")
	}
	if why := missing(); why != "" {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal(why + ", and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip(why)
	}
	dir, err := os.MkdirTemp("", "bm")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, dir: dir, Identity: filepath.Join(dir, "key"), KnownHosts: filepath.Join(dir, "known_hosts")}
	group := filepath.Base(dir)
	cmd := exec.Command("sh", "-c", boot, "boot", dir, group, systemd)
	log := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = log, log, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // which takes process 1 along
		_ = cmd.Wait()
		sweep(group)
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the machine said:\n%s", log)
		}
	})
	m.await(cmd.Process.Pid)
	m.ssh()
	return m
}

func missing() string {
	if os.Geteuid() != 0 {
		return "booting a machine needs root"
	}
	for _, program := range []string{systemd, sshd} {
		if _, err := os.Stat(program); err != nil {
			return program + " is missing (tools/setup.sh test)"
		}
	}
	for _, program := range []string{"unshare", "nsenter", "ssh", "ssh-keygen", "systemctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is missing (tools/setup.sh test)"
		}
	}
	return ""
}

// await waits until systemd has started everything; unshare's child is it.
func (m *Machine) await(parent int) {
	m.t.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
		if err != nil {
			continue
		}
		if m.pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid))
		if err != nil || strings.TrimSpace(string(name)) != "systemd" {
			continue
		}
		if out, err := exec.Command(m.Via()[0], append(m.Via()[1:], "systemctl is-system-running")...).Output(); err == nil && strings.TrimSpace(string(out)) == "running" {
			return
		}
	}
	m.t.Fatal("the machine does not boot")
}

// Srv is the machine's /srv, as this machine sees it: a directory on its disk.
func (m *Machine) Srv() string { return filepath.Join(m.dir, "srv") }

// Via is a command that takes one more argument, a line for its sh.
func (m *Machine) Via() []string {
	return []string{"nsenter", "-t", strconv.Itoa(m.pid), "-m", "-p", "-u", "-i", "-C", "--", "sh", "-c"}
}

// Run runs a line on the machine and returns what it prints.
func (m *Machine) Run(line string) string {
	m.t.Helper()
	out, err := m.Try(m.t.Context(), line)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// Try is Run that may fail.
func (m *Machine) Try(ctx context.Context, line string) (string, error) {
	via := m.Via()
	out, err := exec.CommandContext(ctx, via[0], append(via[1:], line)...).CombinedOutput()
	return string(out), err
}

// ssh starts an sshd with a key of its own, that lets root and ada in: she may
// become root by sudo where there is sudo, bob may not.
func (m *Machine) ssh() {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.Address = l.Addr().String()
	_ = l.Close()
	for _, key := range []string{m.Identity, filepath.Join(m.dir, "host")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			m.t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(m.dir, name))
		if err != nil {
			m.t.Fatal(err)
		}
		return string(b)
	}
	host, port, _ := net.SplitHostPort(m.Address)
	m.Run("mkdir -p -m 755 /run/sshd /run/testssh && umask 077 && cat >/run/testssh/host <<'E'\n" + read("host") + "E\n" +
		"umask 022; cat >/run/testssh/keys <<'E'\n" + read("key.pub") + "E\n" +
		"cat >/run/testssh/config <<'E'\nListenAddress " + host + "\nPort " + port + "\nHostKey /run/testssh/host\nAuthorizedKeysFile /run/testssh/keys\n" +
		"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nMaxStartups 100\nE\n" +
		"for u in ada bob; do useradd -m -p '*' -s /bin/sh $u; done\n" +
		"if command -v sudo >/dev/null; then echo 'ada ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ada; fi\n" +
		"systemd-run -q --unit=testssh " + sshd + " -D -f /run/testssh/config")
	known := fmt.Sprintf("[%s]:%s %s", host, port, read("host.pub"))
	if err := os.WriteFile(m.KnownHosts, []byte(known), 0o600); err != nil {
		m.t.Fatal(err)
	}
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", m.Address); err == nil {
			_ = c.Close()
			return
		}
	}
	m.t.Fatal("sshd does not answer")
}

// sweep removes the control groups that a machine leaves.
func sweep(group string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, group), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			// Processes that were killed take a moment to leave.
			for range 20 {
				if err := os.Remove(d); err == nil || errors.Is(err, fs.ErrNotExist) {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
}

// StandIn builds a program that answers where the hub would and knows the
// commands that a deployment runs. Version is what it calls itself; schema is
// the form of its database; a broken one ends when it should serve.
func StandIn(t testing.TB, version string, schema int, broken bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "binnacle")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path,
		"-ldflags", fmt.Sprintf("-s -w -X main.version=%s -X main.schema=%d -X main.broken=%t", version, schema, broken),
		"github.com/binnacle-hub/binnacle/test/machine/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in: %v\n%s", err, out)
	}
	return path
}
