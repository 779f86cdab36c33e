// Package githost is a git server on loopback for tests: git's own smart HTTP
// backend, with repositories made from directories or from a list of files.
package githost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Host serves repositories; Close ends it and removes them.
type Host struct {
	URL    string // of the host, without a slash at the end
	dir    string
	server *httptest.Server
}

// New starts a host with no repositories.
func New() (*Host, error) { return On("127.0.0.1:0") }

// On starts one on an address of this machine that a network of a test reaches.
func On(address string) (*Host, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return Behind(l)
}

// Behind starts one on a listener, which may be another machine's.
func Behind(l net.Listener) (*Host, error) {
	dir, err := os.MkdirTemp("", "githost")
	if err != nil {
		return nil, err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, err
	}
	h := &Host{dir: dir}
	h.server = &httptest.Server{Listener: l, Config: &http.Server{ReadHeaderTimeout: time.Minute, Handler: &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Stderr: os.Stderr,
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"},
	}}}
	h.server.Start()
	h.URL = h.server.URL
	return h, nil
}

// Close stops the host.
func (h *Host) Close() error {
	h.server.Close()
	return os.RemoveAll(h.dir)
}

// Repo is a repository of the host.
type Repo struct {
	URL  string
	work string
}

// Repo makes a repository with one commit that holds the files of dir.
func (h *Host) Repo(ctx context.Context, name, dir string) (*Repo, error) {
	bare := filepath.Join(h.dir, name+".git")
	r := &Repo{URL: h.URL + "/" + name + ".git", work: filepath.Join(h.dir, name+".work")}
	if err := git(ctx, "", "init", "-q", "--bare", "-b", "main", bare); err != nil {
		return nil, err
	}
	for _, c := range [][]string{{"config", "uploadpack.allowAnySHA1InWant", "true"}, {"config", "uploadpack.allowFilter", "true"}} {
		if err := git(ctx, bare, c...); err != nil {
			return nil, err
		}
	}
	if err := git(ctx, "", "clone", "-q", bare, r.work); err != nil {
		return nil, err
	}
	if dir != "" {
		if err := os.CopyFS(r.work, os.DirFS(dir)); err != nil {
			return nil, err
		}
		if err := executable(dir, r.work); err != nil {
			return nil, err
		}
	}
	_, err := r.Commit(ctx, nil)
	return r, err
}

// executable copies what os.CopyFS does not: the permission to run a file.
func executable(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode()&0o111 == 0 {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, rel), 0o755)
	})
}

// Commit writes the files, commits everything, pushes, and returns the commit.
func (r *Repo) Commit(ctx context.Context, files map[string]string) (string, error) {
	return r.commitTo(ctx, "main", files)
}

// Branch is Commit onto another branch; main stays where it is.
func (r *Repo) Branch(ctx context.Context, name string, files map[string]string) error {
	_, err := r.commitTo(ctx, name, files)
	return errors.Join(err, git(ctx, r.work, "reset", "-q", "--hard", "origin/main"))
}

func (r *Repo) commitTo(ctx context.Context, branch string, files map[string]string) (string, error) {
	for name, text := range files {
		path := filepath.Join(r.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	for _, c := range [][]string{
		{"add", "-A"}, {"commit", "-q", "--allow-empty", "-m", "a commit"}, {"push", "-q", "origin", "HEAD:refs/heads/" + branch},
	} {
		if err := git(ctx, r.work, c...); err != nil {
			return "", err
		}
	}
	out, err := command(ctx, r.work, "rev-parse", "HEAD").Output()
	return strings.TrimSpace(string(out)), err
}

func git(ctx context.Context, dir string, args ...string) error {
	out, err := command(ctx, dir, args...).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("git %s: %s", strings.Join(args, " "), out), err)
	}
	return nil
}

func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	who := []string{"-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"}
	cmd := exec.CommandContext(ctx, "git", append(who, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1")
	return cmd
}
