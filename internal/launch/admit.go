package launch

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// admitShared begins the run where replicas share a database: there it is
// decided, and at once counted by all of them, whether the same is under way and
// whether a limit stands against it. It returns the one under way, or refuses.
func (s *Service) admitShared(ctx context.Context, caller Caller, r *run, begin binnacle.Event) (*store.Launch, error) {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return nil, restarting()
	}
	s.runs[r.id] = r
	s.mu.Unlock()
	same, err := s.admitRun(ctx, caller, r, begin)
	if same != nil || err != nil {
		s.forget(r)
	}
	return same, err
}

func (s *Service) admitRun(ctx context.Context, caller Caller, r *run, begin binnacle.Event) (*store.Launch, error) {
	// Writing comes before serving, as in write.
	r.mu.Lock()
	defer r.mu.Unlock()
	wish := store.Wish{Launch: r.rec, Event: begin}
	if !caller.Trusted {
		wish.MaxQueue = s.cfg.MaxQueue
		wish.Address, wish.Rate, wish.Burst = network(caller.Address), s.cfg.AddressRate, s.cfg.AddressBurst
		if caller.Owner != "" {
			wish.Same = func(l store.Launch) bool { return !l.Trusted && equal(l.Request, r.request) }
		}
	}
	line := s.places[store.QueueSessions]
	if !r.request.BuildOnly {
		wish.Slot, wish.Limits = line.slot(r.id, asker{caller.key(), repoKey(r.spec), caller.Trusted}, false), line.limits
	}
	a, err := s.deps.Shared.Admit(ctx, wish)
	switch {
	case err != nil || a.Joined != nil:
		return a.Joined, err
	case a.Full:
		return nil, queueFull()
	case a.After > 0:
		return nil, tooMany(a.After)
	}
	r.next++
	if !r.request.BuildOnly {
		r.slot = line.joined(a.Slot)
	}
	r.signal()
	return nil, nil
}

func restarting() error {
	return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "launch", Message: "This hub is being restarted.", Hint: "Try again in a minute."}
}

func queueFull() error { return limited(time.Minute, "This hub is full, and so is its queue.") }

func tooMany(after time.Duration) error {
	return limited(after, "There were too many launches from your address.")
}

// audience is who follows launches through this replica, for the others to know.
// The zero value is ready.
type audience struct {
	mu   sync.Mutex
	now  map[string]int
	left map[string]struct{} // since the last look
}

// join counts a watcher in and returns how to count it out.
func (a *audience) join(launch string) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now, a.left = map[string]int{}, map[string]struct{}{}
	}
	a.now[launch]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.left[launch] = struct{}{}
		if a.now[launch]--; a.now[launch] == 0 {
			delete(a.now, launch)
		}
	}
}

// look returns the launches that were followed since the last look, sorted.
func (a *audience) look() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for id := range a.now {
		ids = append(ids, id)
	}
	for id := range a.left {
		if a.now[id] == 0 {
			ids = append(ids, id)
		}
	}
	clear(a.left)
	slices.Sort(ids)
	return ids
}

// unseen is how long a launch that is followed may look as if it were not: a few
// heartbeats.
func (s *Service) unseen() time.Duration { return 3 * s.cfg.Heartbeat }

// endUnwatched tells the others what is followed here, and ends launches of this
// replica that nobody follows any more anywhere. sure: all could be heard lately.
func (s *Service) endUnwatched(ctx context.Context, sure func(time.Duration) bool) error {
	if err := s.deps.Shared.Watch(ctx, s.audience.look()); err != nil {
		return err
	}
	grace := max(s.cfg.Grace, s.unseen())
	if s.cfg.Grace == 0 || !sure(grace) {
		return nil
	}
	ids, err := s.deps.Shared.Unwatched(ctx, s.deps.Replica, grace)
	for _, id := range ids {
		s.mu.Lock()
		r := s.runs[id]
		s.mu.Unlock()
		if r != nil {
			r.stop(unwatched())
		}
	}
	return err
}

func unwatched() error {
	return &binnacle.Error{
		Code: binnacle.CodeCanceled, Op: "launch.grace", Message: "Nobody was watching this launch any more.", Hint: "Launch it again.",
	}
}

// Watched says whether somebody follows a launch of the caller's, through any
// replica. Returns not_found for what is not there or not the caller's.
func (s *Service) Watched(ctx context.Context, caller Caller, id string) (bool, error) {
	s.mu.Lock()
	r := s.runs[id]
	s.mu.Unlock()
	rec, err := s.find(ctx, r, id)
	if err != nil {
		return false, err
	}
	if !caller.sees(rec) {
		return false, noLaunch(id)
	}
	if s.shared() {
		return s.deps.Shared.Watched(ctx, id, s.unseen())
	}
	if r == nil {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watchers > 0, nil
}

// place is where a launch of another replica stands in a queue; 0: in none.
func (s *Service) place(ctx context.Context, rec store.Launch) (int, error) {
	if !s.shared() || rec.Phase.Final() || rec.Replica == s.deps.Replica {
		return 0, nil
	}
	places, err := s.allPlaces(ctx)
	return places[rec.ID], err
}

// allPlaces is where launches stand, through all replicas.
func (s *Service) allPlaces(ctx context.Context) (map[string]int, error) {
	all, err := s.deps.Shared.Places(ctx, store.QueueSessions, "")
	if err != nil {
		return nil, err
	}
	builds, err := s.deps.Shared.Places(ctx, store.QueueBuilds, "")
	for id, at := range builds {
		all[id] = cmp.Or(all[id], at)
	}
	return all, err
}
