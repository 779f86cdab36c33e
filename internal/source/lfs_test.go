package source_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// lfsServer answers as a server of Git LFS does; where holds what it says of
// the place of the object, empty for its own.
type lfsServer struct {
	*server
	mu      sync.Mutex
	where   string
	content string
	sent    atomic.Int64
}

func serveLFS(t *testing.T, content string) *lfsServer {
	t.Helper()
	l := &lfsServer{content: content}
	l.server = serve(t, func(git http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/", git)
		mux.HandleFunc("POST /repo.git/info/lfs/objects/batch", l.batch)
		mux.HandleFunc("GET /object", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Key") != "k" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			l.sent.Add(1)
			fmt.Fprint(w, l.content)
		})
		return mux
	})
	return l
}

func (l *lfsServer) batch(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Operation string
		Objects   []struct {
			OID  string `json:"oid"`
			Size int64  `json:"size"`
		}
	}
	if json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Operation != "download" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	href := l.where
	l.mu.Unlock()
	if href == "" {
		href = l.URL + "/object"
	}
	var objects []any
	for _, o := range ask.Objects {
		objects = append(objects, map[string]any{
			"oid": o.OID, "size": o.Size,
			"actions": map[string]any{"download": map[string]any{"href": href, "header": map[string]string{"X-Key": "k"}}},
		})
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"objects": objects})
}

func TestLargeFiles(t *testing.T) {
	t.Parallel()
	const content = "a large file, as they go"
	l := serveLFS(t, content)
	sum := sha256.Sum256([]byte(content))
	pointer := fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", hex.EncodeToString(sum[:]), len(content))
	l.repo(t, "repo.git").write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n", "x.bin", pointer, "sub/y.bin", pointer, "other", "o").commit("one")
	spec := l.spec("repo.git", "main")
	want := map[string]string{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "x.bin": content, "sub/y.bin": content, "other": "o"}

	for _, p := range []source.Policy{{}, {Local: true}} {
		s := newSource(t, nil)
		before := l.sent.Load()
		for range 2 {
			got, notes, err := fetch(t, s, spec, p)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v, %q (-want +got):\n%s", err, notes.list, diff)
			}
		}
		if n := l.sent.Load() - before; n != 1 {
			t.Errorf("%d downloads of one object, want 1", n)
		}
	}

	// What cannot be had stays a pointer, with a note.
	trap := listen(t, "127.0.0.6:0")
	want["x.bin"], want["sub/y.bin"] = pointer, pointer
	closed := func(c *source.Config) { c.Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.6/32")} }
	for where, change := range map[string]func(*source.Config){
		"off": func(c *source.Config) { c.LFS = false }, "http://" + trap.Addr().String() + "/x": closed, l.URL + "/missing": nil, "file:///etc/passwd": nil, l.URL + "/repo.git/HEAD": nil,
	} {
		l.mu.Lock()
		l.where = where
		l.mu.Unlock()
		got, notes, err := fetch(t, newSource(t, change), spec, source.Policy{})
		if diff := cmp.Diff(want, got); err != nil || diff != "" || !notes.has(source.Note+`Pointers of Git LFS stand where these files should be: "sub/y.bin", "x.bin". They were not fetched: `) || !notes.has("commit small files without LFS") {
			t.Errorf("%s: %v, %q (-want +got):\n%s", where, err, notes.list, diff)
		}
	}
	if n := trap.connections(); n > 0 {
		t.Errorf("%d connections to an address that is closed", n)
	}
	small := newSource(t, func(c *source.Config) { c.MaxBytes = int64(len(pointer)*2 + 80) })
	if _, _, err := fetch(t, small, spec, source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeLimited || !strings.Contains(err.Error(), "large files") {
		t.Errorf("over the limit: %v", err)
	}
}
