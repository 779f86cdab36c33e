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

// Build is the making of one image by one replica, for the launches of all.
type Build struct {
	// Key is what is built.
	Key string
	// Launch is the one it began for, whose events tell of it, and Replica drives it.
	Launch, Replica string
	// Failure is why it failed; nil while it goes on.
	Failure *binnacle.Error
}

// ClaimBuild makes the build its replica's and returns true. It returns false, and the
// build, while another replica is at work on the same and was heard of within silence.
func (s *Store) ClaimBuild(ctx context.Context, b Build, silence time.Duration) (Build, bool, error) {
	var other Build
	var mine bool
	err := s.update(ctx, s.durable, "claim build", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, "INSERT INTO builds (key, launch, replica, seen, failure) VALUES (?1, ?2, ?3, "+s.now()+`, '')
			ON CONFLICT (key) DO UPDATE SET launch = excluded.launch, replica = excluded.replica, seen = excluded.seen, failure = ''
			WHERE builds.failure <> '' OR builds.replica = excluded.replica OR builds.seen <= `+s.ago(silence), b.Key, b.Launch, b.Replica)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if mine = n > 0; err != nil || mine {
			return err
		}
		other = Build{Key: b.Key}
		return tx.row(ctx, "SELECT launch, replica FROM builds WHERE key = ?", b.Key).Scan(&other.Launch, &other.Replica)
	})
	if err != nil || mine {
		return b, mine && err == nil, err
	}
	return other, false, nil
}

// KeepBuild shows that the build's replica is still at work on it. It returns false when
// another replica, which had not heard of that for long, has claimed it.
func (s *Store) KeepBuild(ctx context.Context, b Build) (bool, error) {
	var kept int64
	err := s.update(ctx, s.quick, "keep build", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, "UPDATE builds SET seen = "+s.now()+" WHERE key = ? AND launch = ? AND replica = ? AND failure = ''", b.Key, b.Launch, b.Replica)
		if err != nil {
			return err
		}
		kept, err = res.RowsAffected()
		return err
	})
	return kept > 0, err
}

// EndBuild tells those who follow the build that it has ended, and with a Failure that
// trying the same would be in vain.
func (s *Store) EndBuild(ctx context.Context, b Build) error {
	query, args := "DELETE FROM builds", []any{b.Key, b.Launch, b.Replica}
	if b.Failure != nil {
		data, err := json.Marshal(b.Failure)
		if err != nil {
			return fmt.Errorf("end of a build: %w", err)
		}
		query = "UPDATE builds SET failure = ?4"
		args = append(args, string(data))
	}
	return s.update(ctx, s.durable, "end build", func(ctx context.Context, tx txn) error {
		if _, err := tx.exec(ctx, query+" WHERE key = ?1 AND launch = ?2 AND replica = ?3", args...); err != nil {
			return err
		}
		return s.notify(ctx, tx, changeEvents+b.Launch)
	})
}

// Building returns the build of a key that a replica is at work on, having been heard of
// within silence, or that has failed. It returns false when there is none: it has ended,
// or its replica went away.
func (s *Store) Building(ctx context.Context, key string, silence time.Duration) (Build, bool, error) {
	b, err := one(ctx, s, "build", "SELECT launch, replica, failure FROM builds WHERE key = ? AND (failure <> '' OR seen > "+s.ago(silence)+")",
		func(rows *sql.Rows) (Build, error) {
			b := Build{Key: key}
			var failure string
			if err := rows.Scan(&b.Launch, &b.Replica, &failure); err != nil || failure == "" {
				return b, err
			}
			return b, json.Unmarshal([]byte(failure), &b.Failure)
		}, key)
	if errors.Is(err, sql.ErrNoRows) {
		return Build{}, false, nil
	}
	return b, err == nil, err
}

// ago is so long before now.
func (s *Store) ago(d time.Duration) string { return fmt.Sprintf("%s - %d", s.now(), d.Microseconds()) }
