package source_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// need skips when a program is missing, and fails where nothing may be skipped.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	return path
}

func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("slow")
	}
}

func newSource(t *testing.T, change func(*source.Config)) *source.Source {
	t.Helper()
	need(t, "git")
	cfg := source.DefaultConfig()
	cfg.Dir = t.TempDir()
	cfg.Environ = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cfg.Allow = loopback
	if change != nil {
		change(&cfg)
	}
	s, err := source.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// repo is a repository that a test makes with git itself.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T, dir string, initArgs ...string) *repo {
	t.Helper()
	need(t, "git")
	r := &repo{t, dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git(append([]string{"init", "-q", "-b", "main"}, initArgs...)...)
	r.git("config", "http.receivepack", "true")
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return r.gitIn("", args...)
}

func (r *repo) gitIn(stdin string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000",
	}
	out, err := cmd.Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		r.t.Fatalf("git %v: %v: %s", args, err, exit.Stderr)
	}
	return strings.TrimSpace(string(out))
}

// write puts files there: path, content, path, content ….
func (r *repo) write(files ...string) *repo {
	r.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(r.dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	return r
}

// commit commits all there is and returns the commit.
func (r *repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

// plant commits a tree made of ls-tree lines, which may be what git add refuses.
func (r *repo) plant(lines ...string) string {
	r.t.Helper()
	tree := r.gitIn(strings.Join(lines, "\x00")+"\x00", "mktree", "-z", "--missing")
	commit := r.git("commit-tree", "-m", "planted", tree)
	r.git("update-ref", "refs/heads/main", commit)
	return commit
}

func (r *repo) blob(content string) string {
	r.t.Helper()
	return r.gitIn(content, "hash-object", "-w", "--stdin")
}

// server is git http-backend over a directory, with what was asked of it.
type server struct {
	*httptest.Server
	root string

	mu       sync.Mutex
	requests []string
}

func serve(t *testing.T, wrap func(http.Handler) http.Handler) *server {
	t.Helper()
	need(t, "git")
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{root: t.TempDir()}
	var h http.Handler = &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + s.root, "GIT_HTTP_EXPORT_ALL=1", "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "HOME=" + s.root},
	}
	if wrap != nil {
		h = wrap(h)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) repo(t *testing.T, name string, initArgs ...string) *repo {
	t.Helper()
	return newRepo(t, filepath.Join(s.root, name), initArgs...)
}

func (s *server) spec(name, ref string) binnacle.Spec { return gitSpec(s.URL+"/"+name, ref) }

func gitSpec(url, ref string) binnacle.Spec {
	return binnacle.Spec{Provider: binnacle.Git, Repo: url, Ref: ref}
}

// listener counts connections to an address that nobody should reach.
type listener struct {
	net.Listener
	mu    sync.Mutex
	seen  int
	ended sync.WaitGroup
}

func listen(t *testing.T, address string) *listener {
	t.Helper()
	inner, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: inner}
	l.ended.Go(func() {
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			l.seen++
			l.mu.Unlock()
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = inner.Close(); l.ended.Wait() })
	return l
}

func (l *listener) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// recorder is a git that writes down its arguments first.
func recorder(t *testing.T) (program, log string) {
	t.Helper()
	dir := t.TempDir()
	program, log = filepath.Join(dir, "git"), filepath.Join(dir, "log")
	script := "#!/bin/sh\nprintf '%s\\037' \"$@\" >> " + log + "\necho >> " + log + "\nexec " + need(t, "git") + " \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, log
}

// argv reads what recorder wrote, one slice for each run.
func argv(t *testing.T, log string) [][]string {
	t.Helper()
	text, err := os.ReadFile(log)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var runs [][]string
	for line := range strings.Lines(string(text)) {
		runs = append(runs, strings.Split(strings.TrimSuffix(line, "\x1f\n"), "\x1f"))
	}
	return runs
}

// lines collects what Fetch reports.
type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.list, "\n"), text)
}

// files reads a tree back: content, "link → target", with * for executables.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			got[rel] = "link → " + target
			return err
		}
		text, err := os.ReadFile(p)
		if info.Mode()&0o100 != 0 {
			rel += "*"
		}
		got[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// fetch resolves and fetches, and returns what arrived.
func fetch(t *testing.T, s *source.Source, spec binnacle.Spec, p source.Policy) (map[string]string, *lines, error) {
	t.Helper()
	rev, err := s.Resolve(t.Context(), spec, p)
	if err != nil {
		t.Fatalf("resolve: %v", err)
	}
	dir, l := filepath.Join(t.TempDir(), "out"), &lines{}
	if err := s.Fetch(t.Context(), rev, p, dir, l.add); err != nil {
		if _, statErr := os.Stat(dir); statErr == nil {
			t.Errorf("Fetch failed and left %s", dir)
		}
		return nil, l, err
	}
	return files(t, dir), l, nil
}

// fakeResolver answers with one list after the other, the last one for ever.
type fakeResolver struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr
}

func (f *fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.answers[host]
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) > 1 {
		f.answers[host] = list[1:]
	}
	return list[0], nil
}
