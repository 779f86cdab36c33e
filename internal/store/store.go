// Package store keeps what must survive a restart of the hub: launches and
// their events, what the runtime does not know of sessions, when images were
// last used, and a few secrets. It is one SQLite file, read by many and written
// by one, or a PostgreSQL that the replicas of a hub share.
//
// Two promises are made about a crash. What changes the state of a launch is on
// the disk when the call returns. Lines of log are not waited for: when the
// machine loses power the last of them may be missing, but never one from the
// middle, and an event that was written is never renumbered.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/binnacle-hub/binnacle"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	path string
	// durable and quick hold one connection each; they differ in whether a
	// commit waits for the disk. Both go through the same write-ahead log, so
	// that a durable commit carries every quick one before it.
	durable, quick, read *sql.DB
	// write orders writers here, where waiting is fair and cheap, not in SQLite.
	write  sync.Mutex
	bodies bodyCache
	// pg is set when this is PostgreSQL: the three are one pool then.
	pg *postgres
}

// Open opens the database at path and creates or migrates it as needed. Only
// one process may have it open; the caller holds the data directory's lock. It
// returns conflict when the file was written by a newer version or by another
// program, and internal when it is damaged; both say what to do.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := private(path); err != nil {
		return nil, err
	}
	unclean := notEmpty(path + "-wal")
	s := &Store{path: path}
	for _, c := range []struct {
		db          **sql.DB
		synchronous string
		conns       int
	}{{&s.durable, "FULL", 1}, {&s.quick, "NORMAL", 1}, {&s.read, "NORMAL", 4}} {
		db, err := sql.Open("sqlite", source(path, c.synchronous))
		if err != nil {
			return nil, errors.Join(s.fail("open", err), s.Close())
		}
		db.SetMaxOpenConns(c.conns)
		db.SetMaxIdleConns(c.conns)
		*c.db = db
	}
	if err := s.migrate(ctx, unclean); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close waits for the running write and closes the database.
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	var errs []error
	// The durable connection goes last: the last one to close folds the
	// write-ahead log into the file.
	for _, db := range []*sql.DB{s.read, s.quick, s.durable} {
		if db != nil && (s.pg == nil || db == s.durable) {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// private creates the file with mode 0600, or gives it that mode. SQLite gives
// its two companions the mode of the file.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeInternal, Op: "store.open", Message: "The hub's database cannot be opened.",
			Hint: "Check that the data directory exists and belongs to the user Binnacle runs as.", Err: err,
		}
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func notEmpty(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Size() > 0
}

func source(path, synchronous string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)",
		"auto_vacuum(incremental)",
		"journal_mode(wal)",
		"synchronous(" + synchronous + ")",
		"journal_size_limit(16777216)",
		"cache_size(-4000)",
	}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// txn is a running transaction.
type txn struct {
	*sql.Tx
	bind func(query string) string
}

func (t txn) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.ExecContext(ctx, t.bind(query), args...)
}

func (t txn) row(ctx context.Context, query string, args ...any) *sql.Row {
	return t.QueryRowContext(ctx, t.bind(query), args...)
}

// bind writes the placeholders of a query as its database wants them.
func (s *Store) bind(query string) string {
	if s.pg == nil {
		return query
	}
	return dollars(query)
}

// update runs fn in a transaction on db. A cancelled ctx does not undo it:
// half-told transitions help nobody. On PostgreSQL fn may run more than once,
// and its effects are there once.
func (s *Store) update(ctx context.Context, db *sql.DB, op string, fn func(context.Context, txn) error) error {
	if s.pg != nil {
		return s.fail(op, s.pg.update(ctx, s.bind, fn))
	}
	ctx = context.WithoutCancel(ctx)
	s.write.Lock()
	defer s.write.Unlock()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(op, err)
	}
	if err := fn(ctx, txn{tx, s.bind}); err != nil {
		return s.fail(op, errors.Join(err, tx.Rollback()))
	}
	return s.fail(op, tx.Commit())
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, s *Store, op, query string, scan func(*sql.Rows) (T, error), args ...any) ([]T, error) {
	var list []T
	read := func(ctx context.Context) (err error) {
		list = nil
		rows, err := s.read.QueryContext(ctx, s.bind(query), args...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			item, err := scan(rows)
			if err != nil {
				return err
			}
			list = append(list, item)
		}
		return rows.Err()
	}
	var err error
	if s.pg == nil {
		err = read(ctx)
	} else {
		err = s.pg.retry(ctx, read)
	}
	return list, s.fail(op, err)
}

// one reads the row of a query; without one the error is sql.ErrNoRows.
func one[T any](ctx context.Context, s *Store, op, query string, scan func(*sql.Rows) (T, error), args ...any) (T, error) {
	var none T
	list, err := collect(ctx, s, op, query, scan, args...)
	if err != nil {
		return none, err
	}
	if len(list) == 0 {
		return none, sql.ErrNoRows
	}
	return list[0], nil
}

func scanBytes(rows *sql.Rows) ([]byte, error) {
	var data []byte
	err := rows.Scan(&data)
	return data, err
}

// fail says what a database's error means to the operator. Our own errors pass
// unchanged.
func (s *Store) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	op = "store." + op
	if s.pg != nil {
		return s.pg.fail(op, err)
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &binnacle.Error{
			Code: binnacle.CodeInternal, Op: op, Message: "The hub's database is damaged.", Err: err,
			Hint: "Stop the hub and move " + filepath.Base(s.path) + " and its -wal and -shm companions out of the data directory, or " +
				"put a backup in their place. Without them the history of launches is lost; running sessions stop, images stay.",
		}
	case sqlite3.SQLITE_FULL:
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: op, Message: "The hub's disk is full.", Err: err,
			Hint: "The operator can free space with binnacle clean.",
		}
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// stamp and unstamp keep times as microseconds; the zero time is 0.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func unstamp(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func notFound(what, id string) *binnacle.Error {
	return binnacle.Errorf(binnacle.CodeNotFound, "There is no %s called %s.", what, strconv.QuoteToASCII(id))
}
