package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// PutFile writes a small file that the replicas of a hub share, such as a
// certificate, or writes it anew. Its path has parts divided by slashes.
func (s *Store) PutFile(ctx context.Context, path string, data []byte) error {
	return s.update(ctx, s.durable, "put file", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, `INSERT INTO files (path, modified, data) VALUES (?1, ?2, ?3)
			ON CONFLICT (path) DO UPDATE SET modified = ?2, data = ?3`, path, stamp(time.Now()), data)
		return err
	})
}

// File returns what PutFile wrote and when; not_found when there is none at path.
func (s *Store) File(ctx context.Context, path string) ([]byte, time.Time, error) {
	type file struct {
		data     []byte
		modified int64
	}
	f, err := one(ctx, s, "file", "SELECT modified, data FROM files WHERE path = ?", func(rows *sql.Rows) (f file, err error) {
		err = rows.Scan(&f.modified, &f.data)
		return f, err
	}, path)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, notFound("file", path)
	}
	return f.data, unstamp(f.modified), err
}

// Files lists the paths below dir, all for an empty one, sorted.
func (s *Store) Files(ctx context.Context, dir string) ([]string, error) {
	from, to := below(dir)
	return collect(ctx, s, "files", "SELECT path FROM files WHERE ?1 = '' OR (path >= ?1 AND path < ?2) ORDER BY path", func(rows *sql.Rows) (path string, err error) {
		err = rows.Scan(&path)
		return path, err
	}, from, to)
}

// RemoveFiles removes the file at path and all below it; none is no error.
func (s *Store) RemoveFiles(ctx context.Context, path string) error {
	from, to := below(path)
	return s.update(ctx, s.durable, "remove files", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "DELETE FROM files WHERE path = ?1 OR (path >= ?2 AND path < ?3)", path, from, to)
		return err
	})
}

// below bounds the paths below dir: a slash is followed by 0 in every order that
// compares bytes, which the columns ask for.
func below(dir string) (from, to string) {
	if dir == "" {
		return "", ""
	}
	return dir + "/", dir + "0"
}

// Acquire takes the lock called name for holder, for as long as lease or until
// Release; false while another one has it. The holder extends it by taking it
// again. The database's clock counts where replicas share one.
func (s *Store) Acquire(ctx context.Context, name, holder string, lease time.Duration) (bool, error) {
	var got bool
	err := s.update(ctx, s.durable, "acquire", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, "INSERT INTO locks (name, holder, until) VALUES (?1, ?2, "+s.now()+" + ?3)"+`
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE locks.holder = excluded.holder OR locks.until < `+s.now(),
			name, holder, lease.Microseconds())
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		got = n > 0
		return err
	})
	return got, err
}

// Release gives a lock back; one that is another's by now stays.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.update(ctx, s.durable, "release", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "DELETE FROM locks WHERE name = ? AND holder = ?", name, holder)
		return err
	})
}
