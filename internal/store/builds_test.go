package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// builds: one replica builds what several want; the others learn how it ended, or that it
// is no more.
func builds(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	one, two := store.Build{Key: "k", Launch: "a", Replica: "one"}, store.Build{Key: "k", Launch: "b", Replica: "two"}
	claim := func(b store.Build, silence time.Duration, want *store.Build) {
		t.Helper()
		got, mine, err := s.ClaimBuild(ctx, b, silence)
		if want == nil {
			want = &b
		}
		if diff := cmp.Diff(*want, got); err != nil || mine != (*want == b) || diff != "" {
			t.Error(mine, err, diff)
		}
	}
	building := func(silence time.Duration, want *store.Build) {
		t.Helper()
		got, ok, err := s.Building(ctx, "k", silence)
		if want == nil {
			want = &store.Build{}
		}
		if diff := cmp.Diff(*want, got); err != nil || ok != (want.Key != "") || diff != "" {
			t.Error(ok, err, diff)
		}
	}
	kept := func(b store.Build, want bool) {
		t.Helper()
		if got, err := s.KeepBuild(ctx, b); err != nil || got != want {
			t.Error(got, err)
		}
	}
	building(time.Minute, nil)
	claim(one, time.Minute, nil)
	claim(two, time.Minute, &one)
	claim(one, time.Minute, nil) // the same replica, in a life after that
	building(time.Minute, &one)
	kept(one, true)
	kept(two, false)
	// It falls silent: the other takes it, and what it still says is nothing to anybody.
	building(0, nil)
	claim(two, 0, nil)
	kept(one, false)
	if err := s.EndBuild(ctx, one); err != nil {
		t.Fatal(err)
	}
	building(time.Minute, &two)
	// A failure is for those who followed; who comes later tries again.
	two.Failure = &binnacle.Error{Code: binnacle.CodeBuildFailed, Message: "no such package", File: "requirements.txt", Line: 3}
	if err := s.EndBuild(ctx, two); err != nil {
		t.Fatal(err)
	}
	building(0, &two)
	kept(two, false)
	claim(one, time.Minute, nil)
	if err := errors.Join(s.EndBuild(ctx, one), s.EndBuild(ctx, one)); err != nil {
		t.Fatal(err)
	}
	building(time.Minute, nil)
}
