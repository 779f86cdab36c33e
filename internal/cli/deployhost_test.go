package cli_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/machine"
)

// The commands on a real machine with systemd, over ssh, with a stand-in for the
// hub: up, upgrades that do not start or do not verify and go back, rollback,
// sleep, wake, restart, logs, bundle, down.
func TestDeployHost(t *testing.T) {
	t.Parallel()
	m := machine.Start(t)
	one, two, broken := machine.StandIn(t, "1", 1, false), machine.StandIn(t, "2", 2, false), machine.StandIn(t, "3", 3, true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	file := filepath.Join(t.TempDir(), "binnacle.yaml")
	write := func(user, more string) {
		t.Helper()
		text := fmt.Sprintf(`name: deploy-host
target: host
host: {address: %s@%s, identity: %s, known_hosts: %s, data: /srv/deploy-host, listen: %s, packages: false}
https: {enabled: false}
`, user, m.Address, m.Identity, m.KnownHosts, listen)
		if err := os.WriteFile(file, []byte(text+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(want int, program string, args ...string) string {
		t.Helper()
		args = append(args, "--file", file)
		if program != "" {
			args = append(args, "--program", program)
		}
		code, out, log := deploy(t, "", []string{"USER=ada", "PASSPHRASE=" + backupPassphrase, "ANOTHER=wrong"}, args...)
		if code != want {
			t.Fatalf("%v: exit %d, not %d\n%s%s", args, code, want, out, log)
		}
		return out + log
	}
	answers := func(want string) {
		t.Helper()
		resp, err := http.Get("http://" + listen)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("it answers %q, not %q (%v)", b, want, err)
		}
	}
	has := func(out string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(out, w) {
				t.Errorf("%q is missing in\n%s", w, out)
			}
		}
	}
	write("bob", "")
	has(do(2, one, "check"), "becoming root is refused", "NOPASSWD")
	write("ada", "")
	has(do(0, one, "check"), "is reached", "systemd 2", "a stand-in of version 1 looked at the machine")
	has(do(0, one, "plan"), "create  release         deploy-host", "3 to create")
	if left := m.Run("ls /opt /srv /run | grep deploy-host || true; ls -d /tmp/tmp* 2>/dev/null || true"); left != "" {
		t.Errorf("check and plan left %s", left)
	}
	has(do(3, one, "upgrade", "--yes"), "not installed", "deploy up installs it")
	has(do(0, one, "up", "--yes", "--no-verify"), "3 changed; everything is as wanted")
	answers("1")
	has(do(0, one, "up", "--no-verify"), "Nothing to do", "0 changed")

	// An upgrade whose program does not start.
	has(do(5, broken, "upgrade", "--yes"), "was taken back: revision 1", "this version is broken")
	answers("1")
	// One that starts, changes the database, and does not verify.
	out := do(5, two, "upgrade", "--yes", "--answer-within", "2s")
	has(out, "was taken back: revision 1", "The database is the one from before revision 3")
	answers("1")
	// One that is well, and back by hand.
	has(do(0, two, "upgrade", "--yes", "--no-verify"), "program: ")
	answers("2")
	has(do(0, two, "rollback", "--no-verify"), "Revision 3 runs again")
	answers("2")
	do(0, two, "rollback", "--to", "1", "--no-verify")
	answers("1")
	has(do(0, "", "history"), "   1  ", "deployed", "   2  ", "failed", "superseded")
	has(do(3, "", "rollback", "--to", "9", "--no-verify"), "There is no revision 9")

	has(do(0, "", "sleep"), "The hub sleeps")
	if _, err := http.Get("http://" + listen); err == nil {
		t.Error("the hub answers while it sleeps")
	}
	has(do(0, one, "info"), "asleep")
	do(0, "", "wake")
	answers("1")
	do(0, "", "restart")
	answers("1")
	has(do(0, "", "logs", "--tail", "20"), "stand-in of version 1 answers")
	has(do(0, "", "logs", "--previous"), "stand-in of version 1 answers")
	has(do(2, "", "logs", "--component", "builders"), `no component "builders" on one machine, but hub, builds, watch, cloud.`)
	has(do(0, "", "logs", "--component", "builds", "--since", "90m", "--tail", "7"), "launch-1 gh/ada/hello/main | stand-in of version 1 builds, asked with --since 1h30m0s --tail 7\n")
	followed(t, m, file)
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	do(0, one, "support-bundle", "--output", bundle)

	backedUp(t, m, do, has)
	answers("1")

	// What was changed on the machine by hand is seen and mended.
	m.Run("systemctl stop binnacle-deploy-host; sed -i s/Restart=always/Restart=no/ /etc/systemd/system/binnacle-deploy-host.service")
	has(do(0, one, "plan"), "runs: no → yes", "unit: ")
	do(0, one, "up", "--yes", "--no-verify")
	answers("1")

	withoutToken(t, m, one, write, do, has)
	do(2, one, "down", "--confirm", "other")
	has(do(0, one, "down", "--confirm", "deploy-host"), "3 deleted", "the data directory stays")
	m.Run("test -e /srv/deploy-host/binnacle.db")
	has(do(0, one, "down", "--confirm", "deploy-host", "--data"), "1 deleted; nothing of the deployment deploy-host is left")
	if left := m.Run("ls -d /opt/*deploy-host* /srv/*deploy-host* /run/*deploy-host* /etc/systemd/system/*deploy-host* /etc/systemd/system/*/*deploy-host* 2>/dev/null || true"); left != "" {
		t.Errorf("left: %s", left)
	}
	unreachable(t, m, file, do, has)
}

// Whoever follows builds and leaves takes the program on the machine along.
func followed(t *testing.T, m *machine.Machine, file string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	running := func() bool {
		out, _ := m.Try(t.Context(), "ps -eo args | grep '[b]innacle.yaml build-logs' || true")
		return strings.Contains(out, "--follow")
	}
	seen := false
	out := &trigger{text: "asked with", f: func() { seen = running(); leave() }}
	args := []string{"deploy", "logs", "-f", "--component", "builds", "--file", file}
	if code := cli.Run(ctx, cli.Env{Args: args, In: strings.NewReader(""), Out: out, Err: io.Discard, Width: func() int { return 80 }}); code != cli.ExitCanceled || !seen {
		t.Errorf("exit %d, seen running: %t: %s", code, seen, out.String())
	}
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); running(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the program that follows builds goes on")
		}
	}
}

// The forge's token is needed once: it stays on the machine, and nobody has to have it
// who looks, changes something else, or removes all.
func withoutToken(t *testing.T, m *machine.Machine, one string, write func(user, more string), do func(int, string, ...string) string, has func(string, ...string)) {
	t.Helper()
	const secret = "a-token-of-the-forge"
	file := filepath.Join(t.TempDir(), "token")
	watch := func(branch string) {
		write("ada", "watch: {repository: 'https://git.example.org/institute/hub', branch: "+branch+", token_from: 'file:"+file+"'}\n")
	}
	watch("main")
	has(do(2, one, "up", "--yes", "--no-verify"), "watch.token_from: the token is not on the machine", "nothing was created")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	do(0, one, "up", "--yes", "--no-verify")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	has(do(0, one, "up", "--no-verify"), "Nothing to do")
	watch("production")
	has(do(0, one, "up", "--yes", "--no-verify"), "change  watch")
	for _, command := range []string{"info", "restart", "sleep", "wake"} {
		do(0, one, command)
	}
	has(do(0, one, "logs", "--component", "watch"), "follows the repository")
	if have := m.Run("cat /opt/binnacle-deploy-host/watch/token"); have != secret {
		t.Errorf("the token on the machine is %q", have)
	}
}

// A machine whose key is not known, or that does not know ours, is not spoken to.
func unreachable(t *testing.T, m *machine.Machine, file string, do func(int, string, ...string) string, has func(string, ...string)) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	nobody := filepath.Join(t.TempDir(), "nobody")
	if err := os.WriteFile(nobody, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for with, want := range map[string]string{m.KnownHosts: "fingerprint", m.Identity: "authorized_keys"} {
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), with, nobody, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		has(do(2, "", "check"), "is not reached by ssh", want)
		do(4, "", "info")
	}
}

const backupPassphrase = "the passphrase of the backup"

// A backup is taken, what the hub has changes, and comes back.
func backedUp(t *testing.T, m *machine.Machine, do func(int, string, ...string) string, has func(string, ...string)) {
	t.Helper()
	m.Run("echo first >/srv/deploy-host/note")
	file := filepath.Join(t.TempDir(), "hub.tar")
	has(do(2, "", "backup", "--output", file), "A passphrase is needed")
	has(do(0, "", "backup", "--output", file, "--passphrase-from", "env:PASSPHRASE"), "Wrote "+file)
	has(do(3, "", "backup", "--output", file, "--passphrase-from", "env:PASSPHRASE"), "is there already")
	m.Run("echo second >/srv/deploy-host/note")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"the-private-key", "first", backupPassphrase} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the backup shows %q", secret)
		}
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	has(do(2, "", "restore", cut, "--confirm", "deploy-host", "--passphrase-from", "env:PASSPHRASE"), "damaged or was cut short")
	has(do(2, "", "restore", file, "--confirm", "deploy-host", "--passphrase-from", "env:ANOTHER"), "not that of this backup")
	has(do(2, "", "restore", file, "--passphrase-from", "env:PASSPHRASE"), "Nothing was done")
	if note := m.Run("cat /srv/deploy-host/note"); note != "second\n" {
		t.Fatalf("it was touched: %q", note)
	}
	has(do(0, "", "restore", file, "--confirm", "deploy-host", "--passphrase-from", "env:PASSPHRASE", "--no-verify"), "A backup of deploy-host", "Brought back")
	if note := m.Run("cat /srv/deploy-host/note /srv/deploy-host/certificates-key"); note != "first\nthe-private-key" {
		t.Errorf("after it was brought back: %q", note)
	}
	has(do(0, "", "backup", "--output", file+"2", "--without-secrets"), "Wrote")
	has(do(0, "", "restore", file+"2", "--confirm", "deploy-host", "--no-verify"), "Brought back")
}
