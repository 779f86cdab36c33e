package store

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/binnacle-hub/binnacle"
)

// application marks the file as ours ("BiNn" in its header).
const application = 0x42694e6e

// migrations returns the steps from one schema to the next; the number of those
// done is the file's user_version. Steps are added, never changed.
func migrations() []string {
	return []string{
		// An event's place (launch, first…last) and its words (bodies) are kept
		// apart, so that launches that share a build share its log.
		`CREATE TABLE launches (
			id      TEXT PRIMARY KEY,
			owner   TEXT NOT NULL,
			created INTEGER NOT NULL,
			final   INTEGER NOT NULL,
			session TEXT NOT NULL,
			data    BLOB NOT NULL
		) STRICT, WITHOUT ROWID;
		CREATE INDEX launches_owner ON launches (owner, created);
		CREATE INDEX launches_created ON launches (created);
		CREATE INDEX launches_open ON launches (created) WHERE final = 0;
		CREATE TABLE bodies (id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL) STRICT;
		CREATE TABLE chunks (
			launch TEXT NOT NULL,
			first  INTEGER NOT NULL,
			last   INTEGER NOT NULL,
			body   INTEGER NOT NULL,
			PRIMARY KEY (launch, first)
		) STRICT, WITHOUT ROWID;
		CREATE INDEX chunks_body ON chunks (body);
		CREATE TABLE sessions (
			id     TEXT PRIMARY KEY,
			ended  INTEGER NOT NULL,
			data   BLOB NOT NULL
		) STRICT, WITHOUT ROWID;
		CREATE INDEX sessions_ended ON sessions (ended);
		CREATE TABLE images (
			name        TEXT PRIMARY KEY,
			environment TEXT NOT NULL,
			used        INTEGER NOT NULL
		) STRICT, WITHOUT ROWID;
		CREATE TABLE environments (
			hash   TEXT PRIMARY KEY,
			built  INTEGER NOT NULL,
			millis INTEGER NOT NULL,
			used   INTEGER NOT NULL
		) STRICT, WITHOUT ROWID;
		CREATE TABLE pairs (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;`,
		// Who drives a launch; with one process nobody else does, and the columns
		// only keep the two databases alike.
		`ALTER TABLE launches ADD COLUMN replica TEXT NOT NULL DEFAULT '';
		ALTER TABLE launches ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE launches ADD COLUMN canceled INTEGER NOT NULL DEFAULT 0;
		CREATE TABLE replicas (name TEXT PRIMARY KEY, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
		CREATE TABLE activity (session TEXT PRIMARY KEY, used INTEGER NOT NULL) STRICT, WITHOUT ROWID;`,
		// Certificates, which replicas share; one process keeps them in files.
		`CREATE TABLE files (path TEXT PRIMARY KEY, modified INTEGER NOT NULL, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
		CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;`,
		// Limits that hold across replicas; one process counts in its memory.
		`CREATE TABLE queues (name TEXT PRIMARY KEY, round INTEGER NOT NULL) STRICT, WITHOUT ROWID;
		INSERT INTO queues (name, round) VALUES ('sessions', 0), ('builds', 0);
		CREATE TABLE slots (
			seq     INTEGER PRIMARY KEY AUTOINCREMENT,
			queue   TEXT NOT NULL,
			id      TEXT NOT NULL,
			owner   TEXT NOT NULL,
			repo    TEXT NOT NULL,
			exempt  INTEGER NOT NULL,
			round   INTEGER NOT NULL,
			granted INTEGER NOT NULL,
			replica TEXT NOT NULL,
			UNIQUE (queue, id)
		) STRICT;
		CREATE TABLE rates (address TEXT PRIMARY KEY, whole INTEGER NOT NULL) STRICT, WITHOUT ROWID;
		CREATE TABLE watched (launch TEXT PRIMARY KEY, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;`,
		// What replicas are building; one process knows its own.
		`CREATE TABLE builds (key TEXT PRIMARY KEY, launch TEXT NOT NULL, replica TEXT NOT NULL, seen INTEGER NOT NULL, failure TEXT NOT NULL) STRICT, WITHOUT ROWID;`,
	}
}

// migrate brings the schema up to date. After an unclean end the file is
// checked first, so that damage is found here and not in the middle of a launch.
func (s *Store) migrate(ctx context.Context, unclean bool) error {
	var version, app, tables int
	for _, q := range []struct {
		query string
		into  *int
	}{
		{"PRAGMA user_version", &version},
		{"PRAGMA application_id", &app},
		{"SELECT count(*) FROM sqlite_schema", &tables},
	} {
		if err := s.durable.QueryRowContext(ctx, q.query).Scan(q.into); err != nil {
			return s.fail("open", err)
		}
	}
	steps := migrations()
	if tables > 0 && app != application {
		return &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "store.open",
			Message: "The file " + filepath.Base(s.path) + " in the data directory was not written by Binnacle.",
			Hint:    "Choose another data directory, or move the file away.",
		}
	}
	if version > len(steps) {
		return &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "store.open",
			Message: fmt.Sprintf("The hub's database was written by a newer version of Binnacle (its schema is %d, this version knows %d).", version, len(steps)),
			Hint:    "Run the newer version, or restore the " + filepath.Base(s.path) + " from before the upgrade.",
		}
	}
	if unclean {
		if err := s.check(ctx); err != nil {
			return err
		}
	}
	for i := version; i < len(steps); i++ {
		err := s.update(ctx, s.durable, "migrate", func(ctx context.Context, tx txn) error {
			_, err := tx.exec(ctx, steps[i]+fmt.Sprintf("; PRAGMA application_id = %d; PRAGMA user_version = %d", application, i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("schema %d: %w", i+1, err)
		}
	}
	return nil
}

// check looks for damage in the file's structure.
func (s *Store) check(ctx context.Context) error {
	var result string
	if err := s.durable.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return s.fail("check", err)
	}
	if result != "ok" {
		return &binnacle.Error{
			Code: binnacle.CodeInternal, Op: "store.check", Message: "The hub's database is damaged.",
			Hint: "Put a backup of " + filepath.Base(s.path) + " in its place, or move it away to begin anew.", Err: fmt.Errorf("quick_check: %s", result),
		}
	}
	return nil
}
