package host_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/cloudtest"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/host"
	"github.com/binnacle-hub/binnacle/test/machine"
)

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func options(t *testing.T, m *machine.Machine, name, program string) host.Options {
	t.Helper()
	c := config.Default()
	c.Name, c.Target, c.HTTPS.Enabled = name, config.TargetHost, false
	c.Host.Sudo, c.Host.Packages, c.Host.Data, c.Host.Listen = false, false, "/srv/"+name, freePort(t)
	return host.Options{
		Config: c, Program: program, Version: "1", Holder: "the test", Via: m.Via(), Timeout: 20 * time.Second,
		Lookup: func(context.Context, string) ([]string, error) { return nil, errors.New("no such name") },
	}
}

// remove takes a deployment away with the test and looks that nothing is left.
func remove(t *testing.T, m *machine.Machine, c *host.Cloud, name string) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		j, err := deploy.OpenJournal(t.TempDir(), time.Now)
		if err != nil {
			t.Error(err)
			return
		}
		defer j.Close()
		e := deploy.Engine{Cloud: c, Journal: j, Poll: 100 * time.Millisecond}
		if _, err := e.Down(ctx); err != nil {
			t.Error(err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		if out, _ := m.Try(ctx, "find /opt /srv /run /etc/systemd /tmp /var/lib/systemd -name '*"+name+"*'; pgrep -af '["+name[:1]+"]"+name[1:]+"/'"); out != "" {
			t.Errorf("left on the machine:\n%s", out)
		}
	})
}

func TestConformance(t *testing.T) {
	m := machine.Start(t)
	program := machine.StandIn(t, "1", 1, false)
	n := 0
	names := make(chan string, 100)
	for n < cap(names) {
		n++
		names <- fmt.Sprintf("hub-%d-x", n)
	}
	cloudtest.Run(t, func(t *testing.T) deploy.Cloud {
		t.Helper()
		name := <-names
		c := host.New(options(t, m, name, program))
		remove(t, m, c, name)
		return c
	})
	t.Run("unit", func(t *testing.T) {
		// systemd's own opinion of what we write.
		m.Run("mkdir -p /opt/binnacle-x/current && touch /opt/binnacle-x/current/binnacle && chmod 755 /opt/binnacle-x/current/binnacle && cat >/tmp/binnacle-x.service <<'E'\n" + host.Unit("x") + "E")
		if out := m.Run("systemd-analyze verify /tmp/binnacle-x.service 2>&1; rm -rf /opt/binnacle-x"); out != "" {
			t.Errorf("systemd-analyze verify:\n%s", out)
		}
	})
	t.Run("lock", func(t *testing.T) { lock(t, m, program) })
}

// Two at once: the second is told who the first is, and gets it after that one's
// end, however it ended.
func lock(t *testing.T, m *machine.Machine, program string) {
	t.Helper()
	o := options(t, m, "locked", program)
	first, second := host.New(o), host.New(o)
	if err := first.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(t.Context()); binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), "the test") {
		t.Errorf("while another one has it: %v", err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := second.Lock(t.Context()); err != nil {
		t.Errorf("after it was given back: %v", err)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if out := m.Run("ls /run | grep locked || true"); out != "" {
		t.Errorf("left: %s", out)
	}
}

// The service is hardened as the one in the documentation.
func TestUnitIsThatOfTheDocs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/binnacle.service")
	if err != nil {
		t.Fatal(err)
	}
	service := func(text string) []string {
		_, text, _ = strings.Cut(text, "[Service]")
		text, _, _ = strings.Cut(text, "[Install]")
		return slices.DeleteFunc(strings.Split(text, "\n"), func(s string) bool { return strings.HasPrefix(s, "ExecStart=") || strings.HasPrefix(s, "#") || s == "" })
	}
	if diff := cmp.Diff(service(string(b)), service(host.Unit("x"))); diff != "" {
		t.Errorf("docs/binnacle.service and the unit that is written differ:\n%s", diff)
	}
}

func TestSSHCommand(t *testing.T) {
	t.Parallel()
	got := host.SSH(config.Host{Address: "ada@hub.example.org:2222", Identity: "/home/ada/my key", KnownHosts: "/home/ada/known hosts"})
	line := strings.Join(got, " ")
	for _, want := range []string{
		"-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oForwardAgent=no", "-oClearAllForwardings=yes",
		"-p 2222", "-oIdentitiesOnly=yes -i /home/ada/my key", `-oUserKnownHostsFile="/home/ada/known hosts"`, "-l ada -- hub.example.org",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is missing: %s", want, line)
		}
	}
	if regexp.MustCompile(`(?i)StrictHostKeyChecking=(no|accept)`).MatchString(line) {
		t.Errorf("unknown keys are accepted: %s", line)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"https": {
			"dns: {domain: hub.example.org}\nhttps: {email: ada@example.org, staging: true}\naccess: {repositories: ['^gh/x/']}\nhub: {launch: {max_sessions: 7}}\n",
			"data: /var/lib/binnacle\nlaunch:\n    allowed_specs:\n        - ^gh/x/\n    max_sessions: 7\nlisten: 0.0.0.0:443\ntls:\n    acme:\n        ca: https://acme-staging-v02.api.letsencrypt.org/directory\n        domain: hub.example.org\n        email: ada@example.org\nurl: https://hub.example.org\n",
		},
		"by its address": {
			"host: {address: 'ada@machine.example.org:22', data: /srv/hub}\nhttps: {enabled: false}\n",
			"data: /srv/hub\nlisten: 0.0.0.0:80\nurl: http://machine.example.org\n",
		},
		"here, on a port": {
			"host: {listen: '127.0.0.1:8585'}\nhttps: {enabled: false}\n",
			"data: /var/lib/binnacle\nlisten: 127.0.0.1:8585\nurl: http://localhost:8585\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, ps := config.Load([]byte("name: my-hub\ntarget: host\n" + c.text))
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			b, err := host.File(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, got, _ := strings.Cut(string(b), "\n")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A program for another architecture is refused before anything is written.
func TestOtherArchitecture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "binnacle")
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		t.Skip("compiles a program for another architecture")
	}
	cmd := exec.Command("go", "build", "-o", other, src)
	cmd.Env = append(os.Environ(), "GOARCH=s390x", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := config.Default()
	c.Name, c.Target, c.HTTPS.Enabled, c.Host.Sudo = "other-arch", config.TargetHost, false, false
	cloud := host.New(host.Options{Config: c, Program: other, Lookup: func(context.Context, string) ([]string, error) { return nil, nil }})
	found, err := cloud.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(found, func(f deploy.Finding) bool {
		return f.Name == "program" && !f.OK && strings.Contains(f.Message, "s390")
	}); i < 0 {
		t.Errorf("found %+v", found)
	}
}
