package containerd_test

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func look(t *testing.T, s session.Spawner, spec session.Spec) map[string]string {
	t.Helper()
	var seen map[string]string
	must(t, json.Unmarshal([]byte(fetch(t, s, spec, "x/look")), &seen))
	return seen
}

func TestSandbox(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	for name, image := range map[string]string{"recipe": testImage, "dockerfile of root": bareImage} {
		t.Run(name, func(t *testing.T) {
			spec := sessiontest.NewSpec("sandbox-1", image)
			begin(t, s, spec)
			seen := look(t, s, spec)
			got := map[string]string{}
			want := map[string]string{
				"Uid": "1000\t1000\t1000\t1000", "Gid": "1000\t1000\t1000\t1000", "NoNewPrivs": "1", "Seccomp": "2",
				"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
				"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "processes": "1",
			}
			for k := range want {
				got[k] = seen[k]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(seen["args"], spec.Token) {
				t.Error("the token is on the command line")
			}
			if !strings.Contains(seen["env"], "JUPYTER_TOKEN="+spec.Token) || !strings.Contains(seen["env"], "COLOUR=blue green") {
				t.Errorf("environment: %s", seen["env"])
			}
			for _, word := range []string{"containerd.sock", "ctd.sock", "docker.sock", "hub.sock"} {
				if strings.Contains(seen["sockets"], word) || strings.Contains(seen["mounts"], word) {
					t.Errorf("the session sees %s", word)
				}
			}
			for _, path := range []string{"/etc/shadow", m.dir + "/ctd.sock", "/proc/kcore", "/proc/1/root/etc/passwd", "/var/run/secrets"} {
				if body, err := sessiontest.Fetch(t.Context(), s, spec, "x/read?path="+path); err == nil && body != "" {
					t.Errorf("the session reads %s", path)
				}
			}
			for _, path := range []string{"/proc/sys/kernel/core_pattern", "/sys/kernel/x", "/etc/resolv.conf", "/usr/bin/x"} {
				if _, err := sessiontest.Fetch(t.Context(), s, spec, "x/write?n=1&path="+path); err == nil {
					t.Errorf("the session writes %s", path)
				}
			}
			fetch(t, s, spec, "x/write?n=1&path=/tmp/x")
		})
	}
}

func TestHomeIsWritable(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	spec := sessiontest.NewSpec("home-1", testImage)
	begin(t, s, spec)
	fetch(t, s, spec, "x/write?n=10&path=/home/jovyan/x")
	if got := look(t, s, spec)["cwd"]; got != "/home/jovyan" {
		t.Errorf("cwd: %s", got)
	}
	if body := fetch(t, s, spec, "x/read?path=/etc/resolv.conf"); !strings.Contains(body, m.net.Gateway().String()) {
		t.Errorf("resolv.conf: %s", body)
	}
	if body := fetch(t, s, spec, "x/read?path=/etc/hosts"); !strings.Contains(body, "home-1") {
		t.Errorf("hosts: %s", body)
	}
}

func TestMountedDirectory(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "here.txt"), []byte("hello"), 0o644))
	must(t, os.Chown(dir, 1234, 1234))
	for p := dir; p != "/tmp"; p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o755))
	}
	spec := sessiontest.NewSpec("mount-1", testImage)
	spec.Mount = dir
	begin(t, s, spec)
	if body := fetch(t, s, spec, "x/read?path=/home/jovyan/here.txt"); body != "hello" {
		t.Errorf("read %q", body)
	}
	fetch(t, s, spec, "x/write?n=5&path=/home/jovyan/new.txt")
	if info, err := os.Stat(filepath.Join(dir, "new.txt")); err != nil || info.Size() != 5 {
		t.Errorf("what the session wrote: %v, %v", info, err)
	}
	if uid := look(t, s, spec)["Uid"]; !strings.HasPrefix(uid, "1234\t") {
		t.Errorf("runs as %s, want the directory's owner", uid)
	}
	spec = sessiontest.NewSpec("mount-2", testImage)
	spec.Mount = filepath.Join(dir, "missing")
	if _, err := s.Start(t.Context(), spec); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestNothingElseIsReachable(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	one, two := sessiontest.NewSpec("reach-1", testImage), sessiontest.NewSpec("reach-2", testImage)
	begin(t, s, one)
	begin(t, s, two)
	l, err := net.Listen("tcp4", "0.0.0.0:7001") // this machine; its network is the test's own
	must(t, err)
	defer l.Close()
	arrived := make(chan struct{}, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			arrived <- struct{}{}
		}
	}()
	var other netip.Addr
	for _, ns := range m.net.List() {
		if ns.ID == "s-reach-2" {
			other = ns.Addr
		}
	}
	for name, a := range map[string]string{"machine": m.net.Gateway().String(), "other session": other.String(), "metadata": "169.254.169.254"} {
		if _, err := sessiontest.Fetch(t.Context(), s, one, "x/dial?network=tcp&address="+a+":7001"); err == nil {
			t.Errorf("%s answered", name)
		}
	}
	if len(arrived) != 0 {
		t.Error("something arrived at this machine")
	}
	if got := look(t, s, one)["processes"]; got != "1" {
		t.Errorf("the session sees %s processes, want its own", got)
	}
	// Abstract sockets of this machine belong to another network.
	a, err := net.Listen("unix", "@binnacle-test")
	must(t, err)
	defer a.Close()
	if _, err := sessiontest.Fetch(t.Context(), s, one, "x/dial?network=unix&address="+url.QueryEscape("@binnacle-test")); err == nil {
		t.Error("an abstract socket of this machine answered")
	}
}

// A session that puts a link where its socket should be must not make us talk
// with what the link points at.
func TestLinkInsteadOfSocket(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	victim := filepath.Join(m.dir, "victim.sock")
	l, err := net.Listen("unix", victim)
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Error("the link was followed")
			c.Close()
		}
	}()
	spec := sessiontest.NewSpec("link-1", testImage)
	spec.Env["TEST_LINK"] = victim
	begin(t, s, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.Dial(ctx, spec.ID); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("Dial: %v, want unavailable", err)
	}
	// A socket of another user moved there is refused as well.
	run := filepath.Join(m.dir, "sessions", spec.ID, "run")
	must(t, os.Remove(filepath.Join(run, "jupyter.sock")))
	planted, err := net.Listen("unix", filepath.Join(run, "jupyter.sock"))
	must(t, err)
	defer planted.Close()
	if _, err := s.Dial(ctx, spec.ID); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("Dial: %v, want unavailable", err)
	}
}

func TestIDs(t *testing.T) {
	m := theMachine(t)
	s := m.open(t)
	for _, id := range []string{"", "../x", "a/b", "-a", "1a", "A", "a_b", strings.Repeat("a", 51), "a\n"} {
		if _, err := s.Start(t.Context(), sessiontest.NewSpec(id, testImage)); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("Start %q: %v, want invalid", id, err)
		}
		if _, err := s.Dial(t.Context(), id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("Dial %q: %v, want not_found", id, err)
		}
		must(t, s.Stop(t.Context(), id))
	}
	spec := sessiontest.NewSpec("labels-1", testImage)
	spec.Labels["long"] = strings.Repeat("x", 5000)
	if _, err := s.Start(t.Context(), spec); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Errorf("a long label: %v, want invalid", err)
	}
}
