package launch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// run is a launch that is not final.
type run struct {
	id      string
	caller  Caller
	spec    binnacle.Spec // as asked for
	request binnacle.LaunchRequest
	// ending: its last event is on its way, so nobody is given it any more who
	// asks for the same; guarded by Service.mu.
	ending bool

	mu       sync.Mutex
	rec      store.Launch
	next     int64         // number of its next event
	ended    bool          // the end event is written, nothing follows
	lost     bool          // another replica goes on with it
	changed  chan struct{} // closed and replaced when there are new events
	position int
	watchers int
	grace    *time.Timer
	canceled error // asked for before drive began
	cancel   context.CancelCauseFunc
	slot     *ticket
}

func newRun(rec store.Launch, next int64, caller Caller) *run {
	return &run{
		id: rec.ID, caller: caller, spec: rec.Spec, request: rec.Request, rec: rec, next: next, changed: make(chan struct{}),
	}
}

// stop ends the launch with a cause.
func (r *run) stop(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.canceled == nil {
		r.canceled = cause
	}
	if r.cancel != nil {
		r.cancel(cause)
	}
}

func (r *run) record() store.Launch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}

// write appends the same events to all the runs that have not ended. With a
// change it is applied to each record, and the call returns once all are on the
// disk. The order of runs in memory is that of their ids, so that two writes
// cannot wait for each other.
func (s *Service) write(ctx context.Context, runs []*run, events []binnacle.Event, change func(*store.Launch)) (store.Batch, error) {
	runs = slices.SortedFunc(slices.Values(runs), func(a, b *run) int { return cmp.Compare(a.id, b.id) })
	var open []*run
	for _, r := range runs {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.ended {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return store.Batch{}, nil
	}
	for {
		batch, err := s.writeOpen(ctx, open, events, change)
		lost, ok := errors.AsType[*store.TakenError](err)
		if !ok {
			return batch, err
		}
		open = slices.DeleteFunc(open, func(r *run) bool {
			gone := slices.Contains(lost.Launches, r.id)
			if gone {
				r.lose()
			}
			return gone
		})
		if len(open) == 0 {
			return store.Batch{}, errTaken
		}
	}
}

// writeOpen writes to runs whose locks are held.
func (s *Service) writeOpen(ctx context.Context, open []*run, events []binnacle.Event, change func(*store.Launch)) (store.Batch, error) {
	var to []store.Cursor
	var recs []store.Launch
	for _, r := range open {
		to = append(to, store.Cursor{Launch: r.id, First: r.next, Epoch: r.rec.Epoch})
		if change != nil {
			rec := r.rec
			rec.Phases = slices.Clone(rec.Phases)
			change(&rec)
			recs = append(recs, rec)
		}
	}
	batch, err := s.deps.Store.Append(ctx, to, events, recs...)
	if err != nil {
		return store.Batch{}, err
	}
	for i, r := range open {
		r.next += int64(len(events))
		if change != nil {
			r.rec = recs[i]
			r.ended = r.rec.Phase.Final()
		}
		r.signal()
	}
	return batch, nil
}

// signal wakes the watchers; r.mu is held.
func (r *run) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// enter puts a launch into a phase and returns how long the one before took.
func enter(rec *store.Launch, phase binnacle.Phase, now time.Time) time.Duration {
	var took time.Duration
	if n := len(rec.Phases); n > 0 && rec.Phases[n-1].Millis == 0 {
		last := &rec.Phases[n-1]
		took = now.Sub(last.Start)
		last.Millis = max(1, took.Milliseconds())
	}
	rec.Phase = phase
	if !phase.Final() {
		rec.Phases = append(rec.Phases, binnacle.PhaseTime{Phase: phase, Start: now})
	}
	return took
}

// say writes one event that changes nothing.
func (s *Service) say(ctx context.Context, r *run, e binnacle.Event) error {
	e.Time = time.Now().UTC()
	e.Phase = r.record().Phase
	_, err := s.write(ctx, []*run{r}, []binnacle.Event{e}, nil)
	return err
}

// queued tells the launches where they stand.
func (s *Service) queued(ctx context.Context, phase binnacle.Phase, position int, runs ...*run) {
	for _, r := range runs {
		r.mu.Lock()
		r.position = position
		r.mu.Unlock()
	}
	e := binnacle.Event{Time: time.Now().UTC(), Kind: binnacle.EventQueue, Phase: phase, Position: position}
	if _, err := s.write(ctx, runs, []binnacle.Event{e}, nil); err != nil {
		s.log.WarnContext(ctx, "queue position not written", "error", err)
	}
}

// Events yields the events that follow the one numbered after, then each new
// one as it comes, until the end event, ctx's end or yield's error. A
// slow watcher only delays itself. Returns not_found when there is no such
// launch or it is not the caller's.
func (s *Service) Events(ctx context.Context, caller Caller, id string, after int64, yield func(binnacle.Event) error) error {
	after = max(after, 0)
	s.mu.Lock()
	r := s.runs[id]
	s.mu.Unlock()
	rec, err := s.find(ctx, r, id)
	if err != nil {
		return err
	}
	if !caller.sees(rec) {
		return noLaunch(id)
	}
	if r != nil {
		defer s.watch(r)()
	}
	if s.shared() {
		defer s.audience.join(id)()
	}
	for {
		var changed <-chan struct{}
		final := true
		if r != nil {
			r.mu.Lock()
			changed, final = r.changed, r.ended
			// A number from before a crash that lost the end of the log.
			after = min(after, r.next-1)
			lost := r.lost
			r.mu.Unlock()
			if lost {
				r = nil
			}
		}
		if r == nil {
			if changed, final, err = s.remote(ctx, id); err != nil {
				return err
			}
		}
		events, err := s.deps.Store.Events(ctx, id, after)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := yield(e); err != nil {
				return err
			}
			after = e.ID
			if e.Kind == binnacle.EventEnd {
				return nil
			}
		}
		if len(events) > 0 {
			continue
		}
		if final {
			return nil
		}
		if err := s.wait(ctx, changed, r == nil); err != nil {
			return err
		}
	}
}

// remote is for a launch that no run of this replica is: whether it is over, and
// what is closed when there is news of it.
func (s *Service) remote(ctx context.Context, id string) (changed <-chan struct{}, final bool, err error) {
	if !s.shared() {
		return nil, true, nil
	}
	changed = s.news.of(id)
	rec, err := s.deps.Store.Launch(ctx, id)
	if err != nil || rec.Phase.Final() {
		s.news.tell(id) // nobody will
		return nil, true, err
	}
	return changed, false, nil
}

// wait waits for news; where they may be lost not for long.
func (s *Service) wait(ctx context.Context, changed <-chan struct{}, poll bool) error {
	var again <-chan time.Time
	if poll {
		t := time.NewTimer(pollNews)
		defer t.Stop()
		again = t.C
	}
	select {
	case <-changed:
	case <-again:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// find returns the record of a launch, from its run when it has one.
func (s *Service) find(ctx context.Context, r *run, id string) (store.Launch, error) {
	if r != nil {
		return r.record(), nil
	}
	return s.deps.Store.Launch(ctx, id)
}

// watch counts a watcher in and returns how to count it out.
func (s *Service) watch(r *run) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers++
	if r.grace != nil {
		r.grace.Stop()
		r.grace = nil
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.watchers--; r.watchers > 0 || r.ended || s.cfg.Grace == 0 || s.shared() { // others may watch on other replicas: endUnwatched
			return
		}
		r.grace = time.AfterFunc(s.cfg.Grace, func() {
			r.mu.Lock()
			left := r.watchers == 0
			r.mu.Unlock()
			if left {
				r.stop(unwatched())
			}
		})
	}
}
