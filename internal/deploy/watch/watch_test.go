package watch_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/forge"
	"github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/test/forgehost"
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
	waits    []string
	during   func()                            // happens while it deploys
	tries    func(context.Context, *watch.Try) // the same, with what is noted
	returned []int
	version  string
	git      *watch.Git
	forge    *forgehost.Host
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
	if w.git, err = watch.NewGit(src, w.repo.URL, "main", "binnacle.yaml"); err != nil {
		t.Fatal(err)
	}
	if w.forge, err = forgehost.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.forge.Close)
	w.version = "1"
	w.restart()
	return w
}

// restart is another process with the same state.
func (w *world) restart() {
	w.t.Helper()
	client, err := forge.New(forge.Options{Kind: forge.GitHub, Repository: w.forge.URL + "/institute/hub", Token: forgehost.Token, HTTP: new(http.Client)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.watcher = watch.New(watch.Options{
		Repository: w.git, Hub: w, Store: watch.File(w.state), Version: w.version, Tell: client.Status,
		Now: func() time.Time { return time.Unix(0, 0) }, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
}

// Deploy implements [watch.Hub].
func (w *world) Deploy(ctx context.Context, file []byte, t *watch.Try) ([]string, error) {
	w.deployed = append(w.deployed, strings.TrimSpace(string(file)))
	if w.tries != nil {
		w.tries(ctx, t)
	}
	if w.during != nil {
		w.during()
	}
	return w.waits, w.fails
}

// Return implements [watch.Hub].
func (w *world) Return(_ context.Context, revision int) error {
	w.returned = append(w.returned, revision)
	return nil
}

// told are the statuses of a commit at the forge.
func (w *world) told(commit string) (out []string) {
	for _, s := range w.forge.Statuses() {
		if s.Commit == commit {
			out = append(out, s.State+": "+s.Text)
		}
	}
	return out
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
	s, err := w.watcher.State(w.t.Context())
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
	if s, err := w.watcher.State(w.t.Context()); err != nil || !cmp.Equal(s, watch.State{}) {
		t.Errorf("%+v %v", s, err)
	}
}

// TestReplaced: a process that is ended by what it deploys, and the next one, which
// goes on: it knows the revision from before, and goes back to it.
func TestReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: good\n"})
	w.look(true, "")
	bad := w.commit(map[string]string{"binnacle.yaml": "name: bad\n"})
	ctx, cancel := context.WithCancelCause(t.Context())
	note := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	w.tries = func(ctx context.Context, try *watch.Try) {
		if try.From != 0 {
			t.Errorf("the first try begins from %d", try.From)
		}
		note(try.Begin(ctx, 7))
		cancel(errors.New("the pod is replaced"))
	}
	w.fails = errors.New("cut off")
	if _, err := w.watcher.Once(ctx); err == nil {
		t.Error("a run that is cut off says nothing")
	}
	w.restart()
	ctx, cancel = context.WithCancelCause(t.Context())
	w.tries = func(ctx context.Context, try *watch.Try) {
		if try.From != 7 {
			t.Errorf("the next process begins from %d", try.From)
		}
		note(try.Begin(ctx, try.From))
		note(try.Back(ctx, binnacle.Errorf(binnacle.CodeUnavailable, "No cell runs."), try.From))
		cancel(errors.New("the pod is replaced by the one from before"))
	}
	if _, err := w.watcher.Once(ctx); err == nil {
		t.Error("a run that is cut off says nothing")
	}
	w.restart()
	s := w.look(false, binnacle.CodeInvalid)
	if s.Quarantined != bad || s.Back != 0 || s.Reason != "It was taken back. No cell runs." || !cmp.Equal(w.returned, []int{7}) {
		t.Errorf("%+v, returned %v", s, w.returned)
	}
	w.look(false, binnacle.CodeInvalid)
	if len(w.returned) != 1 || len(w.deployed) != 3 {
		t.Errorf("returned %v, deployed %q", w.returned, w.deployed)
	}
}

// TestAnotherVersion: what an older program deployed, a newer one deploys again.
func TestAnotherVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	w.look(true, "")
	w.version = "2"
	w.restart()
	w.look(true, "")
	w.look(false, "")
	if len(w.deployed) != 2 {
		t.Errorf("%q", w.deployed)
	}
}

// TestBusy: that somebody else works on the hub says nothing of a commit.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit(map[string]string{"binnacle.yaml": "name: one\n"})
	w.fails = binnacle.Errorf(binnacle.CodeConflict, "Ada works on it.")
	for range 2 * watch.Tries {
		if s := w.look(false, binnacle.CodeConflict); s.Quarantined != "" || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestVerdicts: the forge is told what became of each commit, once, and later when
// it does not listen.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.commit(map[string]string{"binnacle.yaml": "name: good\n"})
	w.waits = []string{"azure.nodes.max"}
	w.look(true, "")
	w.look(false, "")
	want := []string{"pending: It is being deployed.", "success: The hub runs it. A person has to run up for: azure.nodes.max"}
	if diff := cmp.Diff(want, w.told(good)); diff != "" {
		t.Error(diff)
	}
	bad := w.commit(map[string]string{"binnacle.yaml": "name: bad\n"})
	w.fails = binnacle.Errorf(binnacle.CodeInvalid, "No cell runs.")
	w.forge.Down(true)
	w.look(false, binnacle.CodeInvalid)
	w.forge.Down(false)
	w.look(false, binnacle.CodeInvalid)
	w.look(false, binnacle.CodeInvalid)
	if diff := cmp.Diff([]string{"failure: Not deployed: No cell runs."}, w.told(bad)); diff != "" {
		t.Error(diff)
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
