package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

func TestDirectory(t *testing.T) {
	t.Parallel()
	s := newSource(t, nil)
	dir := t.TempDir()
	put := func(name, content string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1", 0o644)
	put("sub/run", "#!", 0o700)
	put(".git/config", "secret", 0o600)
	put("sub/.git", "gitdir: x", 0o600)
	link("a", "in")
	link("/etc/passwd", "out")
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := binnacle.Spec{Provider: binnacle.Dir, Repo: dir}
	local := source.Policy{Local: true}

	got, l, err := fetch(t, s, spec, local)
	want := map[string]string{"a": "1", "sub/run*": "#!", "in": "link → a"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !l.has(`"out" leads out`) || !l.has(`"pipe" is neither`) {
		t.Errorf("notes: %q", l.list)
	}

	digest := func() string {
		t.Helper()
		rev, err := s.Resolve(t.Context(), spec, local)
		if err != nil || len(rev.Commit) != 64 || rev.URL != dir || rev.Spec != spec {
			t.Fatalf("%+v, %v", rev, err)
		}
		return rev.Commit
	}
	last := digest()
	if again := digest(); again != last {
		t.Error("the digest of the same content differs")
	}
	put(".git/config", "other", 0o600)
	if again := digest(); again != last {
		t.Error("the digest counts .git")
	}
	for name, change := range map[string]func(){
		"content": func() { put("a", "2", 0o644) },
		"mode":    func() { put("a", "2", 0o755) },
		"name":    func() { put("b", "", 0o644) },
		"target":  func() { _ = os.Remove(filepath.Join(dir, "in")); link("b", "in") },
	} {
		change()
		if next := digest(); next == last {
			t.Errorf("%s does not count", name)
		} else {
			last = next
		}
	}

	// A copy is a copy.
	rev, err := s.Resolve(t.Context(), spec, local)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := s.Fetch(t.Context(), rev, local, out, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "a"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if digest() != last {
		t.Error("writing to the copy changed the original")
	}
	if when, err := s.CommitTime(t.Context(), rev); err != nil || time.Since(when) > time.Hour || time.Since(when) < 0 {
		t.Errorf("CommitTime = %v, %v; want when the newest file was written", when, err)
	}
}

func TestDirectoryErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSource(t, func(c *source.Config) { c.MaxBytes = 4 })
	for path, code := range map[string]binnacle.Code{
		filepath.Join(dir, "missing"): binnacle.CodeNotFound, file: binnacle.CodeInvalid, dir: binnacle.CodeLimited, "relative": binnacle.CodeInvalid, dir + "/../x": binnacle.CodeInvalid,
	} {
		_, err := s.Resolve(t.Context(), binnacle.Spec{Provider: binnacle.Dir, Repo: path}, source.Policy{Local: true})
		if binnacle.CodeOf(err) != code {
			t.Errorf("%s: %v, want %s", path, err, code)
		}
	}
	// The public learns nothing about the machine.
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		_, err := s.Resolve(t.Context(), binnacle.Spec{Provider: binnacle.Dir, Repo: path}, source.Policy{})
		if binnacle.CodeOf(err) != binnacle.CodeForbidden || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	err := source.Config{Protocols: []string{"ext"}, Proxy: "socks5://x"}.Validate()
	for _, field := range []string{"dir:", "git:", "hosts.gh:", "protocols:", "proxy:", "resolve_timeout:", "fetch_timeout:", "max_bytes:", "max_files:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not in %v", field, err)
		}
	}
	cfg := source.DefaultConfig()
	cfg.Dir = "x"
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
