package deploy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/cloudtest"
)

func TestMemoryConformance(t *testing.T) {
	t.Parallel()
	cloudtest.Run(t, func(*testing.T) deploy.Cloud { return newMemory() })
}

// with opens the journal in dir and runs f with an engine on it.
func with(t *testing.T, dir string, c deploy.Cloud, f func(*deploy.Engine) error) error {
	t.Helper()
	j, err := deploy.OpenJournal(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	return f(&deploy.Engine{Cloud: c, Journal: j, Poll: time.Millisecond})
}

func up(ctx context.Context) func(*deploy.Engine) error {
	return func(e *deploy.Engine) error {
		_, err := e.Up(ctx)
		return err
	}
}

func down(ctx context.Context) func(*deploy.Engine) error {
	return func(e *deploy.Engine) error {
		_, err := e.Down(ctx)
		return err
	}
}

func TestDefect08UpOnUpWritesNothing(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), newMemory()
	for range 2 {
		if err := with(t, dir, m, up(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"create group/g", "create network/n", "create cluster/c", "create address/a"}
	if diff := cmp.Diff(want, m.begun); diff != "" {
		t.Errorf("-want +begun:\n%s", diff)
	}
}

// Killed in any call, before or after the cloud carried it out, and run again:
// the same end state, and nothing was begun twice.
func TestDefect08KilledAtEveryCall(t *testing.T) {
	t.Parallel()
	whole := newMemory()
	if err := with(t, t.TempDir(), whole, up(t.Context())); err != nil {
		t.Fatal(err)
	}
	upCalls := whole.calls
	if err := with(t, t.TempDir(), whole, down(t.Context())); err != nil || len(whole.there) > 0 {
		t.Fatal(err, whole.state())
	}
	downCalls := whole.calls - upCalls
	if upCalls < 20 || downCalls < 10 {
		t.Fatalf("only %d and %d calls", upCalls, downCalls)
	}
	for _, after := range []bool{false, true} {
		for _, forgets := range []bool{false, true} {
			for n := 1; n <= upCalls+downCalls; n++ {
				killedAt(t, n, upCalls, after, forgets)
			}
		}
	}
}

func killedAt(t *testing.T, n, upCalls int, after, forgets bool) {
	t.Helper()
	dir, m := t.TempDir(), newMemory()
	m.killAfter, m.killAt = after, n
	run := up
	if n > upCalls {
		if err := with(t, dir, m, up(t.Context())); err != nil {
			t.Fatal(n, err)
		}
		run = down
	}
	if err := with(t, dir, m, run(t.Context())); err == nil && n <= upCalls {
		t.Fatalf("call %d: was not killed", n)
	}
	m.killAt, m.forgets = 0, forgets
	if err := with(t, dir, m, run(t.Context())); err != nil {
		t.Fatalf("call %d, after %v, lost %v: %v", n, after, forgets, err)
	}
	if err := with(t, dir, m, func(e *deploy.Engine) error {
		for _, r := range m.wanted {
			if entry, open := e.Journal.Open(r); open {
				t.Errorf("call %d, after %v: the journal leaves open: %+v", n, after, entry)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	kinds := []string{"group/g", "network/n", "cluster/c", "address/a"}
	for _, key := range kinds {
		if c := count(m.begun, "create "+key); c != 1 {
			t.Errorf("call %d, after %v: %s was created %d times: %v", n, after, key, c, m.begun)
		}
		r, there := m.state()[key]
		if n <= upCalls && (!there || r.State != deploy.StateReady) || n > upCalls && there {
			t.Errorf("call %d, after %v: end state of %s: %+v", n, after, key, r)
		}
		if c := count(m.begun, "delete "+key); n > upCalls && c != 1 {
			t.Errorf("call %d, after %v: %s was deleted %d times: %v", n, after, key, c, m.begun)
		}
	}
}

func count(list []string, s string) int {
	n := 0
	for _, l := range list {
		if l == s {
			n++
		}
	}
	return n
}

func TestDefect13DownDeletesOnlyOurs(t *testing.T) {
	t.Parallel()
	foreign := map[string]*thing{
		"group/g":  {Resource: deploy.Resource{Kind: "group", Name: "g", ID: "/group/g", Holds: true, State: deploy.StateReady}},
		"disk/d":   {Resource: deploy.Resource{Kind: "disk", Name: "d", ID: "/disk/d", State: deploy.StateReady}},
		"old/ours": {Resource: deploy.Resource{Kind: "old", Name: "ours", ID: "/old/ours", Ours: true, State: deploy.StateReady}},
	}
	for name, have := range map[string][]string{"existing group": {"group/g", "disk/d"}, "our group, foreign disk": {"disk/d"}, "left over": {"old/ours"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := t.TempDir(), newMemory()
			for _, key := range have {
				copied := *foreign[key]
				m.there[key] = &copied
			}
			before := m.state()
			for _, f := range []func(context.Context) func(*deploy.Engine) error{up, down} {
				if err := with(t, dir, m, f(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			delete(before, "old/ours")
			if name == "our group, foreign disk" {
				// The group we made holds something foreign: it stays.
				before["group/g"] = m.state()["group/g"]
			}
			after := m.state()
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("-before +after:\n%s", diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		have deploy.Resource
		want string
	}{
		{"foreign", deploy.Resource{Kind: "cluster", Name: "c"}, "cluster c is there already and was not created by this deployment"},
		{"fixed", deploy.Resource{Kind: "network", Name: "n", Ours: true, Spec: map[string]string{"range": "10.1.0.0/16"}}, "network n has range 10.1.0.0/16, which can't be changed to 10.0.0.0/16"},
	} {
		m := newMemory()
		tt.have.State = deploy.StateReady
		m.there[tt.have.Key()] = &thing{Resource: tt.have}
		err := with(t, t.TempDir(), m, up(t.Context()))
		if binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), tt.want) || len(m.begun) > 0 {
			t.Errorf("%s: %v, begun %v", tt.name, err, m.begun)
		}
	}
}

// A resource that was created and then failed is told with its reason, and
// asked for again by the next run.
func TestCreatedThenFailed(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), newMemory()
	m.failNext["cluster/c"] = "there are no more machines"
	if err := with(t, dir, m, up(t.Context())); err == nil || !strings.Contains(err.Error(), "no more machines") {
		t.Fatal(err)
	}
	if err := with(t, dir, m, up(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.begun, "repair cluster/c") || count(m.begun, "create cluster/c") != 1 {
		t.Error(m.begun)
	}
}

func TestUpChangesAndDeletes(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), newMemory()
	if err := with(t, dir, m, up(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.begun = nil
	m.wanted[2].Spec = map[string]string{"nodes": "5"}
	m.wanted = m.wanted[:3] // no address any more
	if err := with(t, dir, m, up(t.Context())); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"change cluster/c", "delete address/a"}, m.begun); diff != "" {
		t.Error(diff)
	}
}

// Ctrl-C leaves the operation open; the next run waits for it with its token.
func TestCanceledAndResumed(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	err := with(t, dir, m, func(e *deploy.Engine) error {
		e.Progress = func(ev deploy.Event) {
			if ev.Resource.Kind == "network" && ev.Done {
				cancel()
			}
		}
		_, err := e.Up(ctx)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := with(t, dir, m, up(t.Context())); err != nil || len(m.begun) != 4 {
		t.Error(err, m.begun)
	}
}

func TestJournalIsLockedAndTheLockEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := deploy.OpenJournal(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deploy.OpenJournal(dir, time.Now); binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), "process ") {
		t.Errorf("opened twice: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// The file of the lock is still there, and hinders nobody.
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	j, err = deploy.OpenJournal(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
}

// A line that a crash cut short is taken away; a damaged one is told.
func TestJournalAfterACrash(t *testing.T) {
	t.Parallel()
	const whole = `{"time":"2026-01-02T03:04:05Z","step":"wait","action":"create","kind":"cluster","name":"c","token":"t"}` + "\n"
	for _, tt := range []struct {
		name, text string
		open, ok   bool
	}{
		{"whole", whole, true, true},
		{"cut", whole + `{"time":"2026-01-02T03:04:05Z","step":"done","act`, true, true},
		{"only cut", `{"ti`, false, true},
		{"damaged", "???\n" + whole, false, false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal"), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			j, err := deploy.OpenJournal(dir, time.Now)
			if (err == nil) != tt.ok {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if err != nil {
				continue
			}
			if e, open := j.Open(deploy.Resource{Kind: "cluster", Name: "c"}); open != tt.open || open && e.Token != "t" {
				t.Errorf("%s: %+v", tt.name, e)
			}
			j.Close()
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("{}\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err := deploy.OpenJournal(dir, time.Now); err == nil {
			j.Close()
		}
	})
}
