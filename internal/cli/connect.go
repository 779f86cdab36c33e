package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
)

// withHub runs f against the hub of this machine: the one that runs, or one in
// this process that ends with f.
func (a *app) withHub(ctx context.Context, f func(ctx context.Context, h hubAPI) error) error {
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	h, stop, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, h), stop())
}

// connect finds the hub that runs, or starts one in this process, which does not
// end with ctx but with stop: what a command began must still be undone then.
func (a *app) connect(ctx context.Context, c config.Config) (_ hubAPI, stop func() error, err error) {
	running, err := hubRuns(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if running {
		h, err := dialHub(socketPath(c))
		return h, func() error { return nil }, err
	}
	c.Listen, c.URL, c.SessionDomain, c.TLS = "127.0.0.1:0", "", "", config.TLS{}
	c.Hub.URL, c.Hub.SessionDomain, c.Proxy.SessionDomain, c.Proxy.HubURL = "", "", "", ""
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	s, err := newServer(ctx, c, a.Version, a.logger(c, slog.LevelWarn))
	if err != nil {
		end()
		return nil, nil, err
	}
	s.fleeting = true
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.run(own, func() { close(ready) }) }()
	stop = func() error {
		end()
		return <-done
	}
	select {
	case <-ready:
	case err := <-done:
		end()
		return nil, nil, err
	}
	h, err := dialHub(socketPath(c))
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return h, stop, nil
}

// hubRuns says whether a hub answers on its socket. Returns forbidden when this
// user may not ask it.
func hubRuns(ctx context.Context, c config.Config) (bool, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "unix", socketPath(c))
	switch {
	case err == nil:
		return true, conn.Close()
	case errors.Is(err, fs.ErrPermission):
		return false, &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: "cli.connect", Message: "Only the user who runs the hub may command it.", Hint: "sudo binnacle …", Err: err,
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	default:
		return false, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "cli.connect", Message: "The hub on " + c.Data + " does not answer.", Hint: "Look at its log, or restart it.", Err: err,
		}
	}
}

// socketClient speaks HTTP over the hub's socket.
func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
	}}
}

// startBackground starts `binnacle serve` as a process of its own and waits
// until it answers. Its log goes to hub.log in the data directory.
func (a *app) startBackground(ctx context.Context, c config.Config) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if os.Geteuid() != 0 {
		return (&server{cfg: c}).openData(ctx) // says why
	}
	if err := os.MkdirAll(c.Data, 0o711); err != nil { //nolint:gosec // the mapped root of a session passes through
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.Data, "hub.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	path := filepath.Join(c.Data, "ready.sock")
	_ = os.Remove(path)
	var lc net.ListenConfig
	ready, err := lc.ListenPacket(ctx, "unixgram", path)
	if err != nil {
		return fmt.Errorf("wait for the hub: %w", err)
	}
	defer os.Remove(path)
	defer ready.Close()
	args := []string{"serve"}
	if a.configPath != "" {
		args = append(args, "--config", a.configPath)
	}
	if a.data != "" {
		args = append(args, "--data", a.data)
	}
	for _, s := range a.set {
		args = append(args, "--set", s)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(withoutVariable(a.Environ, "NOTIFY_SOCKET"), "NOTIFY_SOCKET="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the hub: %w", err)
	}
	return awaitReady(ctx, ready, cmd, log.Name())
}

func awaitReady(ctx context.Context, ready net.PacketConn, cmd *exec.Cmd, log string) error {
	said, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		b := make([]byte, 256)
		for {
			n, _, err := ready.ReadFrom(b)
			if err != nil || strings.Contains(string(b[:n]), "READY=1") {
				said <- err
				return
			}
		}
	}()
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-said:
		return err
	case err := <-ended:
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "cli.background", Message: "The hub ended before it answered.", Hint: "Its log is " + log + ".", Err: err,
		}
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), cmd.Process.Signal(syscall.SIGTERM))
	}
}

func withoutVariable(environ []string, name string) []string {
	var out []string
	for _, e := range environ {
		if !strings.HasPrefix(e, name+"=") {
			out = append(out, e)
		}
	}
	return out
}
