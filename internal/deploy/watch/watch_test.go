package watch_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// world is a real git server with a deployment's repository, and a hub that
// remembers what was deployed and works or does not.
type world struct {
	t        *testing.T
	repo     *githost.Repo
	watcher  *watch.Watcher
	state    string
	deployed []string
	fails    error
	during   func() // happens while it deploys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	host, err := githost.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, state: filepath.Join(t.TempDir(), "state", "watch.json")}
	if w.repo, err = host.Repo(t.Context(), "hub", ""); err != nil {
		t.Fatal(err)
	}
	cfg := source.DefaultConfig()
	cfg.Dir, cfg.Allow, cfg.Environ = t.TempDir(), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, os.Environ()
	cfg.ResolveTimeout = time.Minute
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	src, err := source.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	git, err := watch.NewGit(src, w.repo.URL, "main", "binnacle.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.watcher = watch.New(git, w.apply, w.state, func() time.Time { return time.Unix(0, 0) }, log)
	return w
}

func (w *world) apply(_ context.Context, file []byte) error {
	w.deployed = append(w.deployed, strings.TrimSpace(string(file)))
	if w.during != nil {
		w.during()
	}
	return w.fails
}

func (w *world) commit(files map[string]string) string {
	w.t.Helper()
	id, err := w.repo.Commit(w.t.Context(), files)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// look is Once, with what is known after it.
func (w *world) look(changed bool, code binnacle.Code) watch.State {
	w.t.Helper()
	got, err := w.watcher.Once(w.t.Context())
	if got != changed || binnacle.CodeOf(err) != code {
		w.t.Errorf("changed %v, %v; want %v, %q", got, err, changed, code)
	}
	s, err := w.watcher.State()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if s := w.look(false, binnacle.CodeInvalid); s.Quarantined == "" || !strings.Contains(s.Reason, "no binnacle.yaml") {
		t.Errorf("a repository without the file: %+v", s)
	}
	one := w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	if s := w.look(true, ""); s.Applied != one || s.Quarantined != "" {
		t.Errorf("%+v", s)
	}
	w.look(false, "") // nothing is new
	two := w.commit(map[string]string{"README.md": "words\n"})
	if s := w.look(false, ""); s.Applied != two {
		t.Errorf("a commit that does not touch the deployment: %+v", s)
	}
	w.commit(map[string]string{"binnacle.yaml": "name: two\n"})
	w.look(true, "")
	if diff := cmp.Diff([]string{"name: one", "name: two"}, w.deployed); diff != "" {
		t.Error(diff)
	}
}

// TestQuarantine: a commit that breaks the hub is tried once; the next one is a
// new try, and going back to what runs is none.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: good\n"})
	w.look(true, "")
	bad := w.commit(map[string]string{"binnacle.yaml": "name: bad\n"})
	w.fails = binnacle.Errorf(binnacle.CodeInvalid, "No cell runs.")
	for range 3 {
		if s := w.look(false, binnacle.CodeInvalid); s.Quarantined != bad || s.Reason != "No cell runs." {
			t.Errorf("%+v", s)
		}
	}
	w.commit(map[string]string{"binnacle.yaml": "name: good\n"})
	if s := w.look(false, ""); s.Quarantined != "" || s.Applied == "" {
		t.Errorf("%+v", s)
	}
	w.fails = nil
	w.commit(map[string]string{"binnacle.yaml": "name: better\n"})
	w.look(true, "")
	if diff := cmp.Diff([]string{"name: good", "name: bad", "name: better"}, w.deployed); diff != "" {
		t.Error(diff)
	}
}

// TestTriesAgain: what may pass by itself is tried some times, also by the next
// process.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	w.fails = binnacle.Errorf(binnacle.CodeUnavailable, "The cloud does not answer.")
	for n := 1; n < watch.Tries; n++ {
		if s := w.look(false, binnacle.CodeUnavailable); s.Trying != id || s.Failures != n || s.Quarantined != "" {
			t.Errorf("%+v", s)
		}
	}
	if s := w.look(false, binnacle.CodeInvalid); s.Quarantined != id {
		t.Errorf("%+v", s)
	}
	if len(w.deployed) != watch.Tries {
		t.Errorf("%d tries", len(w.deployed))
	}
}

// TestInterrupted: an interruption says nothing of a commit.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the machine goes down")
	w.fails, w.during = binnacle.Errorf(binnacle.CodeInvalid, "Cut off."), func() { cancel(why) }
	if _, err := w.watcher.Once(ctx); !errors.Is(err, why) || len(w.deployed) != 1 {
		t.Errorf("%v, deployed %v", err, w.deployed)
	}
	if s, err := w.watcher.State(); err != nil || s != (watch.State{}) {
		t.Errorf("%+v %v", s, err)
	}
}

// TestBrokenState says what to do.
func TestBrokenState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	w.look(true, "")
	if err := os.WriteFile(w.state, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.watcher.Once(t.Context()); binnacle.CodeOf(err) != binnacle.CodeInvalid {
		t.Error(err)
	}
}
