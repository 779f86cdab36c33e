package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/binnacle-hub/binnacle"
)

// Batch is a run of events that was written, for giving it to a further launch.
type Batch struct {
	ID    int64 // 0 for none
	Count int
	Bytes int64
}

// Cursor is where a launch's next event goes: First is its number.
type Cursor struct {
	Launch string
	First  int64
}

// Append writes the same events to every launch in to, numbered from its First,
// and saves the launches given, all or nothing. With launches to save it
// returns once the disk has them; without, as soon as the events are readable.
// The IDs of events are ignored.
func (s *Store) Append(ctx context.Context, to []Cursor, events []binnacle.Event, save ...Launch) (Batch, error) {
	db := s.quick
	if len(save) > 0 {
		db = s.durable
	}
	b := Batch{Count: len(events)}
	var data []byte
	if len(events) > 0 {
		var err error
		if data, err = json.Marshal(events); err != nil {
			return Batch{}, fmt.Errorf("store.append: %w", err)
		}
		b.Bytes = int64(len(data))
	}
	err := s.update(ctx, db, "append", func(ctx context.Context, tx *sql.Tx) error {
		for _, l := range save {
			if err := putLaunch(ctx, tx, l); err != nil {
				return err
			}
		}
		if len(events) == 0 || len(to) == 0 {
			return nil
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO bodies (data) VALUES (?)", data)
		if err != nil {
			return err
		}
		if b.ID, err = res.LastInsertId(); err != nil {
			return err
		}
		return place(ctx, tx, to, b)
	})
	if err != nil {
		return Batch{}, err
	}
	return b, nil
}

// Share places batches that were written for another launch one after the other
// at the cursor.
func (s *Store) Share(ctx context.Context, to Cursor, batches []Batch) error {
	return s.update(ctx, s.quick, "share", func(ctx context.Context, tx *sql.Tx) error {
		for _, b := range batches {
			if err := place(ctx, tx, []Cursor{to}, b); err != nil {
				return err
			}
			to.First += int64(b.Count)
		}
		return nil
	})
}

func place(ctx context.Context, tx *sql.Tx, to []Cursor, b Batch) (err error) {
	st, err := tx.PrepareContext(ctx, "INSERT INTO chunks (launch, first, last, body) VALUES (?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for _, c := range to {
		if _, err := st.ExecContext(ctx, c.Launch, c.First, c.First+int64(b.Count)-1, b.ID); err != nil {
			return err
		}
	}
	return nil
}

// Events returns the events of a launch that follow the one numbered after, in
// order. It may return fewer than there are; none means that there are none.
func (s *Store) Events(ctx context.Context, launch string, after int64) ([]binnacle.Event, error) {
	const chunks = 16
	rows, err := s.read.QueryContext(ctx, `SELECT first, last, body FROM chunks WHERE launch = ?1 AND last > ?2 AND first >=
		coalesce((SELECT max(first) FROM chunks WHERE launch = ?1 AND first <= ?2 + 1), 0) ORDER BY first LIMIT ?3`, launch, after, chunks)
	if err != nil {
		return nil, s.fail("events", err)
	}
	type chunk struct{ first, last, body int64 }
	var found []chunk
	for rows.Next() {
		var c chunk
		if err := rows.Scan(&c.first, &c.last, &c.body); err != nil {
			return nil, s.fail("events", errors.Join(err, rows.Close()))
		}
		found = append(found, c)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, s.fail("events", err)
	}
	var events []binnacle.Event
	for _, c := range found {
		body, err := s.body(ctx, c.body)
		if errors.Is(err, sql.ErrNoRows) {
			// The launch was pruned between the two reads.
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		for i, e := range body {
			if e.ID = c.first + int64(i); e.ID > after {
				events = append(events, e)
			}
		}
	}
	return events, nil
}

// LastEvent returns the number of a launch's last event, 0 for none, and how
// many bytes its events take.
func (s *Store) LastEvent(ctx context.Context, launch string) (id, bytes int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT coalesce(max(c.last), 0), coalesce(sum(length(b.data)), 0)
		FROM chunks c JOIN bodies b ON b.id = c.body WHERE c.launch = ?`, launch).Scan(&id, &bytes)
	return id, bytes, s.fail("events", err)
}

// body returns the events of a batch, without numbers. Callers copy from it.
func (s *Store) body(ctx context.Context, id int64) ([]binnacle.Event, error) {
	if events, ok := s.bodies.get(id); ok {
		return events, nil
	}
	var data []byte
	if err := s.read.QueryRowContext(ctx, "SELECT data FROM bodies WHERE id = ?", id).Scan(&data); err != nil {
		return nil, s.fail("events", err)
	}
	var events []binnacle.Event
	if err := json.Unmarshal(data, &events); err != nil {
		return nil, fmt.Errorf("store.events: %w", err)
	}
	s.bodies.put(id, events)
	return events, nil
}

// bodyCache spares decoding a batch once for each of hundreds of watchers of
// the same build. A batch never changes, and its number is never used again.
type bodyCache struct {
	mu    sync.Mutex
	items map[int64][]binnacle.Event
	order []int64
}

func (c *bodyCache) get(id int64) ([]binnacle.Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	events, ok := c.items[id]
	return events, ok
}

func (c *bodyCache) put(id int64, events []binnacle.Event) {
	const limit = 32
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = map[int64][]binnacle.Event{}
	}
	if _, ok := c.items[id]; ok {
		return
	}
	if len(c.order) == limit {
		delete(c.items, c.order[0])
		c.order = c.order[1:]
	}
	c.items[id] = events
	c.order = append(c.order, id)
}
