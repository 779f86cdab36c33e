package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
)

// Value returns what Set wrote under name; not_found when nothing did.
func (s *Store) Value(ctx context.Context, name string) ([]byte, error) {
	value, err := one(ctx, s, "value", "SELECT value FROM pairs WHERE name = ?", scanBytes, name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("value", name)
	}
	return value, err
}

// Set keeps value under name.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return s.update(ctx, s.durable, "set", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "INSERT INTO pairs (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", name, value)
		return err
	})
}

// Secret returns the size random bytes kept under name; the first call makes
// them. It is for keys that sign what must outlive a restart.
func (s *Store) Secret(ctx context.Context, name string, size int) ([]byte, error) {
	made, secret := make([]byte, size), []byte(nil)
	_, _ = rand.Read(made) // never fails
	err := s.update(ctx, s.durable, "secret", func(ctx context.Context, tx txn) error {
		if _, err := tx.exec(ctx, "INSERT INTO pairs (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", name, made); err != nil {
			return err
		}
		return tx.row(ctx, "SELECT value FROM pairs WHERE name = ?", name).Scan(&secret)
	})
	return secret, err
}
