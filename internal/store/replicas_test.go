package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// fences: who lost a launch to another replica writes nothing any more.
func fences(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	a := record("a", "ann", time.UnixMicro(5).UTC(), binnacle.PhaseBuilding)
	a.Replica, a.Epoch = "one", 1
	other := record("b", "ann", time.UnixMicro(6).UTC(), binnacle.PhaseBuilding)
	other.Replica, other.Epoch = "one", 1
	if _, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 1, Epoch: 1}}, lines(1, "x"), a, other); err != nil {
		t.Fatal(err)
	}
	taken, ok, err := s.Take(ctx, a, "two")
	if err != nil || !ok || taken.Epoch != 2 || taken.Replica != "two" {
		t.Fatal(taken, ok, err)
	}
	if _, ok, err := s.Take(ctx, a, "three"); err != nil || ok {
		t.Error("taken twice", err)
	}
	for name, write := range map[string]func() error{
		"events": func() error {
			_, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 2, Epoch: 1}, {Launch: "b", First: 1, Epoch: 1}}, lines(1, "y"))
			return err
		},
		"record": func() error { _, err := s.Append(ctx, nil, nil, other, a); return err },
		"share": func() error {
			return s.Share(ctx, store.Cursor{Launch: "a", First: 2, Epoch: 1}, []store.Batch{{ID: 1, Count: 1}})
		},
	} {
		err := write()
		lost, ok := errors.AsType[*store.TakenError](err)
		if !ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff([]string{"a"}, lost.Launches); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := all(t, s, "a", 0); len(got) != 1 {
		t.Error(got)
	}
	if got := all(t, s, "b", 0); len(got) != 0 {
		t.Error(got)
	}
	got, err := s.Launch(ctx, "a")
	if diff := cmp.Diff(taken, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func ids(list []store.Launch) []string {
	var ids []string
	for _, l := range list {
		ids = append(ids, l.ID)
	}
	return ids
}

func replicas(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	a, b, c := record("a", "", time.UnixMicro(5), binnacle.PhaseBuilding), record("b", "", time.UnixMicro(6), binnacle.PhaseWaiting), record("c", "", time.UnixMicro(7), binnacle.PhaseReady)
	a.Replica, b.Replica, c.Replica = "one", "two", "one"
	if _, err := s.Append(ctx, nil, nil, a, b, c); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Beat(ctx, "one"), s.Beat(ctx, "one"), s.Cancel(ctx, "a"), s.Cancel(ctx, "c")); err != nil {
		t.Fatal(err)
	}
	gone, err := s.Abandoned(ctx, time.Minute)
	if diff := cmp.Diff([]string{"b"}, ids(gone)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	canceled, err := s.Canceled(ctx, "one")
	if diff := cmp.Diff([]string{"a"}, canceled); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := s.Leave(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	gone, err = s.Abandoned(ctx, time.Minute)
	if diff := cmp.Diff([]string{"a", "b"}, ids(gone)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func activity(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	err := errors.Join(
		s.Touch(ctx, map[string]time.Time{"s": day, "r": day}),
		s.Touch(ctx, map[string]time.Time{"s": day.Add(time.Hour), "r": day.Add(-time.Hour)}), s.Touch(ctx, nil),
	)
	if err != nil {
		t.Fatal(err)
	}
	used, err := s.Used(ctx)
	if diff := cmp.Diff(map[string]time.Time{"s": day.Add(time.Hour), "r": day}, used); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
