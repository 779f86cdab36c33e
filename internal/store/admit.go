package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Wish is a launch that somebody asks for, and what stands against it.
type Wish struct {
	// Launch begins with Event when it is admitted.
	Launch Launch
	Event  binnacle.Event
	// Same says whether a launch of the same owner is what is asked for; nil when
	// none is joined.
	Same func(Launch) bool
	// Address may ask Rate times an hour, Burst times at once. A Rate of 0 is no limit.
	Address string
	Rate    float64
	Burst   int
	// MaxQueue is how many may wait in all queues; 0 is any number.
	MaxQueue int
	// Slot is what the launch needs; without an ID it needs none.
	Slot   Slot
	Limits SlotLimits
}

// Admission is what became of a wish; if all is zero it was admitted.
type Admission struct {
	// Joined is the launch that is under way for the same.
	Joined *Launch
	// Full: too many wait. After: the address has to wait so long.
	Full  bool
	After time.Duration
	// Slot is the admitted launch's.
	Slot Slot
}

// Admit begins a launch unless the same is under way or a limit stands against it.
// All of it is one transaction: what one replica has admitted every other counts.
func (s *Store) Admit(ctx context.Context, w Wish) (Admission, error) {
	var a Admission
	begin, err := pack([]binnacle.Event{w.Event})
	if err != nil {
		return a, err
	}
	err = s.update(ctx, s.durable, "admit", func(ctx context.Context, tx txn) error {
		a = Admission{} // this may run a second time
		if w.Same != nil {
			if a.Joined, err = s.underWay(ctx, tx, w); err != nil || a.Joined != nil {
				return err
			}
		}
		if w.MaxQueue > 0 {
			waiting := 0
			if err := s.waiting(ctx, tx, w.Slot.Queue, &waiting); err != nil || waiting >= w.MaxQueue {
				a.Full = err == nil
				return err
			}
		}
		if w.Rate > 0 {
			if a.After, err = s.take(ctx, tx, w); err != nil || a.After > 0 {
				return err
			}
		}
		to := []Cursor{{Launch: w.Launch.ID, First: 1, Epoch: w.Launch.Epoch}}
		if _, err := s.append(ctx, tx, to, begin, []Launch{w.Launch}); err != nil || w.Slot.ID == "" {
			return err
		}
		a.Slot, err = s.join(ctx, tx, w.Slot, w.Limits)
		return err
	})
	return a, err
}

// underWay looks for the same launch; its owner's others wait until the
// transaction ends.
func (s *Store) underWay(ctx context.Context, tx txn, w Wish) (_ *Launch, err error) {
	if s.pg != nil {
		if _, err := tx.exec(ctx, "SELECT pg_advisory_xact_lock(?, hashtext(?))", application, w.Launch.Owner); err != nil {
			return nil, err
		}
	}
	rows, err := tx.QueryContext(ctx, tx.bind(selectLaunch+"WHERE owner = ? AND final = 0 AND canceled = 0 ORDER BY created DESC, id"), w.Launch.Owner)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		l, err := scanLaunch(rows)
		if err != nil {
			return nil, err
		}
		if w.Same(l) {
			return &l, nil
		}
	}
	return nil, rows.Err()
}

// waiting counts who waits in all queues. The launch's own queue stays as it is
// until the transaction ends.
func (s *Store) waiting(ctx context.Context, tx txn, q Queue, n *int) error {
	if q != "" {
		if _, err := s.serve(ctx, tx, q); err != nil {
			return err
		}
	}
	return tx.row(ctx, "SELECT count(*) FROM slots WHERE granted = 0").Scan(n)
}

// take takes one of an address's tokens, or says when there will be one. Kept is
// the moment at which it has all of them again; the database's clock counts.
func (s *Store) take(ctx context.Context, tx txn, w Wish) (after time.Duration, err error) {
	// The row is written first: whoever asks at the same moment waits for it.
	if _, err := tx.exec(ctx, "INSERT INTO rates (address, whole) VALUES (?, 0) ON CONFLICT (address) DO UPDATE SET whole = rates.whole", w.Address); err != nil {
		return 0, err
	}
	var whole, now int64
	if err := tx.row(ctx, "SELECT whole, "+s.now()+" FROM rates WHERE address = ?", w.Address).Scan(&whole, &now); err != nil {
		return 0, err
	}
	each := perToken(w.Rate)
	whole = max(whole, now) + each.Microseconds()
	if over := time.Duration(whole-now)*time.Microsecond - time.Duration(w.Burst)*each; over > 0 {
		return over, nil
	}
	_, err = tx.exec(ctx, "UPDATE rates SET whole = ? WHERE address = ?", whole, w.Address)
	return 0, err
}

func perToken(rate float64) time.Duration { return time.Duration(float64(time.Hour) / rate) }

// Rate is how many launches an address may still ask for at once, and how long it
// takes until they are all there again.
func (s *Store) Rate(ctx context.Context, address string, rate float64, burst int) (left int, whole time.Duration, err error) {
	micros, err := one(ctx, s, "rate", "SELECT whole - "+s.now()+" FROM rates WHERE address = ?", scanInt, address)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, 0, err
	}
	whole = max(0, time.Duration(micros)*time.Microsecond)
	return max(0, burst-int((whole+perToken(rate)-1)/perToken(rate))), whole, nil
}

func scanInt(rows *sql.Rows) (n int64, err error) {
	err = rows.Scan(&n)
	return n, err
}

// Watch notes that somebody follows launches, through any replica.
func (s *Store) Watch(ctx context.Context, launches []string) error {
	if len(launches) == 0 {
		return nil
	}
	return s.update(ctx, s.quick, "watch", func(ctx context.Context, tx txn) error {
		for _, id := range launches { // sorted, so that replicas do not wait for each other in a circle
			_, err := tx.exec(ctx, "INSERT INTO watched (launch, seen) VALUES (?, "+s.now()+") ON CONFLICT (launch) DO UPDATE SET seen = excluded.seen", id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Watched says whether somebody followed a launch not longer ago than that.
func (s *Store) Watched(ctx context.Context, launch string, ago time.Duration) (bool, error) {
	micros, err := one(ctx, s, "watched", "SELECT "+s.now()+" - seen FROM watched WHERE launch = ?", scanInt, launch)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil && time.Duration(micros)*time.Microsecond <= ago, err
}

// Unwatched returns a replica's launches that were followed once, and not for so long.
func (s *Store) Unwatched(ctx context.Context, replica string, ago time.Duration) ([]string, error) {
	return collect(ctx, s, "unwatched", "SELECT id FROM launches JOIN watched ON watched.launch = launches.id WHERE replica = ? AND final = 0 AND seen < "+
		s.now()+" - ?", scanString, replica, ago.Microseconds())
}
