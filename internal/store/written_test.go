package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// written: batches come in their order, each once, and belong to the oldest of the
// launches that have them.
func written(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	begin := time.Now().UTC().Truncate(time.Second)
	at := func(minute int) []binnacle.Event {
		return []binnacle.Event{{Kind: binnacle.EventLog, Time: begin.Add(time.Duration(minute) * time.Minute), Message: "m"}}
	}
	first, second := record("first", "p", begin, binnacle.PhaseBuilding), record("a second", "p", begin.Add(time.Second), binnacle.PhaseBuilding)
	var made []store.Batch
	add := func(b store.Batch, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	if from, err := s.WrittenSince(ctx, begin); err != nil || from != 1 {
		t.Errorf("of nothing: %d, %v", from, err)
	}
	add(s.Append(ctx, []store.Cursor{{Launch: "first", First: 1}}, at(0), first))
	add(s.Append(ctx, []store.Cursor{{Launch: "first", First: 2}}, at(10)))
	add(s.Append(ctx, []store.Cursor{{Launch: "a second", First: 1}}, at(20), second))
	if err := s.Share(ctx, store.Cursor{Launch: "a second", First: 2}, made[1:2]); err != nil {
		t.Fatal(err)
	}
	for want, since := range map[int]time.Duration{0: -time.Hour, 1: time.Minute, 2: 20 * time.Minute} {
		if from, err := s.WrittenSince(ctx, begin.Add(since)); err != nil || from > made[want].ID || want > 0 && from <= made[want-1].ID {
			t.Errorf("since %s: from %d, %v; %v", since, from, err, made)
		}
	}
	if from, err := s.WrittenSince(ctx, begin.Add(time.Hour)); err != nil || from <= made[2].ID {
		t.Errorf("since later: from %d, %v; %v", from, err, made)
	}
	want := []store.Written{{Batch: made[0].ID, Launch: "first"}, {Batch: made[1].ID, Launch: "first"}, {Batch: made[2].ID, Launch: "a second"}}
	for n := range want {
		got, err := s.Written(ctx, want[n].Batch, 2)
		if diff := cmp.Diff(want[n:min(n+2, len(want))], got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if events, err := s.Batch(ctx, made[1].ID); err != nil || len(events) != 1 || !events[0].Time.Equal(begin.Add(10*time.Minute)) {
		t.Errorf("%v, %v", events, err)
	}
	if events, err := s.Batch(ctx, made[2].ID+100); err != nil || len(events) > 0 {
		t.Errorf("of none: %v, %v", events, err)
	}
}

// Who looks from beside sees what a hub writes, and can't change it.
func TestOpenBeside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	if _, err := store.OpenBeside(t.Context(), path); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("of nothing: %v", err)
	}
	hub := open(t, path)
	s, err := store.OpenBeside(t.Context(), path)
	beside := opened(t, s, err)
	if _, err := hub.Append(t.Context(), []store.Cursor{{Launch: "a", First: 1}}, lines(2, "x"), record("a", "p", time.Now(), binnacle.PhaseBuilding)); err != nil {
		t.Fatal(err)
	}
	if got := all(t, beside, "a", 0); len(got) != 2 {
		t.Errorf("%q", got)
	}
	execute(t, path, "PRAGMA user_version = 2")
	if _, err := store.OpenBeside(t.Context(), path); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("of another form: %v", err)
	}
}
