package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// hub is a hub of the binary under test, with a data directory of its own.
type hub struct {
	bin    string
	cmd    *exec.Cmd
	done   chan error
	data   string
	git    *githost.Host
	client *client.Client
	repo   *githost.Repo
	tcp    *tcpServer
}

const address = "127.0.0.1:18686"

// startHub starts one; more is added to its configuration.
func startHub(ctx context.Context, bin, base, more string) (*hub, error) {
	data, err := os.MkdirTemp("/tmp", "bb")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(data, 0o711); err != nil {
		return nil, err
	}
	git, err := githost.New()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(data, "binnacle.yaml")
	if err := os.WriteFile(config, []byte(hubConfig(data, base)+more), 0o600); err != nil {
		return nil, err
	}
	c, err := client.New(filepath.Join(data, "hub.sock"))
	if err != nil {
		return nil, err
	}
	h := &hub{bin: bin, data: data, git: git, done: make(chan error, 1), client: c}
	h.cmd = exec.Command(bin, "serve", "--config", config)
	log, err := os.Create(filepath.Join(data, "hub.log"))
	if err != nil {
		return nil, err
	}
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { h.done <- h.cmd.Wait() }()
	if err := h.answers(ctx); err != nil {
		return nil, err
	}
	h.repo, err = git.Repo(ctx, "requirements", "examples/requirements")
	return h, err
}

// hubConfig is a hub for a benchmark: no limits that would make it wait.
func hubConfig(data, base string) string {
	return fmt.Sprintf(`data: %s
listen: %s
base: {archive: %q}
source: {allow: [127.0.0.0/8]}
launch: {per_owner: 0, per_repository: 0, address_rate: 0, max_sessions: 40, limits: {memory: 536870912}}
`, data, address, base)
}

func (h *hub) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := h.client.Version(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-h.done:
			log, _ := os.ReadFile(filepath.Join(h.data, "hub.log"))
			return fmt.Errorf("the hub ended: %w\n%s", err, log)
		case <-ctx.Done():
			return errors.New("the hub does not answer")
		}
	}
}

func (h *hub) close(ctx context.Context) error {
	sessions, err := h.client.Sessions(ctx)
	errs := []error{err}
	for _, s := range sessions {
		errs = append(errs, h.client.Stop(ctx, s.ID))
	}
	errs = append(errs, h.cmd.Process.Signal(syscall.SIGTERM), <-h.done, h.git.Close())
	if h.tcp != nil {
		errs = append(errs, h.tcp.close())
	}
	return errors.Join(append(errs, os.RemoveAll(h.data))...)
}

// launch follows a launch to its session and says how long it took until the
// server answered /api/status.
func (h *hub) launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, time.Duration, error) {
	start := time.Now()
	l, err := h.client.Launch(ctx, req)
	if err != nil {
		return l, 0, err
	}
	if err := h.client.Events(ctx, l.ID, 0, func(binnacle.Event) error { return nil }); err != nil {
		return l, 0, err
	}
	if l, err = h.client.Get(ctx, l.ID); err != nil {
		return l, 0, err
	}
	if l.Phase != binnacle.PhaseReady {
		return l, 0, fmt.Errorf("the launch ended as %s: %w", l.Phase, l.Error)
	}
	if l.Session != nil {
		_, err = server(l).Get(ctx, "api/status")
	}
	return l, time.Since(start), err
}

func server(l binnacle.Launch) jupyter.Server {
	return jupyter.Server{URL: l.Session.URL, Token: l.Session.Token, Client: http.DefaultClient}
}

// memory is the hub's resident memory in MiB.
func (h *hub) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory the hub has")
}
