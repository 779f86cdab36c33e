package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// OpenBeside opens the SQLite database of a hub for reading only, while that hub
// runs or after it has ended: nothing is created, migrated or checked. Only what
// reads may be called. Returns not_found when there is no database, and conflict
// when it has another form than this program's.
func OpenBeside(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: "store.open", Message: "There is no database of a hub in " + filepath.Dir(path) + ".",
			Hint: "The hub makes it when it starts for the first time.", Err: err,
		}
	}
	s := &Store{path: path}
	if s.read, err = sql.Open("sqlite", source(path, "NORMAL")+"&_pragma=query_only(1)"); err != nil {
		return nil, s.fail("open", err)
	}
	s.read.SetMaxOpenConns(1)
	version, err := one(ctx, s, "open", "PRAGMA user_version", scanNumber)
	if err == nil && int(version) != len(migrations()) {
		err = &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "store.open",
			Message: fmt.Sprintf("The hub's database was written by another version of Binnacle (its schema is %d, that of this version is %d).", version, len(migrations())),
			Hint:    "Start the hub with this version, or ask with the version that wrote it.",
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Written is a batch of events that was written, and the oldest of the launches
// that share it.
type Written struct {
	Batch  int64
	Launch string
}

// Written lists batches from the one of that number on, oldest first, at most
// limit. On PostgreSQL one may still come up behind some that are listed already,
// because numbers are given before batches are there to be read.
func (s *Store) Written(ctx context.Context, from int64, limit int) ([]Written, error) {
	return collect(ctx, s, "written", `SELECT b.body, (SELECT l.id FROM chunks c JOIN launches l ON l.id = c.launch
			WHERE c.body = b.body ORDER BY l.created, l.id LIMIT 1)
		FROM (SELECT DISTINCT body FROM chunks WHERE body >= ? ORDER BY body LIMIT ?) AS b ORDER BY b.body`,
		func(rows *sql.Rows) (w Written, err error) {
			var launch sql.NullString // pruned in this moment
			err = rows.Scan(&w.Batch, &launch)
			w.Launch = launch.String
			return w, err
		}, from, limit)
}

// WrittenSince is the number of the first batch that ends at a time or after it;
// one behind the last when there is none.
func (s *Store) WrittenSince(ctx context.Context, t time.Time) (int64, error) {
	last, err := one(ctx, s, "written", "SELECT coalesce(max(id), 0) FROM bodies", scanNumber)
	if err != nil {
		return 0, err
	}
	low, high := int64(1), last+1
	for low < high { // numbers follow time, and there may be a million
		middle := low + (high-low)/2
		id, err := one(ctx, s, "written", "SELECT coalesce(min(id), 0) FROM bodies WHERE id >= ?", scanNumber, middle)
		if err != nil {
			return 0, err
		}
		events, err := s.Batch(ctx, id)
		switch {
		case err != nil:
			return 0, err
		case id > 0 && (len(events) == 0 || events[len(events)-1].Time.Before(t)):
			low = id + 1
		default:
			high = middle
		}
	}
	return low, nil
}

// Batch returns the events of a batch, without numbers; none when it was pruned.
// Callers must not change them.
func (s *Store) Batch(ctx context.Context, id int64) ([]binnacle.Event, error) {
	events, err := s.body(ctx, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return events, err
}

func scanNumber(rows *sql.Rows) (n int64, err error) {
	err = rows.Scan(&n)
	return n, err
}
