package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// command is one run of git.
type command struct {
	args   []string // after the hardening options
	gitDir string   // GIT_DIR; empty for none
	dir    string   // working directory; empty is Config.Dir
	env    []string // added
	stdin  io.Reader
	stdout io.Writer         // nil discards
	line   func(line string) // gets what git says on stderr; may be nil
	max    int64             // of stdout; 0 is maxOutput

	// net is set for commands that may reach out; others have all protocols
	// closed and need no policy.
	net *network
}

// network is what a command that reaches out may do.
type network struct {
	remote remote
	policy Policy
	proxy  *forwardProxy // nil for a trusted caller
	pinned netip.Addr    // ssh and git: the address that was checked
}

const (
	maxOutput = 64 << 20
	maxStderr = 16 << 10
	killDelay = 2 * time.Second
)

var (
	errTooMuch = errors.New("more output than allowed")
	errTooBig  = errors.New("more data than allowed")
)

// gitError is a run that failed, with the end of what git said.
type gitError struct {
	command string
	stderr  string
	err     error
}

func (e *gitError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", e.command, e.err, printable(strings.ReplaceAll(e.stderr, "\n", "; "), 1000))
}

func (e *gitError) Unwrap() error { return e.err }

// says tells whether git's complaint holds one of the texts.
func (e *gitError) says(texts ...string) bool {
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(e.stderr, t) })
}

// git runs a command. The error is a *gitError, or what ended the context.
func (s *Source) git(ctx context.Context, c command) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, s.cfg.Git, append(s.options(c), c.args...)...)
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = s.cfg.Dir
	}
	cmd.Env = s.environment(c)
	cmd.Stdin = c.stdin
	// A group of its own, so that git's helpers (remote-https, index-pack, ssh)
	// end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	limit := c.max
	if limit == 0 {
		limit = maxOutput
	}
	cmd.Stdout = &limitedWriter{w: c.stdout, left: limit, over: func() { cancel(errTooMuch) }}
	tail := &tailWriter{line: c.line}
	cmd.Stderr = tail
	err := cmd.Run()
	tail.flush()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return &gitError{command: c.args[0], stderr: tail.tail.String(), err: err}
	}
	return nil
}

// options come before the subcommand and win over every configuration file.
func (s *Source) options(c command) []string {
	set := []string{
		"protocol.allow=never", "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null", "core.symlinks=true",
		"core.autocrlf=false", "core.protectHFS=true", "core.protectNTFS=true", "gc.auto=0", "maintenance.auto=false",
		"submodule.recurse=false", "fetch.recurseSubmodules=false", "uploadpack.packObjectsHook=", "core.alternateRefsCommand=",
		"core.gitProxy=", "protocol.ext.allow=never", "http.followRedirects=initial", "http.lowSpeedLimit=1000", "http.lowSpeedTime=60",
		// Everything arrives through index-pack, which writes large objects as
		// they come instead of holding them in memory.
		"fetch.unpackLimit=1", "core.bigFileThreshold=16m",
	}
	if c.net != nil {
		for _, p := range s.protocols(c.net) {
			set = append(set, "protocol."+p+".allow=always")
		}
		if !c.net.policy.Local {
			set = append(set, "credential.helper=", "core.askPass=")
		}
	}
	args := []string{"--no-pager", "--no-replace-objects", "--no-optional-locks"}
	for _, o := range set {
		args = append(args, "-c", o)
	}
	return args
}

// protocols are those a command may use, redirects included.
func (s *Source) protocols(n *network) []string {
	if n.remote.http() {
		return slices.DeleteFunc([]string{"https", "http"}, func(p string) bool { return !n.policy.Local && !slices.Contains(s.cfg.Protocols, p) })
	}
	return []string{n.remote.scheme}
}

// environment is built from nothing, so that no GIT_ variable, no token and
// no preloaded library of ours reaches git.
func (s *Source) environment(c command) []string {
	env := []string{
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false", "GIT_PROTOCOL_FROM_USER=0", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_ATTR_NOSYSTEM=1", "GIT_LFS_SKIP_SMUDGE=1", "GIT_NO_LAZY_FETCH=1", "GIT_ADVICE=0", "LC_ALL=C", "LANGUAGE=",
	}
	path := environValue(s.cfg.Environ, "PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env = append(env, "PATH="+path)
	local := c.net != nil && c.net.policy.Local
	if local {
		env = append(env, "GIT_CONFIG_GLOBAL="+s.localConfig())
		env = append(env, s.inherit("HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "USER", "LOGNAME", "NO_PROXY", "no_proxy")...)
	} else {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+filepath.Join(s.cfg.Dir, "home"), "XDG_CONFIG_HOME="+filepath.Join(s.cfg.Dir, "home"))
	}
	if c.gitDir != "" {
		env = append(env, "GIT_DIR="+c.gitDir)
	}
	if c.net != nil {
		env = append(env, s.networkEnvironment(c.net)...)
	}
	return append(env, c.env...)
}

func (s *Source) networkEnvironment(n *network) []string {
	env := []string{"GIT_ALLOW_PROTOCOL=" + strings.Join(s.protocols(n), ":"), "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND=" + s.sshCommand(n)}
	env = append(env, s.inherit("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "CURL_CA_BUNDLE")...)
	if s.cfg.CAFile != "" {
		env = append(env, "GIT_SSL_CAINFO="+s.cfg.CAFile, "SSL_CERT_FILE="+s.cfg.CAFile)
	}
	proxy := s.cfg.Proxy
	if n.proxy != nil {
		proxy = n.proxy.url()
		env = append(env, "GIT_HTTP_PROXY_AUTHMETHOD=basic", "NO_PROXY=", "no_proxy=")
	}
	if proxy != "" {
		// curl reads http_proxy in lower case only.
		env = append(env, "http_proxy="+proxy, "https_proxy="+proxy, "HTTPS_PROXY="+proxy, "all_proxy="+proxy)
	}
	return env
}

// sshCommand never asks, and for the public leaves the person's keys and
// configuration alone and connects to the address that was checked.
func (s *Source) sshCommand(n *network) string {
	words := []string{"ssh", "-oBatchMode=yes", "-oConnectTimeout=15", "-oClearAllForwardings=yes", "-oPermitLocalCommand=no"}
	if !n.policy.Local {
		words = append(words, "-F/dev/null", "-oProxyCommand=none", "-oIdentityFile=none", "-oIdentityAgent=none",
			"-oStrictHostKeyChecking=accept-new", "-oUserKnownHostsFile="+shellQuote(filepath.Join(s.cfg.Dir, "known_hosts")))
		if n.pinned.IsValid() {
			words = append(words, "-oHostName="+n.pinned.String(), "-oHostKeyAlias="+n.remote.host)
		}
	}
	return strings.Join(words, " ")
}

// shellQuote is needed because git hands GIT_SSH_COMMAND to a shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *Source) inherit(names ...string) []string {
	var env []string
	for _, n := range names {
		if v := environValue(s.cfg.Environ, n); v != "" {
			env = append(env, n+"="+v)
		}
	}
	return env
}

// address is what git is given for the remote. The git protocol knows no
// proxy, so there the checked address takes the place of the name.
func (n *network) address() string {
	if n.remote.scheme == "git" && n.pinned.IsValid() {
		r := n.remote
		r.host = n.pinned.String()
		return r.String()
	}
	return n.remote.String()
}

// open checks a remote against the policy and prepares what commands need to
// reach it; call close when done. Returns forbidden for what the policy does
// not allow; nothing has been started then.
func (s *Source) open(ctx context.Context, r remote, p Policy) (*network, error) {
	n := &network{remote: r, policy: p}
	if p.Local {
		return n, nil
	}
	if !slices.Contains(s.cfg.Protocols, r.scheme) {
		hint := "Use the repository's https:// address."
		if r.scheme == "ssh" || r.scheme == "git" {
			hint = "Use " + (remote{scheme: "https", host: r.host, path: r.path}).String() + ", or ask the operator of this hub to allow " + r.scheme + "."
		}
		return nil, &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "source.policy",
			Message: "This hub does not fetch by " + r.scheme + "://, only by " + strings.Join(s.cfg.Protocols, ":// or ") + "://.", Hint: hint,
		}
	}
	g := &guard{allow: s.cfg.Allow, deny: s.cfg.Deny, denyHosts: s.cfg.DenyHosts, resolver: s.resolver}
	if _, literal := parseAddr(r.host); literal || !r.http() || len(g.denyHosts) > 0 {
		addrs, err := g.lookup(ctx, r.host)
		// Over HTTP the proxy has the last word; behind a site's proxy a name may
		// well be unknown here.
		if err != nil && (!r.http() || errors.Is(err, errPrivate) || errors.Is(err, errDenyHost)) {
			return nil, refusal(r.host, err)
		}
		if !r.http() {
			n.pinned = addrs[0]
			return n, nil
		}
	}
	var err error
	if n.proxy, err = startProxy(ctx, g, s.cfg.Proxy, s.log); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return n, nil
}

func (n *network) close() {
	if n.proxy != nil {
		n.proxy.close()
	}
}

// explain turns the failure of a command that reached out into what a person
// is told. ctx is the caller's, whose end is not the repository's fault.
func (n *network) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow) {
		return err
	}
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	if n.proxy != nil && !errors.Is(err, errSlow) {
		if e := n.proxy.refusal(); e != nil {
			return e
		}
	}
	e := &binnacle.Error{Op: "source.git", Err: err}
	ge, isGit := errors.AsType[*gitError](err)
	name := quote(n.remote.String())
	switch {
	case errors.Is(err, errSlow):
		e.Code, e.Message, e.Hint = binnacle.CodeTimeout, "The server of "+name+" took too long.", "Try again in a few minutes."
	case errors.Is(err, errTooMuch), errors.Is(err, errTooBig):
		e.Code, e.Message, e.Hint = binnacle.CodeLimited, "The repository "+name+" is larger than this hub allows.", "Make the repository smaller, or ask the operator of this hub for a higher limit."
	case !isGit:
		return err
	case ge.says("Host key verification failed"):
		e.Code, e.Message, e.Hint = binnacle.CodeUnavailable, "The ssh key of the server of "+name+" is not known or has changed.", "Connect to it once with ssh and confirm its key."
	case ge.says("could not read Username", "could not read Password", "Authentication failed", "Permission denied", "not found", "does not exist",
		"does not appear to be a git repository", "The requested URL returned error: 401", "The requested URL returned error: 403",
		"The requested URL returned error: 404", "access denied", "Could not read from remote repository", "not a valid bundle", "not valid: is this a git repository"):
		e.Code, e.Message = binnacle.CodeNotFound, "The repository "+name+" does not exist or is not public."
		e.Hint = "Check the spelling. A private repository has to be made public, or launched by somebody whose git may read it."
	case ge.says("Could not resolve host", "Name or service not known", "Temporary failure in name resolution"):
		e.Code, e.Message, e.Hint = binnacle.CodeNotFound, "There is no host called "+quote(n.remote.host)+".", "Check the spelling of the address."
	default:
		e.Code, e.Message, e.Hint = binnacle.CodeUnavailable, "The repository "+name+" could not be read"+reason(ge.stderr)+".", "Try again in a few minutes."
	}
	return e
}

// errSlow is the cause of a time limit of ours.
var errSlow = errors.New("time limit reached")

// reason is git's last word, for people.
func reason(stderr string) string {
	for line := range strings.Lines(stderr) {
		for _, prefix := range []string{"fatal: ", "error: "} {
			if text, ok := strings.CutPrefix(line, prefix); ok {
				return ": " + strings.TrimSuffix(printable(text, 200), ".")
			}
		}
	}
	return ""
}

// limitedWriter passes on so many bytes, then calls over.
type limitedWriter struct {
	w    io.Writer
	left int64
	over func()
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		l.over()
		return 0, errTooMuch
	}
	if l.w == nil {
		return len(p), nil
	}
	return l.w.Write(p)
}

// tailWriter keeps the end of what is written and hands on whole lines.
type tailWriter struct {
	tail    bytes.Buffer
	partial []byte
	line    func(string)
}

func (t *tailWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			t.partial = append(t.partial, p...)
			if len(t.partial) > maxStderr {
				t.emit('\n')
			}
			break
		}
		t.partial = append(t.partial, p[:i]...)
		t.emit(p[i])
		p = p[i+1:]
	}
	return n, nil
}

// emit ends a line. One that a carriage return ends is progress, which the
// next one replaces.
func (t *tailWriter) emit(end byte) {
	text := printable(string(t.partial), 500)
	t.partial = t.partial[:0]
	if end == '\r' || text == "" {
		return
	}
	if t.tail.Len() > maxStderr {
		t.tail.Reset()
	}
	t.tail.WriteString(text + "\n")
	if t.line != nil {
		t.line(text)
	}
}

func (t *tailWriter) flush() { t.emit('\n') }
