package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

func openPostgres(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), url)
	return opened(t, s, err)
}

func TestPostgresRefuses(t *testing.T) {
	if _, err := store.OpenPostgres(t.Context(), "postgres://u:hidden@:port/x"); binnacle.CodeOf(err) != binnacle.CodeInvalid || strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
	server := postgres.Start(t)
	url := server.Database()
	wrong := strings.Replace(url, "s3cret", "hidden", 1)
	if _, err := store.OpenPostgres(t.Context(), wrong); binnacle.CodeOf(err) != binnacle.CodeForbidden || strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
	var wg sync.WaitGroup // replicas start together
	for range 4 {
		wg.Go(func() { openPostgres(t, url) })
	}
	wg.Wait()
	// One step more is an upgrade that was rolled back; the next upgrade goes on from it.
	server.Exec("test1", "INSERT INTO binnacle_schema (version) SELECT max(version) + 1 FROM binnacle_schema")
	s := openPostgres(t, url)
	if err := s.UseImage(t.Context(), "image:1", "", time.Now()); err != nil {
		t.Error(err)
	}
	server.Exec("test1", "INSERT INTO binnacle_schema (version) SELECT max(version) + 1 FROM binnacle_schema")
	if _, err := store.OpenPostgres(t.Context(), url); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Error(err)
	}
	server.Down()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := store.OpenPostgres(ctx, url); binnacle.CodeOf(err) != binnacle.CodeUnavailable || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

// TestPostgresRestarts stops and crashes the database while events are written:
// each is there once, in order, and writers only waited.
func TestPostgresRestarts(t *testing.T) {
	server := postgres.Start(t)
	s := openPostgres(t, server.Database())
	const writers = 4
	stop := make(chan struct{})
	written := make([]int, writers)
	var wg sync.WaitGroup
	for w := range writers {
		id := string(rune('a' + w))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := written[w] + 1
				rec := record(id, "o", time.Now(), binnacle.PhaseBuilding)
				if _, err := s.Append(t.Context(), []store.Cursor{{Launch: id, First: int64(n)}}, lines(1, ""), rec); err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Launch(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
				written[w] = n
			}
		})
	}
	for _, end := range []func(){server.Down, server.Crash} {
		<-time.After(200 * time.Millisecond)
		end()
		<-time.After(100 * time.Millisecond)
		server.Up()
	}
	<-time.After(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	for w, n := range written {
		if got := len(all(t, s, string(rune('a'+w)), 0)); n == 0 || got != n {
			t.Errorf("writer %d: %d events of %d", w, got, n)
		}
	}
}

// TestPostgresTellsChanges hears of another connection's writes, also after the
// database was away.
func TestPostgresTellsChanges(t *testing.T) {
	server := postgres.Start(t)
	url := server.Database()
	a, b := openPostgres(t, url), openPostgres(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan store.Change, 100)
	done := make(chan error, 1)
	go func() { done <- b.Changes(ctx, func(c store.Change) { heard <- c }) }()
	next := func() store.Change {
		t.Helper()
		select {
		case c := <-heard:
			return c
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is heard")
			return store.Change{}
		}
	}
	var got []store.Change
	got = append(got, next())
	if _, err := a.Append(ctx, []store.Cursor{{Launch: "x", First: 1}}, lines(1, ""), record("x", "o", time.Now(), binnacle.PhaseWaiting)); err != nil {
		t.Fatal(err)
	}
	got = append(got, next())
	if err := a.Cancel(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	got = append(got, next())
	server.Down()
	server.Up()
	got = append(got, next())
	if diff := cmp.Diff([]store.Change{{}, {Launch: "x"}, {Launch: "x", Cancel: true}, {}}, got); diff != "" {
		t.Error(diff)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
