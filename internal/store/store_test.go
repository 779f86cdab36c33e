package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	return opened(t, s, err)
}

// opened closes a store with the test.
func opened(t testing.TB, s *store.Store, err error) *store.Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(id, owner string, created time.Time, phase binnacle.Phase) store.Launch {
	return store.Launch{
		Launch: binnacle.Launch{
			ID: id, Spec: binnacle.Spec{Provider: binnacle.GitHub, Repo: "o/r", Ref: "main"}, Phase: phase, Created: created,
			Phases: []binnacle.PhaseTime{{Phase: binnacle.PhaseWaiting, Start: created, Millis: 3}},
		},
		Owner: owner, Request: binnacle.LaunchRequest{Repo: "o/r", Env: map[string]string{"A": "b"}},
	}
}

func lines(n int, prefix string) []binnacle.Event {
	events := make([]binnacle.Event, n)
	for i := range events {
		events[i] = binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Message: prefix + strconv.Itoa(i)}
	}
	return events
}

// all reads every event after the one given and checks their numbers.
func all(t testing.TB, s *store.Store, launch string, after int64) []string {
	t.Helper()
	var got []string
	for {
		events, err := s.Events(t.Context(), launch, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return got
		}
		for _, e := range events {
			if e.ID != after+1 {
				t.Fatalf("event %d follows %d", e.ID, after)
			}
			after = e.ID
			got = append(got, e.Message)
		}
	}
}

// TestStore is what both databases do.
func TestStore(t *testing.T) {
	tests := map[string]func(t *testing.T, s *store.Store){
		"launches": launches, "events": eventsAreNumberedAndResumed, "batches": batchesAreShared, "prune": prune,
		"values": valuesImagesSessions, "concurrent": concurrentUse, "fences": fences, "replicas": replicas, "builds": builds, "activity": activity,
		"files": files, "locks": locks, "unused images": unusedImages, "slots in turns": slotsInTurns, "slots of each": slotsOfEach,
		"slots of the dead": slotsOfTheDead, "slots of sessions": slotsOfSessions, "admissions": admissions, "watching": watching, "written": written,
	}
	t.Run("sqlite", func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, open(t, filepath.Join(t.TempDir(), "db"))) })
		}
	})
	t.Run("postgres", func(t *testing.T) {
		server := postgres.Start(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, openPostgres(t, server.Database())) })
		}
	})
}

func TestFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?.db")
	open(t, path)
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), fi.Mode())
		}
	}
}

func launches(t *testing.T, s *store.Store) {
	t.Helper()
	now := time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)
	a, b := record("a", "ann", now, binnacle.PhaseWaiting), record("b", "bob", now.Add(time.Second), binnacle.PhaseReady)
	b.Error = &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Message: "no", Hint: "do", File: "requirements.txt", Line: 2, ID: "k3jf8s2m1q",
		Excerpt: []string{"error: “no” \u2028 <b>", "…", "    2 | #include <a.h>"},
	}
	if _, err := s.Append(t.Context(), nil, nil, a, b); err != nil {
		t.Fatal(err)
	}
	got, err := s.Launch(t.Context(), "a")
	if diff := cmp.Diff(a, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if _, err := s.Launch(t.Context(), "x"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Fatal(err)
	}
	list, err := s.Launches(t.Context(), "", true, 10)
	if diff := cmp.Diff([]store.Launch{b, a}, list); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	list, err = s.Launches(t.Context(), "ann", false, 10)
	if diff := cmp.Diff([]store.Launch{a}, list); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	list, err = s.Unfinished(t.Context())
	if diff := cmp.Diff([]store.Launch{a}, list); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
}

func eventsAreNumberedAndResumed(t *testing.T, s *store.Store) {
	t.Helper()
	next := int64(1)
	for i := range 40 {
		b, err := s.Append(t.Context(), []store.Cursor{{Launch: "a", First: next}}, lines(i%4+1, ""))
		if err != nil {
			t.Fatal(err)
		}
		next += int64(b.Count)
	}
	for after := range next {
		if got := len(all(t, s, "a", after)); got != int(next-1-after) {
			t.Fatalf("after %d there are %d events of %d", after, got, next-1)
		}
	}
	last, size, err := s.LastEvent(t.Context(), "a")
	if err != nil || last != next-1 || size == 0 {
		t.Fatal(last, size, err)
	}
	// The same numbers again are refused, and nothing of the batch is kept.
	if _, err := s.Append(t.Context(), []store.Cursor{{Launch: "z", First: 1}, {Launch: "a", First: 1}}, lines(1, "")); err == nil {
		t.Fatal("events were written over events")
	}
	if got := all(t, s, "z", 0); len(got) != 0 {
		t.Fatal(got)
	}
}

func batchesAreShared(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	b1, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 1}, {Launch: "b", First: 5}}, lines(2, "x"))
	if err != nil {
		t.Fatal(err)
	}
	b2, err := s.Append(ctx, []store.Cursor{{Launch: "a", First: 3}}, lines(2, "y"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Share(ctx, store.Cursor{Launch: "late", First: 1}, []store.Batch{b1, b2}); err != nil {
		t.Fatal(err)
	}
	want := []string{"x0", "x1", "y0", "y1"}
	if diff := cmp.Diff(want, all(t, s, "late", 0)); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(want[:2], all(t, s, "b", 4)); diff != "" {
		t.Fatal(diff)
	}
}

func prune(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	now := time.Now()
	var batch store.Batch
	for i := range 10 {
		phase := binnacle.PhaseReady
		if i == 0 {
			phase = binnacle.PhaseBuilding
		}
		id := strconv.Itoa(i)
		b, err := s.Append(ctx, []store.Cursor{{Launch: id, First: 1}}, lines(3, id), record(id, "o", now.Add(time.Duration(i)*time.Hour), phase))
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			batch = b
		}
	}
	if err := s.Share(ctx, store.Cursor{Launch: "9", First: 4}, []store.Batch{batch}); err != nil {
		t.Fatal(err)
	}
	for id, ended := range map[string]time.Time{"run": {}, "old": now, "new": now.Add(9 * time.Hour)} {
		if err := s.PutSession(ctx, store.Session{ID: id, Ended: ended}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Prune(ctx, now.Add(150*time.Minute), 100); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if n, err := s.Prune(ctx, time.Time{}, 4); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	list, err := s.Launches(ctx, "", true, 100)
	var ids []string
	for _, l := range list {
		ids = append(ids, l.ID)
	}
	if diff := cmp.Diff([]string{"9", "8", "7", "6", "0"}, ids); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	// What another launch shares stays.
	if diff := cmp.Diff([]string{"90", "91", "92", "10", "11", "12"}, all(t, s, "9", 0)); diff != "" {
		t.Fatal(diff)
	}
	if got := all(t, s, "3", 0); len(got) != 0 {
		t.Fatal(got)
	}
	if _, err := s.Session(ctx, "old"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Fatal(err)
	}
	running, err := s.RunningSessions(ctx)
	if err != nil || len(running) != 1 || running[0].ID != "run" {
		t.Fatal(running, err)
	}
}

func valuesImagesSessions(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	secret, err := s.Secret(ctx, "cookie", 32)
	if err != nil || len(secret) != 32 {
		t.Fatal(secret, err)
	}
	again, err := s.Secret(ctx, "cookie", 32)
	if diff := cmp.Diff(secret, again); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if _, err := s.Value(ctx, "none"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Fatal(err)
	}
	if err := errors.Join(s.Set(ctx, "k", []byte("1")), s.Set(ctx, "k", []byte("2"))); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Value(ctx, "k"); err != nil || string(v) != "2" {
		t.Fatal(v, err)
	}
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	err = errors.Join(
		s.BuiltEnvironment(ctx, "e1", 1500*time.Millisecond, day),
		s.UseImage(ctx, "i1", "e1", day.Add(3*time.Hour)), s.UseImage(ctx, "i2", "", day.Add(2*time.Hour)),
		s.UseImage(ctx, "i2", "e2", day.Add(time.Hour)), s.UseImage(ctx, "i2", "", day.Add(time.Hour)),
		s.UseImage(ctx, "i3", "", day), s.ForgetImage(ctx, "i3"), s.RememberImage(ctx, store.Image{Name: "i1", Used: day}),
	)
	if err != nil {
		t.Fatal(err)
	}
	images, err := s.Images(ctx)
	if diff := cmp.Diff([]store.Image{{Name: "i2", Environment: "e2", Used: day.Add(time.Hour)}, {Name: "i1", Environment: "e1", Used: day.Add(3 * time.Hour)}}, images); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	envs, err := s.Environments(ctx)
	if diff := cmp.Diff([]store.Environment{{Hash: "e1", Built: day, Took: 1500 * time.Millisecond, Used: day.Add(3 * time.Hour)}}, envs); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	want := store.Session{ID: "s", Launch: "l", Owner: "o", Repo: "gh/o/r/main", KeptAlive: day}
	if err := s.PutSession(ctx, want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Session(ctx, "s")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
}

// TestKilled writes in a child process that is killed in the middle, then reads
// what it left: every event it reported as written, without gaps.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
	cmd.Env = append(os.Environ(), "STORE_TEST_PATH="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var written int
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if n, err := strconv.Atoi(sc.Text()); err == nil {
			written = n
		}
		if written > 500 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if err := cmd.Wait(); err == nil || written <= 500 {
		t.Fatalf("the child ended by itself after %d events: %v", written, err)
	}
	s := open(t, path)
	if got := all(t, s, "a", 0); len(got) < written {
		t.Errorf("%d events of %d are left", len(got), written)
	}
	l, err := s.Launch(t.Context(), "a")
	if err != nil || l.Restarts < written/50 {
		t.Error(l.Restarts, written, err)
	}
}

func TestKilledChild(t *testing.T) {
	path := os.Getenv("STORE_TEST_PATH")
	if path == "" {
		t.Skip("only as the child of TestKilled")
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	rec := record("a", "o", time.Now(), binnacle.PhaseBuilding)
	for n := 1; n < 1_000_000; n++ {
		var save []store.Launch
		if n%50 == 0 {
			rec.Restarts = n / 50
			save = append(save, rec)
		}
		if _, err := s.Append(t.Context(), []store.Cursor{{Launch: "a", First: int64(n)}}, lines(1, ""), save...); err != nil {
			t.Fatal(err)
		}
		fmt.Println(n)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T, path string)
		code    binnacle.Code
		want    string
	}{
		"garbage": {func(t *testing.T, path string) {
			t.Helper()
			write(t, path, []byte(strings.Repeat("this is no database. ", 500)))
		}, binnacle.CodeInternal, "damaged"},
		"newer": {func(t *testing.T, path string) {
			t.Helper()
			execute(t, path, "PRAGMA user_version = 99")
		}, binnacle.CodeConflict, "newer version"},
		"foreign": {func(t *testing.T, path string) {
			t.Helper()
			execute(t, path, "PRAGMA application_id = 7")
		}, binnacle.CodeConflict, "not written by Binnacle"},
		"torn after a crash": {func(t *testing.T, path string) {
			t.Helper()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 4096 * 2; i < len(data); i++ {
				data[i] = byte(i * 7)
			}
			write(t, path, data)
			write(t, path+"-wal", []byte("x"))
		}, binnacle.CodeInternal, "damaged"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			s, err := store.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, path)
			s, err = store.Open(t.Context(), path)
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			e := binnacle.Public(err)
			if e.Code != tt.code || !strings.Contains(e.Message, tt.want) || e.Hint == "" {
				t.Errorf("code %s, message %q, hint %q", e.Code, e.Message, e.Hint)
			}
			if strings.Contains(e.Message+e.Hint, filepath.Dir(path)) {
				t.Error("the error tells a path of this machine")
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func concurrentUse(t *testing.T, s *store.Store) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 8 {
		id := strconv.Itoa(w)
		wg.Go(func() {
			for i := range 30 {
				var save []store.Launch
				if i%10 == 0 {
					save = []store.Launch{record(id, "o", time.Now(), binnacle.PhaseBuilding)}
				}
				if _, err := s.Append(context.Background(), []store.Cursor{{Launch: id, First: int64(i + 1)}}, lines(1, ""), save...); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 30 {
				if _, err := s.Events(context.Background(), id, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(all(t, s, "3", 0)); got != 30 {
		t.Error(got)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("lines=10000/batch=%d", batch), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "db"))
			text := lines(batch, strings.Repeat("Collecting numpy==2.3.1 ", 4))
			next := int64(1)
			b.ReportAllocs()
			for b.Loop() {
				for range 10_000 / batch {
					if _, err := s.Append(b.Context(), []store.Cursor{{Launch: "a", First: next}}, text); err != nil {
						b.Fatal(err)
					}
					next += int64(batch)
				}
			}
		})
	}
	b.Run("durable", func(b *testing.B) {
		s := open(b, filepath.Join(b.TempDir(), "db"))
		rec := record("a", "o", time.Now(), binnacle.PhaseBuilding)
		next := int64(1)
		for b.Loop() {
			if _, err := s.Append(b.Context(), []store.Cursor{{Launch: "a", First: next}}, lines(1, ""), rec); err != nil {
				b.Fatal(err)
			}
			next++
		}
	})
}
