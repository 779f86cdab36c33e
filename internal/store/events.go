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

// Cursor is where a launch's next event goes: First is its number. Epoch is that
// of the writer, see [Launch.Epoch]; 0 asks for none.
type Cursor struct {
	Launch string
	First  int64
	Epoch  int64
}

func (c Cursor) fence() fence { return fence{c.Launch, c.Epoch} }

// Append writes the same events to every launch in to, numbered from its First,
// and saves the launches given, all or nothing. With launches to save it
// returns once the disk has them; without, as soon as the events are readable.
// The IDs of events are ignored. Returns a [TakenError] when another replica has
// taken one of the launches.
func (s *Store) Append(ctx context.Context, to []Cursor, events []binnacle.Event, save ...Launch) (Batch, error) {
	db := s.quick
	if len(save) > 0 {
		db = s.durable
	}
	p, err := pack(events)
	if err != nil {
		return Batch{}, err
	}
	var b Batch
	err = s.update(ctx, db, "append", func(ctx context.Context, tx txn) (err error) {
		b, err = s.append(ctx, tx, to, p, save)
		return err
	})
	if err != nil {
		return Batch{}, err
	}
	return b, nil
}

// packed is a batch of events that is not written yet.
type packed struct {
	count int
	data  []byte
}

func pack(events []binnacle.Event) (packed, error) {
	p := packed{count: len(events)}
	if len(events) == 0 {
		return p, nil
	}
	var err error
	if p.data, err = json.Marshal(events); err != nil {
		return packed{}, fmt.Errorf("store.append: %w", err)
	}
	return p, nil
}

func (s *Store) append(ctx context.Context, tx txn, to []Cursor, p packed, save []Launch) (Batch, error) {
	b := Batch{Count: p.count, Bytes: int64(len(p.data))}
	var fences []fence
	for _, c := range to {
		fences = append(fences, c.fence())
	}
	for _, l := range save {
		fences = append(fences, fence{l.ID, l.Epoch})
	}
	if err := s.fence(ctx, tx, fences); err != nil {
		return Batch{}, err
	}
	for _, l := range save {
		if err := putLaunch(ctx, tx, l); err != nil {
			return Batch{}, err
		}
	}
	if p.count == 0 || len(to) == 0 {
		return b, s.tell(ctx, tx, fences)
	}
	if err := tx.row(ctx, "INSERT INTO bodies (data) VALUES (?) RETURNING id", p.data).Scan(&b.ID); err != nil {
		return Batch{}, err
	}
	if err := place(ctx, tx, to, b); err != nil {
		return Batch{}, err
	}
	return b, s.tell(ctx, tx, fences)
}

// Share places batches that were written for another launch one after the other
// at the cursor. Returns a [TakenError] when another replica has taken the launch.
func (s *Store) Share(ctx context.Context, to Cursor, batches []Batch) error {
	return s.update(ctx, s.quick, "share", func(ctx context.Context, tx txn) error {
		if err := s.fence(ctx, tx, []fence{to.fence()}); err != nil {
			return err
		}
		at := to // this may run a second time
		for _, b := range batches {
			if err := place(ctx, tx, []Cursor{at}, b); err != nil {
				return err
			}
			at.First += int64(b.Count)
		}
		return s.tell(ctx, tx, []fence{to.fence()})
	})
}

func place(ctx context.Context, tx txn, to []Cursor, b Batch) (err error) {
	st, err := tx.PrepareContext(ctx, tx.bind("INSERT INTO chunks (launch, first, last, body) VALUES (?, ?, ?, ?)"))
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
	type chunk struct{ first, last, body int64 }
	found, err := collect(ctx, s, "events", `SELECT first, last, body FROM chunks WHERE launch = ?1 AND last > ?2 AND first >=
		coalesce((SELECT max(first) FROM chunks WHERE launch = ?1 AND first <= ?2 + 1), 0) ORDER BY first LIMIT ?3`,
		func(rows *sql.Rows) (c chunk, err error) {
			err = rows.Scan(&c.first, &c.last, &c.body)
			return c, err
		}, launch, after, chunks)
	if err != nil {
		return nil, err
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
	type end struct{ id, bytes int64 }
	e, err := one(ctx, s, "events", `SELECT coalesce(max(c.last), 0), coalesce(sum(length(b.data)), 0)
		FROM chunks c JOIN bodies b ON b.id = c.body WHERE c.launch = ?`, func(rows *sql.Rows) (e end, err error) {
		err = rows.Scan(&e.id, &e.bytes)
		return e, err
	}, launch)
	return e.id, e.bytes, err
}

// body returns the events of a batch, without numbers. Callers copy from it.
func (s *Store) body(ctx context.Context, id int64) ([]binnacle.Event, error) {
	if events, ok := s.bodies.get(id); ok {
		return events, nil
	}
	data, err := one(ctx, s, "events", "SELECT data FROM bodies WHERE id = ?", scanBytes, id)
	if err != nil {
		return nil, err
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
