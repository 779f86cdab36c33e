package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Launch is what is kept of a launch.
type Launch struct {
	// Launch is what people see; its Session is never stored.
	binnacle.Launch
	// Owner is the opaque id of the person; empty for the trusted caller.
	Owner   string `json:"owner,omitempty"`
	Trusted bool   `json:"trusted,omitempty"`
	// Request is what was asked for. Its Env may hold secrets.
	Request binnacle.LaunchRequest `json:"request"`
	// SessionID is set before the session is started.
	SessionID string `json:"session_id,omitempty"`
	// Environment is the built image's, once known.
	Environment string `json:"environment,omitempty"`
	// Restarts counts how often a hub found it unfinished.
	Restarts int `json:"restarts,omitempty"`
}

// Launch returns the launch, or not_found.
func (s *Store) Launch(ctx context.Context, id string) (Launch, error) {
	var data []byte
	err := s.read.QueryRowContext(ctx, "SELECT data FROM launches WHERE id = ?", id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return Launch{}, notFound("launch", id)
	}
	if err != nil {
		return Launch{}, s.fail("launch", err)
	}
	return decodeLaunch(data)
}

// Launches returns the newest launches first, at most limit; those of owner, or
// everybody's when all is set.
func (s *Store) Launches(ctx context.Context, owner string, all bool, limit int) ([]Launch, error) {
	if all {
		return s.launches(ctx, "SELECT data FROM launches ORDER BY created DESC, id LIMIT ?", limit)
	}
	return s.launches(ctx, "SELECT data FROM launches WHERE owner = ? ORDER BY created DESC, id LIMIT ?", owner, limit)
}

// Unfinished returns the launches that are in no final phase, oldest first.
func (s *Store) Unfinished(ctx context.Context) ([]Launch, error) {
	return s.launches(ctx, "SELECT data FROM launches WHERE final = 0 ORDER BY created, id")
}

func (s *Store) launches(ctx context.Context, query string, args ...any) (_ []Launch, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.fail("launches", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var list []Launch
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, s.fail("launches", err)
		}
		l, err := decodeLaunch(data)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, s.fail("launches", rows.Err())
}

// Prune removes finished launches, with their events, that were made before the
// given time or are not among the newest keep. It returns how many went.
func (s *Store) Prune(ctx context.Context, before time.Time, keep int) (int64, error) {
	var gone int64
	err := s.update(ctx, s.quick, "prune", func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM launches WHERE final = 1 AND (created < ? OR created <
			(SELECT coalesce(min(created), 0) FROM (SELECT created FROM launches ORDER BY created DESC LIMIT ?)))`, stamp(before), keep)
		if err != nil {
			return err
		}
		if gone, err = res.RowsAffected(); err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM chunks WHERE launch NOT IN (SELECT id FROM launches)",
			"DELETE FROM bodies WHERE id NOT IN (SELECT body FROM chunks)",
		} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM sessions WHERE ended > 0 AND ended < ?", stamp(before))
		return err
	})
	if err != nil || gone == 0 {
		return gone, err
	}
	s.write.Lock()
	defer s.write.Unlock()
	_, err = s.quick.ExecContext(context.WithoutCancel(ctx), "PRAGMA incremental_vacuum")
	return gone, s.fail("prune", err)
}

func putLaunch(ctx context.Context, tx *sql.Tx, l Launch) error {
	l.Session = nil
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("launch %s: %w", l.ID, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO launches (id, owner, created, final, session, data) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET final = excluded.final, session = excluded.session, data = excluded.data`,
		l.ID, l.Owner, stamp(l.Created), l.Phase.Final(), l.SessionID, data)
	return err
}

func decodeLaunch(data []byte) (Launch, error) {
	var l Launch
	if err := json.Unmarshal(data, &l); err != nil {
		return Launch{}, fmt.Errorf("store.launch: %w", err)
	}
	return l, nil
}
