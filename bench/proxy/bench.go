package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The cores that children are pinned to.
const (
	loadCore  = 0
	proxyCore = 1
)

// conns is how many requests are under way at a time.
const (
	smallConns = 64
	bigConns   = 8
	echoConns  = 64
)

const settle = 2 * time.Second

type bench struct {
	options
	dir      string
	out      io.Writer
	node     string // program
	backends []string
}

// contender is one proxy in one set-up.
type contender struct {
	name    string
	role    string // chp, ours, stock or direct
	backend string
}

func (b *bench) proxies() []contender {
	unix, tcp := b.backends[0], b.backends[1]
	all := []contender{
		{"chp", "chp", tcp},
		{"binnacle (unix socket)", "ours", unix},
		{"binnacle (tcp)", "ours", tcp},
		{"net/http ReverseProxy", "stock", tcp},
		{"no proxy", "direct", tcp},
	}
	if b.only == "" {
		return all
	}
	var some []contender
	for _, c := range all {
		if strings.Contains(c.name, b.only) {
			some = append(some, c)
		}
	}
	return some
}

type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	ended chan struct{}
}

// pinned is the command, on one core where that can be done.
func pinned(ctx context.Context, core int, program string, args ...string) *exec.Cmd {
	if taskset, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		args = append([]string{"-c", strconv.Itoa(core), program}, args...)
		program = taskset
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	return cmd
}

// spawn runs this program in another role.
func (b *bench) spawn(ctx context.Context, name string, core int, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(name, pinned(ctx, core, self, args...))
}

func start(name string, cmd *exec.Cmd) (*child, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &child{cmd: cmd, in: in, out: json.NewDecoder(out), ended: make(chan struct{})}, nil
}

func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// do gives the load process an order.
func (c *child) do(o order) (outcome, error) {
	if err := json.NewEncoder(c.in).Encode(o); err != nil {
		return outcome{}, err
	}
	var done outcome
	if err := c.out.Decode(&done); err != nil {
		return outcome{}, err
	}
	if done.Error != "" {
		return done, errors.New(done.Error)
	}
	return done, nil
}

// sample measures one proxy once, in fresh processes: one for requests, one
// for idle WebSockets.
func (b *bench) sample(ctx context.Context, c contender) (sample, error) {
	var s sample
	load, err := b.spawn(ctx, "load", loadCore, "-role", "load")
	if err != nil {
		return s, err
	}
	defer load.stop()
	if err := b.requests(ctx, c, load, &s); err != nil {
		return s, err
	}
	if c.role == "direct" {
		return s, nil
	}
	return s, b.memory(ctx, c, load, &s)
}

func (b *bench) requests(ctx context.Context, c contender, load *child, s *sample) error {
	p, address, err := b.run(ctx, c)
	if err != nil {
		return err
	}
	pid := 0
	if p != nil {
		defer p.stop()
		pid = p.cmd.Process.Pid
		s.RSSStart = rss(pid)
	}
	get := order{Kind: "get", Address: address, Path: "/user/u500/api", Conns: smallConns, Duration: settle}
	if _, err := load.do(get); err != nil { // warm up
		return err
	}
	get.Duration = b.duration
	if s.Small, s.PerCPUSecond, err = costed(load, pid, get); err != nil {
		return err
	}
	if s.One, err = load.do(order{Kind: "get", Address: address, Path: "/user/u500/api", Conns: 1, Duration: b.duration / 2}); err != nil {
		return err
	}
	big := order{Kind: "get", Address: address, Path: "/user/u500/big", Conns: bigConns, Duration: b.duration}
	if s.Big, s.BigPerCPUSecond, err = costed(load, pid, big); err != nil {
		return err
	}
	echo := order{Kind: "cell", Address: address, Path: "/user/u500/echo", Conns: echoConns, Duration: b.duration}
	if s.Echo, s.EchoPerCPUSecond, err = costed(load, pid, echo); err != nil {
		return err
	}
	cell, err := load.do(order{Kind: "cell", Address: address, Path: "/user/u500/cell", Conns: 1, Duration: b.duration / 2})
	if err != nil {
		return err
	}
	s.Cell = cell.P50
	if p != nil {
		s.RSSLoaded = rss(pid)
	}
	return nil
}

// costed also gives what the proxy did in a second of processor time, which
// says more on a machine with other things to do.
func costed(load *child, pid int, o order) (outcome, float64, error) {
	before := cpu(pid)
	done, err := load.do(o)
	used := cpu(pid) - before
	if err != nil || used <= 0 {
		return done, 0, err
	}
	return done, float64(done.Requests) / used.Seconds(), nil
}

// memory measures what idle WebSockets add to a fresh proxy that has carried a
// few before.
func (b *bench) memory(ctx context.Context, c contender, load *child, s *sample) error {
	p, address, err := b.run(ctx, c)
	if err != nil {
		return err
	}
	defer p.stop()
	idle := order{Kind: "idle", Address: address, Path: "/user/u500/echo", Conns: 50}
	if _, err := load.do(idle); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	before := rss(p.cmd.Process.Pid)
	idle.Conns = b.idle
	if _, err := load.do(idle); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	s.RSSIdle = rss(p.cmd.Process.Pid)
	s.IdleKiB = (s.RSSIdle - before) * 1024 / float64(b.idle)
	return nil
}

// run starts a proxy; nil for none.
func (b *bench) run(ctx context.Context, c contender) (*child, string, error) {
	if c.role == "direct" {
		_, address, _ := strings.Cut(c.backend, ":")
		return nil, address, nil
	}
	address := "127.0.0.1:" + freePort()
	var p *child
	var err error
	if c.role == "chp" {
		p, err = b.runCHP(ctx, address, c.backend)
	} else {
		p, err = b.spawn(ctx, c.name, proxyCore, "-role", c.role, "-listen", "tcp:"+address, "-backend", c.backend)
	}
	if err != nil {
		return nil, "", err
	}
	if err := waitFor(ctx, "tcp:"+address); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, address, nil
}

// installCHP takes CHP and a node that is new enough for it from npm.
func (b *bench) installCHP(ctx context.Context) error {
	if b.chp == "" {
		b.chp = b.dir
		npm := exec.CommandContext(ctx, "npm", "install", "--prefix", b.chp, "--no-audit", "--no-fund", "configurable-http-proxy", "node@22")
		if out, err := npm.CombinedOutput(); err != nil {
			return fmt.Errorf("npm install: %w: %s", err, out)
		}
	}
	b.node = filepath.Join(b.chp, "node_modules", ".bin", "node")
	if err := exec.CommandContext(ctx, b.node, "--version").Run(); err == nil {
		return nil
	}
	node, err := exec.LookPath("node")
	b.node = node
	return err
}

// runCHP starts CHP with 1,000 routes, as a hub of that size has them.
func (b *bench) runCHP(ctx context.Context, address, backend string) (*child, error) {
	_, port, _ := strings.Cut(address, ":")
	_, to, _ := strings.Cut(backend, ":")
	api := freePort()
	program := filepath.Join(b.chp, "node_modules", "configurable-http-proxy", "bin", "configurable-http-proxy")
	cmd := pinned(ctx, proxyCore, b.node, program, "--ip", "127.0.0.1", "--port", port,
		"--api-ip", "127.0.0.1", "--api-port", api, "--log-level", "error")
	p, err := start("configurable-http-proxy", cmd)
	if err != nil {
		return nil, err
	}
	err = waitFor(ctx, "tcp:127.0.0.1:"+api)
	client := &http.Client{Timeout: 10 * time.Second}
	for i := 0; i < 1000 && err == nil; i++ {
		err = addRoute(ctx, client, fmt.Sprintf("http://127.0.0.1:%s/api/routes/user/u%d", api, i), "http://"+to)
	}
	client.CloseIdleConnections()
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func addRoute(ctx context.Context, client *http.Client, at, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(`{"target":"`+target+`"}`))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("add a route: %s", res.Status)
	}
	return nil
}

// waitFor waits until somebody listens.
func waitFor(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	network, at, _ := strings.Cut(address, ":")
	for {
		c, err := dialer{network, at}.Dial(ctx, "")
		if err == nil {
			return c.Close()
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("nothing listens on %s: %w", at, err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
