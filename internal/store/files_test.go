package store_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

func files(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	for path, data := range map[string]string{"a/b/one": "1", "a/b/two": "22", "a/b.c": "333", "a/b": "4444", "ä/x": ""} {
		if err := errors.Join(s.PutFile(ctx, path, []byte("old")), s.PutFile(ctx, path, []byte(data))); err != nil {
			t.Fatal(err)
		}
	}
	paths := func(dir string) []string {
		list, err := s.Files(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		return append([]string{}, list...)
	}
	for dir, want := range map[string][]string{
		"": {"a/b", "a/b.c", "a/b/one", "a/b/two", "ä/x"}, "a/b": {"a/b/one", "a/b/two"}, "a/b/one": {}, "b": {},
	} {
		if diff := cmp.Diff(want, paths(dir)); diff != "" {
			t.Errorf("%q: %s", dir, diff)
		}
	}
	data, modified, err := s.File(ctx, "a/b/two")
	if err != nil || string(data) != "22" || time.Since(modified) > time.Minute {
		t.Error(string(data), modified, err)
	}
	if err := errors.Join(s.RemoveFiles(ctx, "a/b"), s.RemoveFiles(ctx, "a/b")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a/b.c", "ä/x"}, paths("")); diff != "" {
		t.Error(diff)
	}
	if _, _, err := s.File(ctx, "a/b"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Error(err)
	}
}

func locks(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	try := func(holder string, lease time.Duration) bool {
		t.Helper()
		got, err := s.Acquire(ctx, "x", holder, lease)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if !try("a", time.Hour) || try("b", time.Hour) || !try("a", time.Hour) {
		t.Error("a lock has one holder")
	}
	if err := s.Release(ctx, "x", "b"); err != nil || try("b", time.Hour) {
		t.Error("released by who did not hold it", err)
	}
	if err := s.Release(ctx, "x", "a"); err != nil || !try("b", time.Microsecond) {
		t.Error("not released", err)
	}
	<-time.After(10 * time.Millisecond)
	if !try("a", time.Hour) {
		t.Error("a lease does not end")
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			got, err := s.Acquire(ctx, "y", strconv.Itoa(i), time.Hour)
			if err != nil {
				t.Error(err)
			}
			if got {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Error(won.Load(), "have one lock")
	}
}

func unusedImages(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if err := errors.Join(s.UseImage(ctx, "a", "e", day), s.UseImage(ctx, "b", "", day.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a": true, "b": false, "c": false} {
		if gone, err := s.ForgetUnused(ctx, name, day.Add(time.Minute)); err != nil || gone != want {
			t.Error(name, gone, err)
		}
	}
	if err := errors.Join(s.RememberImage(ctx, store.Image{Name: "a", Environment: "e", Used: day}), s.RememberImage(ctx, store.Image{Name: "b", Used: day})); err != nil {
		t.Fatal(err)
	}
	got, err := s.Images(ctx)
	if diff := cmp.Diff([]store.Image{{Name: "a", Environment: "e", Used: day}, {Name: "b", Used: day.Add(time.Hour)}}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
