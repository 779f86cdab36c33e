package store

import (
	"context"
	"database/sql"
	"time"
)

// Image is an image somebody used.
type Image struct {
	Name        string
	Environment string
	Used        time.Time // last
}

// Environment is what is known of building an environment.
type Environment struct {
	Hash string
	// Built is when and Took how long its last build was.
	Built time.Time
	Took  time.Duration
	Used  time.Time // last
}

// UseImage notes that an image and its environment (empty when unknown) were
// used now.
func (s *Store) UseImage(ctx context.Context, name, environment string, now time.Time) error {
	return s.update(ctx, s.quick, "image", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, `INSERT INTO images (name, environment, used) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET
			used = excluded.used, environment = CASE excluded.environment WHEN '' THEN images.environment ELSE excluded.environment END`, name, environment, stamp(now))
		if err != nil || environment == "" {
			return err
		}
		_, err = tx.exec(ctx, "UPDATE environments SET used = ? WHERE hash = ?", stamp(now), environment)
		return err
	})
}

// BuiltEnvironment notes that an environment was built.
func (s *Store) BuiltEnvironment(ctx context.Context, hash string, took time.Duration, now time.Time) error {
	return s.update(ctx, s.quick, "environment", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, `INSERT INTO environments (hash, built, millis, used) VALUES (?1, ?2, ?3, ?2)
			ON CONFLICT (hash) DO UPDATE SET built = ?2, millis = ?3, used = ?2`, hash, stamp(now), took.Milliseconds())
		return err
	})
}

// Environments returns all, the least recently used first.
func (s *Store) Environments(ctx context.Context) ([]Environment, error) {
	return collect(ctx, s, "environments", "SELECT hash, built, millis, used FROM environments ORDER BY used, hash", func(rows *sql.Rows) (Environment, error) {
		var e Environment
		var built, millis, used int64
		err := rows.Scan(&e.Hash, &built, &millis, &used)
		e.Built, e.Took, e.Used = unstamp(built), time.Duration(millis)*time.Millisecond, unstamp(used)
		return e, err
	})
}

// Images returns all, the least recently used first.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	return collect(ctx, s, "images", "SELECT name, environment, used FROM images ORDER BY used, name", func(rows *sql.Rows) (Image, error) {
		var i Image
		var used int64
		err := rows.Scan(&i.Name, &i.Environment, &used)
		i.Used = unstamp(used)
		return i, err
	})
}

// ForgetImage removes an image that is no longer there.
func (s *Store) ForgetImage(ctx context.Context, name string) error {
	return s.update(ctx, s.quick, "image", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "DELETE FROM images WHERE name = ?", name)
		return err
	})
}

// ForgetUnused removes an image from the list unless it was used since; it returns
// whether it did.
func (s *Store) ForgetUnused(ctx context.Context, name string, before time.Time) (bool, error) {
	var n int64
	err := s.update(ctx, s.durable, "image", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, "DELETE FROM images WHERE name = ? AND used < ?", name, stamp(before))
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n > 0, err
}

// RememberImage takes a forgotten image into the list again, unless somebody has
// used it meanwhile.
func (s *Store) RememberImage(ctx context.Context, i Image) error {
	return s.update(ctx, s.durable, "image", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "INSERT INTO images (name, environment, used) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", i.Name, i.Environment, stamp(i.Used))
		return err
	})
}
