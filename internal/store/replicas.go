package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"
)

// TakenError is returned to a writer whose launches another replica has taken;
// nothing was written.
type TakenError struct {
	// Launches are those that were taken.
	Launches []string
}

// Error names them.
func (e *TakenError) Error() string {
	return "taken over by another replica: " + strings.Join(e.Launches, ", ")
}

// fence is what a writer believes of a launch; an epoch of 0 is no belief.
type fence struct {
	launch string
	epoch  int64
}

// fence finds out whether the launches are the writer's, and keeps them so until
// the transaction ends.
func (s *Store) fence(ctx context.Context, tx txn, fences []fence) error {
	// In one order, so that two writers do not wait for each other.
	fences = slices.Clone(fences)
	slices.SortFunc(fences, func(a, b fence) int { return strings.Compare(a.launch, b.launch) })
	query := "SELECT epoch FROM launches WHERE id = ?"
	if s.pg != nil {
		query += " FOR UPDATE"
	}
	var taken []string
	for i, f := range fences {
		if f.epoch == 0 || i > 0 && fences[i-1] == f {
			continue
		}
		var epoch int64
		switch err := tx.row(ctx, query, f.launch).Scan(&epoch); {
		case errors.Is(err, sql.ErrNoRows): // a launch begins with this write
		case err != nil:
			return err
		case epoch != f.epoch:
			taken = append(taken, f.launch)
		}
	}
	if len(taken) > 0 {
		return &TakenError{Launches: taken}
	}
	return nil
}

// Take makes the launch, as it was read, replica's. It returns false when
// another replica was faster or the launch has ended.
func (s *Store) Take(ctx context.Context, l Launch, replica string) (Launch, bool, error) {
	var taken int64
	err := s.update(ctx, s.durable, "take", func(ctx context.Context, tx txn) error {
		res, err := tx.exec(ctx, "UPDATE launches SET replica = ?, epoch = ? WHERE id = ? AND epoch = ? AND final = 0", replica, l.Epoch+1, l.ID, l.Epoch)
		if err != nil {
			return err
		}
		taken, err = res.RowsAffected()
		return err
	})
	if err != nil || taken == 0 {
		return Launch{}, false, err
	}
	l.Replica = replica
	l.Epoch++
	return l, true, nil
}

// Cancel asks the replica that drives a launch to end it. It does nothing when
// the launch has ended.
func (s *Store) Cancel(ctx context.Context, launch string) error {
	return s.update(ctx, s.durable, "cancel", func(ctx context.Context, tx txn) error {
		if _, err := tx.exec(ctx, "UPDATE launches SET canceled = 1 WHERE id = ? AND final = 0", launch); err != nil {
			return err
		}
		return s.notify(ctx, tx, changeCancel+launch)
	})
}

// Canceled returns the launches of a replica that were asked to end.
func (s *Store) Canceled(ctx context.Context, replica string) ([]string, error) {
	return collect(ctx, s, "canceled", "SELECT id FROM launches WHERE replica = ? AND final = 0 AND canceled = 1", scanString, replica)
}

// Beat notes that a replica is alive.
func (s *Store) Beat(ctx context.Context, replica string) error {
	return s.update(ctx, s.quick, "beat", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "INSERT INTO replicas (name, seen) VALUES (?, "+s.now()+") ON CONFLICT (name) DO UPDATE SET seen = excluded.seen", replica)
		return err
	})
}

// Leave notes that a replica ends, so that nobody waits for it.
func (s *Store) Leave(ctx context.Context, replica string) error {
	return s.update(ctx, s.durable, "leave", func(ctx context.Context, tx txn) error {
		_, err := tx.exec(ctx, "DELETE FROM replicas WHERE name = ?", replica)
		return err
	})
}

// Abandoned returns the unfinished launches whose replica was not heard of for
// so long, the oldest first.
func (s *Store) Abandoned(ctx context.Context, silence time.Duration) ([]Launch, error) {
	return s.launches(ctx, selectLaunch+"WHERE final = 0 AND replica NOT IN (SELECT name FROM replicas WHERE seen > "+s.ago(silence)+") ORDER BY created, id")
}

// now is the clock all replicas share: the database's.
func (s *Store) now() string {
	if s.pg == nil {
		return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
	}
	return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
}

// Touch notes when sessions were last used; an earlier time changes nothing.
func (s *Store) Touch(ctx context.Context, used map[string]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	ids := make([]string, 0, len(used))
	for id := range used {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return s.update(ctx, s.quick, "touch", func(ctx context.Context, tx txn) error {
		for _, id := range ids {
			_, err := tx.exec(ctx, `INSERT INTO activity (session, used) VALUES (?, ?) ON CONFLICT (session) DO UPDATE SET
				used = CASE WHEN excluded.used > activity.used THEN excluded.used ELSE activity.used END`, id, stamp(used[id]))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Used returns when sessions that have not ended were last used.
func (s *Store) Used(ctx context.Context) (map[string]time.Time, error) {
	type use struct {
		id   string
		used int64
	}
	list, err := collect(ctx, s, "used", "SELECT session, used FROM activity", func(rows *sql.Rows) (u use, err error) {
		err = rows.Scan(&u.id, &u.used)
		return u, err
	})
	used := make(map[string]time.Time, len(list))
	for _, u := range list {
		used[u.id] = unstamp(u.used)
	}
	return used, err
}

func scanString(rows *sql.Rows) (string, error) {
	var text string
	err := rows.Scan(&text)
	return text, err
}

// Change is news of a launch.
type Change struct {
	// Launch is empty when any may have changed, because nothing was heard for a
	// while.
	Launch string
	// Cancel is set when somebody asks for its end; else it has new events.
	Cancel bool
	// Queue is set, and Launch is not, when places in it have changed.
	Queue Queue
}

// The first character of what replicas are told; a launch follows.
const (
	changeEvents = "e"
	changeCancel = "c"
	changeQueue  = "q" // a queue follows
	channel      = "binnacle"
)

// tell tells all replicas that launches have news.
func (s *Store) tell(ctx context.Context, tx txn, fences []fence) error {
	if s.pg == nil {
		return nil
	}
	var words []string
	for _, f := range fences {
		words = append(words, changeEvents+f.launch)
	}
	slices.Sort(words)
	return s.notify(ctx, tx, slices.Compact(words)...)
}

func (s *Store) notify(ctx context.Context, tx txn, words ...string) error {
	if s.pg == nil {
		return nil
	}
	for _, w := range words {
		if _, err := tx.exec(ctx, "SELECT pg_notify(?, ?)", channel, w); err != nil {
			return err
		}
	}
	return nil
}

// Changes tells f of all replicas' news until ctx ends, this one's included.
// With SQLite there is none to tell: one process has the file.
func (s *Store) Changes(ctx context.Context, f func(Change)) error {
	if s.pg == nil {
		<-ctx.Done()
		return nil
	}
	return s.pg.listen(ctx, func(word string) {
		switch {
		case word == "":
			f(Change{})
		case strings.HasPrefix(word, changeEvents):
			f(Change{Launch: word[1:]})
		case strings.HasPrefix(word, changeCancel):
			f(Change{Launch: word[1:], Cancel: true})
		case strings.HasPrefix(word, changeQueue):
			f(Change{Queue: Queue(word[1:])})
		}
	})
}
