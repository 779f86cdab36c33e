package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// venv is a Python environment with the peers, made once a run.
func venv(ctx context.Context, packages ...string) (string, error) {
	dir, err := os.MkdirTemp("/tmp", "peer")
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		return dir, fmt.Errorf("python3 -m venv: %s: %w", out, err)
	}
	args := append([]string{"install", "-q", "--disable-pip-version-check"}, packages...)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "bin/pip"), args...)
	cmd.Env = peerEnv() // with .pyc files: a Python without them starts three times slower
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("pip install: %s: %w", out, err)
	}
	return dir, nil
}

// peerEnv is ours without what makes Python slow.
func peerEnv(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PYTHONDONTWRITEBYTECODE=") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// tcpServer is a JupyterLab on loopback without anything of ours.
type tcpServer struct {
	server jupyter.Server
	cmd    *exec.Cmd
	dir    string
}

func startTCP(ctx context.Context) (*tcpServer, error) {
	dir, err := venv(ctx, "jupyterlab", "ipykernel")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	const port = "18688"
	s := &tcpServer{dir: dir, server: jupyter.Server{URL: "http://127.0.0.1:" + port + "/", Token: "bench", Client: http.DefaultClient}}
	s.cmd = exec.Command(filepath.Join(dir, "bin/jupyter-lab"), "--allow-root", "--no-browser", "--ip=127.0.0.1", "--port="+port, "--ServerApp.port_retries=0")
	s.cmd.Dir = dir
	s.cmd.Env = peerEnv("PATH="+dir+"/bin:"+os.Getenv("PATH"), "JUPYTER_TOKEN=bench", "HOME="+dir)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := until(ctx, func() bool { _, err := s.server.Get(ctx, "api/status"); return err == nil }); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *tcpServer) close() error {
	err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait() // killed
	return errors.Join(err, os.RemoveAll(s.dir))
}

// until waits for something that has no way to tell.
func until(ctx context.Context, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const hubToken = "bench-token"

// measureJupyterHub launches JupyterLab through JupyterHub with its local
// spawner and its own proxy: a process, no container, no image.
func measureJupyterHub(ctx context.Context, r *report, rounds int) (err error) {
	dir, err := venv(ctx, "jupyterhub", "jupyterlab", "ipykernel")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err != nil {
		return err
	}
	npm := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "configurable-http-proxy", "node@22")
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install configurable-http-proxy: %s: %w", out, err)
	}
	const port = "18690"
	config := fmt.Sprintf(`
c.JupyterHub.bind_url = "http://127.0.0.1:%s"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:18691"
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.log_level = "WARN"
c.Authenticator.allow_all = True
c.Spawner.args = ["--allow-root"]
c.Spawner.cmd = ["jupyterhub-singleuser"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:18692"
c.JupyterHub.services = [{"name": "bench", "api_token": "%s-0123456789abcdef", "admin": True}]
c.JupyterHub.load_roles = [{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"]}]
`, port, hubToken)
	if err := os.WriteFile(filepath.Join(dir, "config.py"), []byte(config), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(dir, "bin/jupyterhub"), "-f", "config.py")
	cmd.Dir = dir
	cmd.Env = peerEnv("PATH="+dir+"/bin:"+dir+"/node_modules/.bin:"+os.Getenv("PATH"), "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(dir, "hub.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait() // killed
	}()
	api := "http://127.0.0.1:" + port + "/hub/api/"
	if err := until(ctx, func() bool { return call(ctx, http.MethodGet, api+"users") == nil }); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "hub.log"))
		return fmt.Errorf("it does not answer: %w: %.2000s", err, text)
	}
	var took []float64
	for i := range rounds {
		user := fmt.Sprintf("user%d", i)
		start := time.Now()
		if err := errors.Join(call(ctx, http.MethodPost, api+"users/"+user), call(ctx, http.MethodPost, api+"users/"+user+"/server")); err != nil {
			return err
		}
		status := "http://127.0.0.1:" + port + "/user/" + user + "/api/status"
		if err := until(ctx, func() bool { return call(ctx, http.MethodGet, status) == nil }); err != nil {
			return fmt.Errorf("the server of %s: %w", user, err)
		}
		took = append(took, milliseconds(time.Since(start)))
		if err := call(ctx, http.MethodDelete, api+"users/"+user+"/server"); err != nil {
			return err
		}
	}
	r.add("JupyterHub: request to /api/status 200", "ms", "local process spawner, dummy login, its own proxy; no image and no container", took...)
	return nil
}

func call(ctx context.Context, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "token "+hubToken+"-0123456789abcdef")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, url, res.Status)
	}
	return nil
}
