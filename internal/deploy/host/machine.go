package host

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// script is all that is ever run on the machine.
//
//go:embed machine.sh
var script string

// machine runs the script's verbs, here or over ssh.
type machine struct {
	where string   // what people call it
	shell []string // a command that takes one more argument, a line for sh; nil runs sh here
	root  bool     // we are root already
	name  string
	data  string
}

// sshCommand is how ssh is called. It never asks, checks the machine's key
// against those that are known, and forwards nothing; how the machine is
// reached beyond that is what the person's own configuration of ssh says.
func sshCommand(h config.Host) []string {
	user, host, port := h.Split()
	args := []string{
		"ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=4",
		"-oClearAllForwardings=yes", "-oForwardAgent=no", "-oForwardX11=no", "-oPermitLocalCommand=no", "-oRequestTTY=no", "-oEscapeChar=none", "-oLogLevel=ERROR",
	}
	if port != "" {
		args = append(args, "-p", port)
	}
	if h.Identity != "" {
		args = append(args, "-oIdentitiesOnly=yes", "-i", h.Identity)
	}
	if h.KnownHosts != "" {
		args = append(args, `-oUserKnownHostsFile="`+h.KnownHosts+`"`, "-oGlobalKnownHostsFile=none")
	}
	if user != "" {
		args = append(args, "-l", user)
	}
	return append(args, "--", host)
}

// quote makes one word for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// command is a verb as a process. Nothing secret is among the arguments.
func (m *machine) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	words := append([]string{"sh", "-c", script, "binnacle", verb, m.name, m.data}, args...)
	if !m.root {
		words = append([]string{"sudo", "-n", "--"}, words...)
	}
	if m.shell == nil {
		return exec.CommandContext(ctx, words[0], words[1:]...)
	}
	for i := range words {
		words[i] = quote(words[i])
	}
	return exec.CommandContext(ctx, m.shell[0], slices.Concat(m.shell[1:], []string{strings.Join(words, " ")})...)
}

// run runs a verb and returns what it says.
func (m *machine) run(ctx context.Context, stdin io.Reader, verb string, args ...string) (string, error) {
	var out bytes.Buffer
	err := m.stream(ctx, stdin, &out, verb, args...)
	return out.String(), err
}

// stream runs a verb that writes to out.
func (m *machine) stream(ctx context.Context, stdin io.Reader, out io.Writer, verb string, args ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd := m.command(ctx, verb, args...)
	var log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, &log
	const patience = 5 * time.Second
	cmd.WaitDelay = patience
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return m.explain(verb, log.String(), err)
}

// The exit codes of the script that mean something.
const (
	exitConfig   = 65
	exitMissing  = 66
	exitNotReady = 69
	exitLocked   = 75
	exitSSH      = 255
)

// explain says in words why a verb failed.
func (m *machine) explain(verb, log string, err error) error {
	if err == nil {
		return nil
	}
	log = strings.TrimSpace(log)
	e := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "host." + verb, Message: m.where + ": " + shorten(log), Err: err,
		Hint: "Mend the cause and run the same command again: it continues.",
	}
	if errors.Is(err, exec.ErrNotFound) {
		e.Message, e.Hint = "A program is missing here: "+err.Error()+".", "apt-get install openssh-client sudo"
		return e
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return fmt.Errorf("run %s on %s: %w", verb, m.where, err)
	}
	switch code := exit.ExitCode(); {
	case code == exitConfig:
		e.Code, e.Hint = binnacle.CodeInvalid, "Mend the file's section hub; docs/reference/configuration.md has all settings."
	case code == exitMissing:
		e.Code, e.Hint = binnacle.CodeNotFound, "binnacle deploy history shows what there is."
	case code == exitLocked:
		e.Code, e.Hint = binnacle.CodeConflict, "Wait until it has ended. The lock ends with that run."
	case code == exitNotReady:
		e.Message, e.Hint = log, "binnacle deploy logs shows more. Mend the cause and run the same command again."
	case code == exitSSH && m.shell != nil:
		return m.unreachable(e, log)
	case strings.Contains(log, "sudo: "):
		e.Code, e.Message = binnacle.CodeForbidden, m.where+": becoming root is refused: "+shorten(log)
		e.Hint = "Sign in as root, or let this user run everything by sudo without a password (NOPASSWD)."
		if m.shell == nil {
			e.Hint = "Run sudo binnacle deploy …, or sudo -v before."
		}
	}
	return e
}

// unreachable says why ssh did not get in.
func (m *machine) unreachable(e *binnacle.Error, log string) error {
	e.Message = m.where + " is not reached by ssh: " + shorten(log)
	has := func(s string) bool { return strings.Contains(strings.ToLower(log), s) }
	switch {
	case has("host key verification failed"), has("host key is known"), has("identification has changed"):
		e.Code, e.Hint = binnacle.CodeUnauthorized, "Connect to it once with ssh and compare the key's fingerprint with the machine's own. A key that has changed may be another machine."
	case has("permission denied"), has("too many authentication"):
		e.Code, e.Hint = binnacle.CodeUnauthorized, "The same address must work with ssh from here without a password: put your key into authorized_keys there, or name it with host.identity."
	default:
		e.Hint = "The same address must work with ssh from here."
	}
	return e
}

// shorten keeps the end of what a program said.
func shorten(s string) string {
	const most = 600
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	if s == "" {
		s = "it said nothing"
	}
	return s
}

// lock is held while a process runs on the machine, which ends with ours.
type lock struct {
	cmd  *exec.Cmd
	beat io.WriteCloser
	done chan struct{}
}

// takeLock returns when the deployment's lock is ours.
func (m *machine) takeLock(ctx context.Context, holder string) (*lock, error) {
	// Canceling must not let go of it while what was begun is ended in good order.
	cmd := m.command(context.WithoutCancel(ctx), "lock", holder)
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("take the lock: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("take the lock: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, m.explain("lock", "", err)
	}
	said := make([]byte, len("locked\n"))
	if _, err := io.ReadFull(out, said); err != nil {
		ended := errors.Join(in.Close(), cmd.Wait()) // before that, the log is still written
		return nil, m.explain("lock", log.String(), ended)
	}
	l := &lock{cmd: cmd, beat: in, done: make(chan struct{})}
	go l.keep()
	return l, nil
}

// keep says that we are still here.
func (l *lock) keep() {
	const pause = 10 * time.Second
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
			if _, err := l.beat.Write([]byte(".")); err != nil {
				return
			}
		}
	}
}

// release gives the lock back.
func (l *lock) release() error {
	close(l.done)
	err := l.beat.Close()
	const patience = 5 * time.Second
	kill := time.AfterFunc(patience, func() { _ = l.cmd.Process.Kill() })
	defer kill.Stop()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, l.cmd.Wait())
}

// open finds out how root is become on the machine.
func open(h config.Host, name, data string, via []string) *machine {
	m := &machine{where: "this machine", name: name, data: data, root: !h.Sudo}
	switch user, host, port := h.Split(); {
	case via != nil:
		m.where, m.shell = "the machine", via
	case host != "":
		m.where, m.shell = "the machine "+host, sshCommand(h)
		if port != "" {
			m.where = "the machine " + net.JoinHostPort(host, port)
		}
		m.root = m.root || user == "root"
	default:
		m.root = m.root || os.Geteuid() == 0
	}
	return m
}
