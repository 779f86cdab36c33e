package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Queue is one in which launches wait for one of few slots, whichever replica
// drives them.
type Queue string

// The queues there are.
const (
	QueueSessions Queue = "sessions"
	QueueBuilds   Queue = "builds"
)

// SlotLimits is how many slots of a queue there are; 0 is no limit.
type SlotLimits struct{ Total, PerOwner, PerRepo int }

// Slot is a place in a queue, then what was waited for. Places are given in turns:
// an owner's stand in consecutive rounds, and within a round who came first is
// first. Newcomers begin in the round that is being served.
type Slot struct {
	Queue Queue
	// ID is the launch's that asked.
	ID string
	// Owner and Repo are what limits count by; Exempt from the owner's.
	Owner, Repo string
	Exempt      bool
	// Replica drives the launch.
	Replica string
	// Granted: it has been waited for. Position is from 1, 0 once granted.
	Granted  bool
	Position int
}

// Join asks for a slot, or with Granted set takes one whatever the limits say. One
// that is there already stays what it is, and becomes the replica's.
func (s *Store) Join(ctx context.Context, slot Slot, l SlotLimits) (Slot, error) {
	var got Slot
	err := s.update(ctx, s.durable, "slot", func(ctx context.Context, tx txn) (err error) {
		got, err = s.join(ctx, tx, slot, l)
		return err
	})
	return got, err
}

func (s *Store) join(ctx context.Context, tx txn, slot Slot, l SlotLimits) (Slot, error) {
	round, err := s.serve(ctx, tx, slot.Queue)
	if err != nil {
		return slot, err
	}
	var last int64
	err = tx.row(ctx, "SELECT coalesce(max(round), -1) FROM slots WHERE queue = ? AND owner = ?", slot.Queue, slot.Owner).Scan(&last)
	if err != nil {
		return slot, err
	}
	mine := round
	if !slot.Granted {
		mine = max(round, last+1)
	}
	if err := put(ctx, tx, slot, mine); err != nil {
		return slot, err
	}
	if err := s.dispatch(ctx, tx, slot.Queue, round, l); err != nil {
		return slot, err
	}
	err = tx.row(ctx, "SELECT granted FROM slots WHERE queue = ? AND id = ?", slot.Queue, slot.ID).Scan(&slot.Granted)
	if err != nil || slot.Granted {
		return slot, err
	}
	err = tx.row(ctx, "SELECT place FROM ("+places+") AS w WHERE id = ?", slot.Queue, slot.ID).Scan(&slot.Position)
	return slot, err
}

func put(ctx context.Context, tx txn, slot Slot, round int64) error {
	_, err := tx.exec(ctx, `INSERT INTO slots (queue, id, owner, repo, exempt, round, granted, replica) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (queue, id) DO UPDATE SET replica = excluded.replica`,
		slot.Queue, slot.ID, slot.Owner, slot.Repo, bit(slot.Exempt), round, bit(slot.Granted), slot.Replica)
	return err
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// places numbers those who wait in a queue.
const places = "SELECT id, replica, row_number() OVER (ORDER BY round, seq) AS place FROM slots WHERE queue = ? AND granted = 0"

// serve keeps a queue as it is until the transaction ends, and returns the round
// that was served last.
func (s *Store) serve(ctx context.Context, tx txn, q Queue) (round int64, err error) {
	query := "SELECT round FROM queues WHERE name = ?"
	if s.pg != nil {
		query += " FOR UPDATE"
	}
	err = tx.row(ctx, query, q).Scan(&round)
	return round, err
}

// dispatch grants what fits and tells the replicas that places have changed.
func (s *Store) dispatch(ctx context.Context, tx txn, q Queue, round int64, l SlotLimits) error {
	var held, waiting int
	err := tx.row(ctx, "SELECT count(*) FROM slots WHERE queue = ? AND granted = 1", q).Scan(&held)
	if err == nil {
		err = tx.row(ctx, "SELECT count(*) FROM slots WHERE queue = ? AND granted = 0", q).Scan(&waiting)
	}
	if err != nil || waiting == 0 {
		return err
	}
	if l.Total == 0 || held < l.Total {
		if err := s.grant(ctx, tx, q, held, round, l); err != nil {
			return err
		}
	}
	return s.notify(ctx, tx, changeQueue+string(q))
}

// grant goes through those who wait, in their order.
func (s *Store) grant(ctx context.Context, tx txn, q Queue, held int, round int64, l SlotLimits) error {
	line, err := waiters(ctx, tx, q)
	if err != nil {
		return err
	}
	owners, err := counts(ctx, tx, "owner", q, l.PerOwner)
	if err != nil {
		return err
	}
	repos, err := counts(ctx, tx, "repo", q, l.PerRepo)
	if err != nil {
		return err
	}
	for _, w := range line {
		if l.Total > 0 && held >= l.Total {
			break
		}
		if l.PerOwner > 0 && !w.Exempt && owners[w.Owner] >= l.PerOwner || l.PerRepo > 0 && repos[w.Repo] >= l.PerRepo {
			continue
		}
		if _, err := tx.exec(ctx, "UPDATE slots SET granted = 1 WHERE queue = ? AND id = ?", q, w.ID); err != nil {
			return err
		}
		held++
		owners[w.Owner]++
		repos[w.Repo]++
		round = max(round, w.round)
	}
	_, err = tx.exec(ctx, "UPDATE queues SET round = ? WHERE name = ?", round, q)
	return err
}

type waiter struct {
	Slot

	round int64
}

func waiters(ctx context.Context, tx txn, q Queue) (line []waiter, err error) {
	rows, err := tx.QueryContext(ctx, tx.bind("SELECT id, owner, repo, exempt, round FROM slots WHERE queue = ? AND granted = 0 ORDER BY round, seq"), q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var w waiter
		if err := rows.Scan(&w.ID, &w.Owner, &w.Repo, &w.Exempt, &w.round); err != nil {
			return nil, err
		}
		line = append(line, w)
	}
	return line, rows.Err()
}

// counts is how many slots those have who wait; nothing is counted without a limit.
func counts(ctx context.Context, tx txn, by string, q Queue, limit int) (got map[string]int, err error) {
	got = map[string]int{}
	if limit == 0 {
		return got, nil
	}
	rows, err := tx.QueryContext(ctx, tx.bind("SELECT "+by+", count(*) FROM slots WHERE queue = ? AND granted = 1 AND "+by+
		" IN (SELECT "+by+" FROM slots WHERE queue = ? AND granted = 0) GROUP BY "+by), q, q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key string
		var n int
		if err := rows.Scan(&key, &n); err != nil {
			return nil, err
		}
		got[key] = n
	}
	return got, rows.Err()
}

// LeaveSlot gives a slot or a place back, if it is the replica's; any replica's
// when that is empty. What is not there is no error.
func (s *Store) LeaveSlot(ctx context.Context, q Queue, id, replica string, l SlotLimits) error {
	return s.release(ctx, q, l, "id = ?2 AND (?3 = '' OR replica = ?3)", id, replica)
}

// LeaveSlots gives back what a replica has in a queue from its life before.
func (s *Store) LeaveSlots(ctx context.Context, q Queue, replica string, l SlotLimits) error {
	return s.release(ctx, q, l, "replica = ?2", replica)
}

// FreeSlots gives back what replicas have in a queue that were not heard of for so long.
func (s *Store) FreeSlots(ctx context.Context, q Queue, silence time.Duration, l SlotLimits) error {
	return s.release(ctx, q, l, "replica NOT IN (SELECT name FROM replicas WHERE seen > "+s.ago(silence)+")")
}

func (s *Store) release(ctx context.Context, q Queue, l SlotLimits, which string, args ...any) error {
	return s.update(ctx, s.durable, "slot", func(ctx context.Context, tx txn) error {
		round, err := s.serve(ctx, tx, q)
		if err != nil {
			return err
		}
		res, err := tx.exec(ctx, "DELETE FROM slots WHERE queue = ?1 AND "+which, append([]any{q}, args...)...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return s.dispatch(ctx, tx, q, round, l)
	})
}

// Places returns who of a replica waits in a queue, with their positions;
// everybody's when it is empty.
func (s *Store) Places(ctx context.Context, q Queue, replica string) (map[string]int, error) {
	type place struct {
		id string
		at int
	}
	list, err := collect(ctx, s, "slots", "SELECT id, place FROM ("+places+") AS w WHERE ?2 = '' OR replica = ?2", func(rows *sql.Rows) (p place, err error) {
		err = rows.Scan(&p.id, &p.at)
		return p, err
	}, q, replica)
	got := make(map[string]int, len(list))
	for _, p := range list {
		got[p.id] = p.at
	}
	return got, err
}

// SettleSlots compares the queue for sessions with what runs: sessions without a
// slot get one, and slots of neither a session nor an open launch go.
func (s *Store) SettleSlots(ctx context.Context, running []Slot, l SlotLimits) error {
	there := make(map[string]bool, len(running))
	for _, r := range running {
		there[r.ID] = true
	}
	return s.update(ctx, s.durable, "slots", func(ctx context.Context, tx txn) error {
		round, err := s.serve(ctx, tx, QueueSessions)
		if err != nil {
			return err
		}
		known, err := slotIDs(ctx, tx, QueueSessions)
		if err != nil {
			return err
		}
		for id := range known {
			if there[id] {
				continue
			}
			// One that began after the list was made is in the database.
			var needed int
			if err := tx.row(ctx, `SELECT count(*) FROM launches WHERE id = ? AND (final = 0 OR EXISTS
				(SELECT 1 FROM sessions WHERE sessions.id = launches.session AND sessions.ended = 0))`, id).Scan(&needed); err != nil {
				return err
			}
			if needed > 0 {
				continue
			}
			if _, err := tx.exec(ctx, "DELETE FROM slots WHERE queue = ? AND id = ?", QueueSessions, id); err != nil {
				return err
			}
		}
		for _, r := range running {
			if known[r.ID] {
				continue
			}
			r.Queue, r.Granted = QueueSessions, true
			if err := put(ctx, tx, r, round); err != nil {
				return err
			}
		}
		return s.dispatch(ctx, tx, QueueSessions, round, l)
	})
}

func slotIDs(ctx context.Context, tx txn, q Queue) (ids map[string]bool, err error) {
	rows, err := tx.QueryContext(ctx, tx.bind("SELECT id FROM slots WHERE queue = ?"), q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	ids = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, rows.Err()
}
