package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Session is what the runtime cannot remember of a session: what changes while
// it runs, and what is left of it when it is gone.
type Session struct {
	ID     string `json:"id"`
	Launch string `json:"launch"`
	Owner  string `json:"owner,omitempty"`
	Repo   string `json:"repo"`
	// KeptAlive is when a person last asked to keep it.
	KeptAlive time.Time `json:"kept_alive,omitzero"`
	// Ended is when it was stopped, zero while it runs; Reason is a sentence.
	Ended  time.Time `json:"ended,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// PutSession writes it.
func (s *Store) PutSession(ctx context.Context, ss Session) error {
	data, err := json.Marshal(ss)
	if err != nil {
		return fmt.Errorf("store.session: %w", err)
	}
	return s.update(ctx, s.durable, "session", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, `INSERT INTO sessions (id, ended, data) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, data = excluded.data`, ss.ID, stamp(ss.Ended), data)
		return err
	})
}

// Session returns it, or not_found. Sessions that ended are remembered until
// Prune.
func (s *Store) Session(ctx context.Context, id string) (Session, error) {
	ss, err := one(ctx, s, "session", "SELECT data FROM sessions WHERE id = ?", scanSession, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, notFound("session", id)
	}
	return ss, err
}

// RunningSessions returns those that have not ended.
func (s *Store) RunningSessions(ctx context.Context) ([]Session, error) {
	return s.sessions(ctx, "SELECT data FROM sessions WHERE ended = 0 ORDER BY id")
}

func (s *Store) sessions(ctx context.Context, query string, args ...any) ([]Session, error) {
	return collect(ctx, s, "sessions", query, scanSession, args...)
}

func scanSession(rows *sql.Rows) (Session, error) {
	data, err := scanBytes(rows)
	if err != nil {
		return Session{}, err
	}
	var ss Session
	if err := json.Unmarshal(data, &ss); err != nil {
		return Session{}, fmt.Errorf("session: %w", err)
	}
	return ss, nil
}

// EndedSessions returns those that ended last, the newest first.
func (s *Store) EndedSessions(ctx context.Context, limit int) ([]Session, error) {
	return s.sessions(ctx, "SELECT data FROM sessions WHERE ended > 0 ORDER BY ended DESC LIMIT ?", limit)
}
