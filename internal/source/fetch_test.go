package source_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	r := srv.repo(t, "repo")
	r.write("README", "hello", "dir/run.sh", "#!/bin/sh", "dir/ü n.txt", "u", ".gitattributes", "*.x filter=evil\n* text=auto\n", "a.x", "plain")
	if err := os.Chmod(filepath.Join(r.dir, "dir/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../README", filepath.Join(r.dir, "dir/link")); err != nil {
		t.Fatal(err)
	}
	r.commit("one")
	s := newSource(t, nil)
	got, l, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{})
	want := map[string]string{
		"README": "hello", "dir/run.sh*": "#!/bin/sh", "dir/ü n.txt": "u", "dir/link": "link → ../README", ".gitattributes": "*.x filter=evil\n* text=auto\n", "a.x": "plain",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if l.has("note:") {
		t.Errorf("notes: %q", l.list)
	}
}

// TestFetchDelta: the second commit costs what it changed, the same one nothing.
func TestFetchDelta(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	srv := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&countingWriter{w, &sent}, r) })
	})
	r := srv.repo(t, "repo")
	noise := make([]byte, 1<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	r.write("big", string(noise), "small", "1").commit("one")
	s := newSource(t, nil)
	transfer := func() int64 {
		before := sent.Load()
		if _, _, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{}); err != nil {
			t.Fatal(err)
		}
		return sent.Load() - before
	}
	first := transfer()
	r.write("small", "2").commit("two")
	second := transfer()
	third := transfer()
	if first < 1<<20 || second > 1<<14 || third > 1<<11 {
		t.Errorf("transferred %d, then %d, then %d bytes", first, second, third)
	}
	if usage, err := s.Usage(t.Context()); err != nil || usage < 1<<20 {
		t.Errorf("Usage = %d, %v", usage, err)
	}
	if freed, err := s.Prune(t.Context(), time.Hour, 0); freed != 0 || err != nil {
		t.Errorf("Prune of what is in use freed %d, %v", freed, err)
	}
	if freed, err := s.Prune(t.Context(), 0, 1); freed < 1<<20 || err != nil {
		t.Errorf("Prune to a budget freed %d, %v", freed, err)
	}
	if usage, err := s.Usage(t.Context()); err != nil || usage != 0 {
		t.Errorf("Usage after Prune = %d, %v", usage, err)
	}
	if again := transfer(); again < 1<<20 {
		t.Errorf("after Prune only %d bytes were transferred", again)
	}
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// TestOldServer speaks protocol 0 only, which gives out tips and nothing else.
func TestOldServer(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Git-Protocol")
			h.ServeHTTP(w, r)
		})
	})
	r := srv.repo(t, "repo")
	old := r.write("a", "1").commit("one")
	r.write("a", "2").commit("two")
	s := newSource(t, nil)
	for ref, want := range map[string]string{"main": "2", old: "1"} {
		got, _, err := fetch(t, s, srv.spec("repo", ref), source.Policy{})
		if diff := cmp.Diff(map[string]string{"a": want}, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", ref, err, diff)
		}
	}
	if _, err := s.Resolve(t.Context(), srv.spec("repo", sha), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("no such commit: %v", err)
	}
}

// TestHostileTrees plants trees that git add would not make.
func TestHostileTrees(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	s := newSource(t, nil)
	for name, c := range map[string]struct {
		entries func(r *repo) []string
		code    binnacle.Code
		want    map[string]string
		note    string
	}{
		"link": {func(r *repo) []string {
			return []string{
				"100644 blob " + r.blob("x") + "\ta", "120000 blob " + r.blob("/etc/passwd") + "\tabsolute", "120000 blob " + r.blob("../../etc/passwd") + "\tup",
				"120000 blob " + r.blob("a") + "\tgood", "120000 blob " + r.blob("loop") + "\tloop", "120000 blob " + r.blob("up/x") + "\tvia",
			}
		}, "", map[string]string{"a": "x", "good": "link → a"}, `"absolute" leads out`},
		"dotdot":  {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\t.."} }, binnacle.CodeInvalid, nil, ""},
		"git":     {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\t.git"} }, binnacle.CodeInvalid, nil, ""},
		"GIT":     {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\t.GiT"} }, binnacle.CodeInvalid, nil, ""},
		"newline": {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\ta\nb"} }, binnacle.CodeInvalid, nil, ""},
		"escape":  {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\ta\x1b[2J"} }, binnacle.CodeInvalid, nil, ""},
		"latin1":  {func(r *repo) []string { return []string{"100644 blob " + r.blob("x") + "\t\xfc"} }, binnacle.CodeInvalid, nil, ""},
		"nested .git": {func(r *repo) []string {
			hooks := r.gitIn("100644 blob "+r.blob("x")+"\tconfig\x00", "mktree", "-z")
			return []string{"040000 tree " + r.gitIn("040000 tree "+hooks+"\t.git\x00", "mktree", "-z") + "\tdir"}
		}, binnacle.CodeInvalid, nil, ""},
		"twice": {func(r *repo) []string {
			sub := r.gitIn("100644 blob "+r.blob("x")+"\tb\x00", "mktree", "-z")
			return []string{"120000 blob " + r.blob(".") + "\ta", "040000 tree " + sub + "\ta"}
		}, binnacle.CodeInvalid, nil, ""},
		"module without address": {func(r *repo) []string {
			return []string{"100644 blob " + r.blob("x") + "\ta", "160000 commit " + sha + "\tmod"}
		}, "", map[string]string{"a": "x"}, "does not say"},
	} {
		r := srv.repo(t, name)
		r.plant(c.entries(r)...)
		target := srv.spec(strings.ReplaceAll(name, " ", "%20"), "main")
		got, l, err := fetch(t, s, target, source.Policy{})
		if diff := cmp.Diff(c.want, got); binnacle.CodeOf(err) != c.code || diff != "" || !l.has(c.note) {
			t.Errorf("%s: %v, notes %q (-want +got):\n%s", name, err, l.list, diff)
		}
	}
}

func TestLinksThatLeave(t *testing.T) {
	t.Parallel()
	links := map[string]string{
		"in": "dir/file", "dir/in": "../x", "root": "dir/..", "dir/up": "../..", "abs": "/x", "a/b/top": "../..", "detour": "a/b/top/../x", "ok": "a/b/top/x",
		"one": "two", "two": "one", "empty": "", "chain": "detour",
	}
	want := []string{"abs", "chain", "detour", "dir/up", "empty", "one", "two"}
	if diff := cmp.Diff(want, source.Leaves(links)); diff != "" {
		t.Error(diff)
	}
}

func TestManyFiles(t *testing.T) {
	t.Parallel()
	slow(t)
	srv := serve(t, nil)
	r := srv.repo(t, "repo")
	for i := range 2000 {
		r.write(fmt.Sprintf("d%d/f%d", i%50, i), strconv.Itoa(i))
	}
	r.commit("many")
	got, _, err := fetch(t, newSource(t, nil), srv.spec("repo", "main"), source.Policy{})
	if err != nil || len(got) != 2000 || got["d49/f1999"] != "1999" {
		t.Errorf("%d files, %v", len(got), err)
	}
	_, _, err = fetch(t, newSource(t, func(c *source.Config) { c.MaxFiles = 1999 }), srv.spec("repo", "main"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeLimited {
		t.Errorf("over the limit: %v", err)
	}
}

// TestBombs: a little that unpacks to much is refused before it is written.
func TestBombs(t *testing.T) {
	t.Parallel()
	slow(t)
	srv := serve(t, nil)
	r := srv.repo(t, "zeros")
	r.write("zeros", strings.Repeat("\x00", 20<<20)).commit("zeros")
	s := newSource(t, func(c *source.Config) { c.MaxBytes = 10 << 20 })
	if _, _, err := fetch(t, s, srv.spec("zeros", "main"), source.Policy{}); !overLimit(err, "larger than this hub allows") {
		t.Errorf("zeros: %v", err)
	}
	r = srv.repo(t, "tree") // ten to the tenth files
	line := "100644 blob " + r.blob("x")
	kind := ""
	for range 10 {
		var entries strings.Builder
		for i := range 10 {
			fmt.Fprintf(&entries, "%s\t%s%d\x00", line, kind, i)
		}
		line, kind = "040000 tree "+r.gitIn(entries.String(), "mktree", "-z"), "d"
	}
	r.plant(line + "\ttop")
	if _, _, err := fetch(t, s, srv.spec("tree", "main"), source.Policy{}); !overLimit(err, "more files than this hub allows") {
		t.Errorf("tree: %v", err)
	}
}

// overLimit says whether an error tells what is over the limit, and what to do.
func overLimit(err error, what string) bool {
	e := binnacle.Public(err)
	return e.Code == binnacle.CodeLimited && strings.Contains(e.Message, what) && strings.Contains(e.Hint, "ask the operator of this hub for a higher limit")
}

// TestEndlessDownload is a server that sends without end.
func TestEndlessDownload(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(body), "command=fetch") {
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				h.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			_, _ = io.WriteString(w, "000dpackfile\n")
			// A pack of one object whose content never ends: stored deflate blocks.
			chunk := "\x00\x00\x40\xff\xbf" + strings.Repeat("x", 0x4000)
			data := "PACK\x00\x00\x00\x02\x00\x00\x00\x01\xbf\xff\xff\xff\xff\x0f\x78\x01"
			for r.Context().Err() == nil {
				_, err := fmt.Fprintf(w, "%04x\x01%s", len(data)+5, data)
				if err != nil {
					return
				}
				data = chunk
			}
		})
	})
	r := srv.repo(t, "repo")
	r.write("a", "1").commit("one")
	s := newSource(t, func(c *source.Config) { c.MaxBytes = 8 << 20; c.FetchTimeout = 30 * time.Second })
	_, _, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeLimited {
		t.Errorf("endless: %v", err)
	}
	if usage, err := s.Usage(t.Context()); err != nil || usage > 1<<20 {
		t.Errorf("%d bytes are left, %v", usage, err)
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	})
	t.Cleanup(func() { close(release) })
	s := newSource(t, func(c *source.Config) { c.ResolveTimeout = 300 * time.Millisecond })
	for _, p := range []source.Policy{{}, {Local: true}} {
		start := time.Now()
		_, err := s.Resolve(t.Context(), srv.spec("repo", "main"), p)
		if binnacle.CodeOf(err) != binnacle.CodeTimeout || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	}
}

// TestNoPrompt: a server that wants a password is answered at once.
func TestNoPrompt(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
	})
	s := newSource(t, func(c *source.Config) { c.ResolveTimeout = 20 * time.Second })
	for _, p := range []source.Policy{{}, {Local: true}} {
		_, err := s.Resolve(t.Context(), srv.spec("repo", "main"), p)
		if binnacle.CodeOf(err) != binnacle.CodeNotFound || !strings.Contains(binnacle.Public(err).Message, "not public") || !strings.Contains(binnacle.Public(err).Hint, "has to be made public") {
			t.Errorf("%v", err)
		}
	}
}

// TestMirrorsApart: what a trusted caller fetched is not there for the public.
func TestMirrorsApart(t *testing.T) {
	t.Parallel()
	var closed atomic.Bool
	srv := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if closed.Load() {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	commit := srv.repo(t, "repo").write("a", "private").commit("one")
	s := newSource(t, nil)
	if _, _, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{Local: true}); err != nil {
		t.Fatal(err)
	}
	closed.Store(true)
	if _, err := s.Resolve(t.Context(), srv.spec("repo", commit), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("the public got a private commit: %v", err)
	}
	if _, err := s.Resolve(t.Context(), srv.spec("repo", commit), source.Policy{Local: true}); err != nil {
		t.Errorf("a commit that is here needs no server: %v", err)
	}
}

// TestBrokenMirror: what a crash damaged is fetched again.
func TestBrokenMirror(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	srv.repo(t, "repo").write("a", "1", "b", "2").commit("one")
	var dir string
	s := newSource(t, func(c *source.Config) { dir = c.Dir })
	for _, damage := range []string{"", "*.git/objects/pack/*.pack", "*.git/HEAD"} {
		broken, err := filepath.Glob(filepath.Join(dir, damage))
		if err != nil || damage != "" && len(broken) == 0 {
			t.Fatalf("%s: %v %v", damage, broken, err)
		}
		for _, name := range broken {
			if damage != "" && os.Remove(name) != nil {
				t.Fatal(name)
			}
		}
		locks, _ := filepath.Glob(filepath.Join(dir, "*.git"))
		for _, m := range locks {
			if err := os.WriteFile(filepath.Join(m, "shallow.lock"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{}); err != nil || got["b"] != "2" {
			t.Errorf("after the loss of %q: %v, %v", damage, got, err)
		}
	}
}

// TestAtOnce: many fetches of one repository share its mirror.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	srv.repo(t, "repo").write("a", "1").commit("one")
	s := newSource(t, nil)
	rev, err := s.Resolve(t.Context(), srv.spec("repo", "main"), source.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			dir := filepath.Join(base, strconv.Itoa(i))
			if err := s.Fetch(t.Context(), rev, source.Policy{}, dir, nil); err != nil {
				t.Error(err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(text) != "1" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	group.Wait()
	if err := s.Fetch(t.Context(), rev, source.Policy{}, filepath.Join(base, "0"), nil); err == nil {
		t.Error("Fetch wrote into a directory that was there")
	}
	if _, err := os.Stat(filepath.Join(base, "0", "a")); err != nil {
		t.Error("a refused Fetch removed what was there")
	}
}

// TestCancel: git and its helpers end with the caller's context.
func TestCancel(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	srv := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		})
	})
	s := newSource(t, nil)
	for _, p := range []source.Policy{{}, {Local: true}} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		_, err := s.Resolve(ctx, srv.spec("repo", "main"), p)
		if binnacle.CodeOf(err) != binnacle.CodeCanceled {
			t.Errorf("%v", err)
		}
		<-gone // the helper that held the connection has ended
		cancel()
	}
}

// TestNotACommit: a tag may name a folder, which is no revision.
func TestNotACommit(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	r := srv.repo(t, "repo")
	r.write("a", "1").commit("one")
	r.git("tag", "folder", "HEAD^{tree}")
	_, _, err := fetch(t, newSource(t, nil), srv.spec("repo", "folder"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Errorf("%v", err)
	}
}

// TestSSH looks at how ssh is called: for the public never with the person's
// keys, and to the address that was checked.
func TestSSH(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >> " + log + "\nexit 255\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSource(t, func(c *source.Config) {
		c.Protocols = []string{"ssh"}
		c.Environ = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	})
	s.SetResolver(&fakeResolver{answers: map[string][][]netip.Addr{"git.example.org": {addrs("127.0.0.9")}}})
	_, err := s.Resolve(t.Context(), gitSpec("git@git.example.org:team/repo.git", "main"), source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-oBatchMode=yes\n", "-oHostName=127.0.0.9\n", "-oHostKeyAlias=git.example.org\n", "-oIdentityFile=none\n", "-F/dev/null\n", "git@git.example.org\n", "git-upload-pack '/team/repo.git'\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("ssh was not called with %q but with\n%s", want, text)
		}
	}
}

// TestCredentialHelper: a trusted caller's git may use its helper, the public's
// never does, and no mirror or error holds the password.
func TestCredentialHelper(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "hunter2" {
				w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	srv.repo(t, "repo").write("a", "private").commit("one")
	home := t.TempDir()
	helper := "[credential]\n\thelper = \"!f() { echo username=me; echo password=hunter2; }; f\"\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(helper), 0o600); err != nil {
		t.Fatal(err)
	}
	var dir string
	s := newSource(t, func(c *source.Config) {
		c.Environ = append(c.Environ, "HOME="+home)
		dir = c.Dir
	})
	if got, _, err := fetch(t, s, srv.spec("repo", "main"), source.Policy{Local: true}); err != nil || got["a"] != "private" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := s.Resolve(t.Context(), srv.spec("repo", "main"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("the public: %v", err)
	}
	for name, text := range files(t, dir) {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s holds the password", name)
		}
	}
}
