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
	// Remade: its image was gone when its session was to start, and is built again.
	Remade bool `json:"remade,omitempty"`
	// Restarts counts how often a hub found it unfinished.
	Restarts int `json:"restarts,omitempty"`
	// Replica drives it; empty where there is only one. Epoch counts how often it
	// changed hands, and what was written with an older one is refused.
	Replica string `json:"-"`
	Epoch   int64  `json:"-"`
}

// Launch returns the launch, or not_found.
func (s *Store) Launch(ctx context.Context, id string) (Launch, error) {
	l, err := one(ctx, s, "launch", selectLaunch+"WHERE id = ?", scanLaunch, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Launch{}, notFound("launch", id)
	}
	return l, err
}

// Launches returns the newest launches first, at most limit; those of owner, or
// everybody's when all is set.
func (s *Store) Launches(ctx context.Context, owner string, all bool, limit int) ([]Launch, error) {
	if all {
		return s.launches(ctx, selectLaunch+"ORDER BY created DESC, id LIMIT ?", limit)
	}
	return s.launches(ctx, selectLaunch+"WHERE owner = ? ORDER BY created DESC, id LIMIT ?", owner, limit)
}

// Unfinished returns the launches that are in no final phase, oldest first.
func (s *Store) Unfinished(ctx context.Context) ([]Launch, error) {
	return s.launches(ctx, selectLaunch+"WHERE final = 0 ORDER BY created, id")
}

const selectLaunch = "SELECT data, replica, epoch FROM launches "

func (s *Store) launches(ctx context.Context, query string, args ...any) ([]Launch, error) {
	return collect(ctx, s, "launches", query, scanLaunch, args...)
}

func scanLaunch(rows *sql.Rows) (Launch, error) {
	var l Launch
	var data []byte
	if err := rows.Scan(&data, &l.Replica, &l.Epoch); err != nil {
		return Launch{}, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return Launch{}, fmt.Errorf("launch: %w", err)
	}
	return l, nil
}

// Prune removes finished launches, with their events, that were made before the
// given time or are not among the newest keep. It returns how many went.
func (s *Store) Prune(ctx context.Context, before time.Time, keep int) (int64, error) {
	var gone int64
	err := s.update(ctx, s.quick, "prune", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, `DELETE FROM launches WHERE final = 1 AND (created < ? OR created <
			(SELECT coalesce(min(created), 0) FROM (SELECT created FROM launches ORDER BY created DESC LIMIT ?) AS newest))`, stamp(before), keep)
		if err != nil {
			return err
		}
		if gone, err = res.RowsAffected(); err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM chunks WHERE NOT EXISTS (SELECT 1 FROM launches WHERE launches.id = chunks.launch)",
			"DELETE FROM bodies WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.body = bodies.id)",
			"DELETE FROM activity WHERE session IN (SELECT id FROM sessions WHERE ended > 0)",
			"DELETE FROM watched WHERE launch NOT IN (SELECT id FROM launches WHERE final = 0)",
			"DELETE FROM rates WHERE whole < " + s.now(),
			"DELETE FROM builds WHERE seen < " + s.ago(time.Hour), // nobody follows them any more
		} {
			if _, err := tx.exec(ctx, q); err != nil {
				return err
			}
		}
		_, err = tx.exec(ctx, "DELETE FROM sessions WHERE ended > 0 AND ended < ?", stamp(before))
		return err
	})
	if err != nil || gone == 0 || s.pg != nil {
		return gone, err
	}
	s.write.Lock()
	defer s.write.Unlock()
	_, err = s.quick.ExecContext(context.WithoutCancel(ctx), "PRAGMA incremental_vacuum")
	return gone, s.fail("prune", err)
}

func putLaunch(ctx context.Context, tx txn, l Launch) error {
	l.Session = nil
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("launch %s: %w", l.ID, err)
	}
	final := 0
	if l.Phase.Final() {
		final = 1
	}
	_, err = tx.exec(ctx, `INSERT INTO launches (id, owner, created, final, session, data, replica, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET final = excluded.final, session = excluded.session, data = excluded.data`,
		l.ID, l.Owner, stamp(l.Created), final, l.SessionID, data, l.Replica, l.Epoch)
	return err
}
