package launch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Leader says whether this replica culls, cleans and takes over what dead ones
// left. At times nobody leads, or for a moment two do: nothing breaks then.
type Leader interface {
	Leads() bool
}

// Shared is what replicas of a hub tell each other through their database;
// *store.Store is one.
type Shared interface {
	Take(ctx context.Context, l store.Launch, replica string) (store.Launch, bool, error)
	Cancel(ctx context.Context, launch string) error
	Canceled(ctx context.Context, replica string) ([]string, error)
	Beat(ctx context.Context, replica string) error
	Leave(ctx context.Context, replica string) error
	Abandoned(ctx context.Context, silence time.Duration) ([]store.Launch, error)
	Touch(ctx context.Context, used map[string]time.Time) error
	Used(ctx context.Context) (map[string]time.Time, error)
	Changes(ctx context.Context, f func(store.Change)) error
	Watch(ctx context.Context, launches []string) error
	Watched(ctx context.Context, launch string, ago time.Duration) (bool, error)
	Unwatched(ctx context.Context, replica string, ago time.Duration) ([]string, error)
	Limits
	Builds
}

// Limits are what replicas count together; *store.Store has them.
type Limits interface {
	Admit(ctx context.Context, w store.Wish) (store.Admission, error)
	Rate(ctx context.Context, address string, rate float64, burst int) (left int, whole time.Duration, err error)
	Join(ctx context.Context, slot store.Slot, l store.SlotLimits) (store.Slot, error)
	LeaveSlot(ctx context.Context, q store.Queue, id, replica string, l store.SlotLimits) error
	LeaveSlots(ctx context.Context, q store.Queue, replica string, l store.SlotLimits) error
	FreeSlots(ctx context.Context, q store.Queue, silence time.Duration, l store.SlotLimits) error
	SettleSlots(ctx context.Context, running []store.Slot, l store.SlotLimits) error
	Places(ctx context.Context, q store.Queue, replica string) (map[string]int, error)
}

// errTaken is why a launch ends here that another replica goes on with.
var errTaken = errors.New("another replica has taken the launch over")

func (s *Service) shared() bool { return s.deps.Shared != nil }

func (s *Service) leads() bool { return s.deps.Leader == nil || s.deps.Leader.Leads() }

// mine notes in a new launch that this replica drives it.
func (s *Service) mine(rec *store.Launch) {
	if s.shared() {
		rec.Replica, rec.Epoch = s.deps.Replica, 1
	}
}

// handsOver says whether what ends goes on elsewhere, and keeps its place there.
func handsOver(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errStopping) || errors.Is(cause, errTaken)
}

// lose ends a launch here that another replica has; r.mu is held.
func (r *run) lose() {
	r.ended, r.lost = true, true
	if r.canceled == nil {
		r.canceled = errTaken
	}
	if r.cancel != nil {
		r.cancel(errTaken)
	}
	r.signal()
}

// taken is errTaken when that is what a write of this launch met; r.mu is held.
func (r *run) taken(err error) error {
	if _, ok := errors.AsType[*store.TakenError](err); !ok {
		return err
	}
	r.lose()
	return errTaken
}

// letGo forgets a launch that another replica has.
func (s *Service) letGo(ctx context.Context, r *run) {
	s.forget(r)
	r.mu.Lock()
	if !r.lost {
		r.lose()
	}
	slot := r.slot
	r.slot = nil
	if r.grace != nil {
		r.grace.Stop()
	}
	r.mu.Unlock()
	if q := s.places[store.QueueSessions]; q != nil {
		q.drop(slot)
	}
	s.log.WarnContext(ctx, "launch was taken over by another replica", "launch_id", r.id)
}

// news wakes who watches the launches of other replicas.
type news struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // by launch
}

// of returns what is closed at the next news of a launch.
func (n *news) of(launch string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting == nil {
		n.waiting = map[string]chan struct{}{}
	}
	c := n.waiting[launch]
	if c == nil {
		c = make(chan struct{})
		n.waiting[launch] = c
	}
	return c
}

// tell wakes those who wait for a launch, or for any when it is empty.
func (n *news) tell(launch string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if launch == "" {
		for _, c := range n.waiting {
			close(c)
		}
		clear(n.waiting)
		return
	}
	if c := n.waiting[launch]; c != nil {
		close(c)
		delete(n.waiting, launch)
	}
}

// listen hears of other replicas' launches until ctx ends. Should that not work
// watchers look by themselves every pollNews, and cancelling waits for the next
// heartbeat.
func (s *Service) listen(ctx context.Context) {
	err := s.deps.Shared.Changes(ctx, func(c store.Change) {
		switch {
		case c.Queue != "":
			s.places[c.Queue].tell()
			return
		case c.Launch == "":
			for _, q := range s.places {
				q.tell()
			}
		}
		if !c.Cancel {
			s.news.tell(c.Launch)
		}
		if c.Cancel || c.Launch == "" {
			select {
			case s.canceled <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		s.log.ErrorContext(ctx, "news of other replicas are not heard; looking every few seconds", "error", err)
	}
}

// pollNews is how long a watcher of another replica's launch waits for news
// before it looks.
const pollNews = 3 * time.Second

// hearing is since when a replica can have heard the others' hearts. While the database
// was away none could be heard, whatever this one was waiting for meanwhile.
type hearing struct {
	most        time.Duration // that may pass between two beats
	since, last time.Time
}

// beat notes that the own heart beat, or could not.
func (h *hearing) beat(written bool) {
	if !written {
		h.since = time.Now()
	}
	h.gap()
	h.last = time.Now()
}

func (h *hearing) gap() {
	if time.Since(h.last) > h.most {
		h.since = time.Now()
	}
}

// sure says whether who was not heard for so long is silent.
func (h *hearing) sure(long time.Duration) bool {
	h.gap()
	return time.Since(h.since) >= long
}

// beat shows the others that this replica is alive, ends what was canceled on
// another one, and as the leader takes over what dead ones left, until ctx ends.
func (s *Service) beat(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	hears := hearing{most: s.cfg.TakeOver / 2, since: time.Now(), last: time.Now()}
	stranded := false // a launch may be taken but not gone on with
	for {
		err := s.deps.Shared.Beat(ctx, s.deps.Replica)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "heartbeat not written", "error", err)
		}
		hears.beat(err == nil)
		if err := s.endCanceled(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "canceled launches not read", "error", err)
		}
		if err := s.endUnwatched(ctx, hears.sure); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "who watches launches not shared", "error", err)
		}
		if stranded {
			if err := s.goOn(ctx); err == nil {
				stranded = false
			}
		}
		if s.leads() && hears.sure(s.cfg.TakeOver) {
			if err := s.takeOver(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "launches of dead replicas not taken over", "error", err)
				stranded = true
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.canceled:
		}
	}
}

// leave tells the others that this replica ends, so that the leader goes on with
// its launches at once.
func (s *Service) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.deps.Shared.Leave(ctx, s.deps.Replica); err != nil {
		s.log.WarnContext(ctx, "leaving not written", "error", err)
	}
}

func (s *Service) endCanceled(ctx context.Context) error {
	ids, err := s.deps.Shared.Canceled(ctx, s.deps.Replica)
	for _, id := range ids {
		s.mu.Lock()
		r := s.runs[id]
		s.mu.Unlock()
		if r != nil {
			r.stop(canceledError())
		}
	}
	return err
}

func canceledError() error {
	return &binnacle.Error{Code: binnacle.CodeCanceled, Op: "launch.cancel", Message: "The launch was canceled."}
}

// takeOver goes on with the launches of replicas that are no more.
func (s *Service) takeOver(ctx context.Context) error {
	begin := time.Now()
	left, err := s.deps.Shared.Abandoned(ctx, s.cfg.TakeOver)
	if err != nil || time.Since(begin) > s.cfg.TakeOver/2 { // it waited for the database, as the hearts did
		return err
	}
	var errs []error
	for _, rec := range left {
		errs = append(errs, s.resume(ctx, rec, "The replica of the hub that worked on this went away; another one goes on with "+string(rec.Phase)+"."))
	}
	// Now that a replica which was only slow can write nothing any more.
	builds := s.places[store.QueueBuilds]
	errs = append(errs, s.deps.Shared.FreeSlots(ctx, store.QueueBuilds, s.cfg.TakeOver, builds.limits))
	return errors.Join(errs...)
}

// goOn goes on with launches that are this replica's but that nobody drives.
func (s *Service) goOn(ctx context.Context) error {
	open, err := s.deps.Store.Unfinished(ctx)
	errs := []error{err}
	for _, rec := range s.ownOnly(open) {
		errs = append(errs, s.resume(ctx, rec, "The hub goes on with "+string(rec.Phase)+"."))
	}
	return errors.Join(errs...)
}

// meet gets to know a session that another replica started. One whose launch is
// not over is left to who starts it.
func (s *Service) meet(ctx context.Context, st session.Status) error {
	s.mu.Lock()
	known := s.live[st.ID] != nil || s.expects(st.ID)
	s.mu.Unlock()
	if known || !s.shared() {
		return nil
	}
	rec, err := s.deps.Store.Launch(ctx, st.Labels[labelLaunch])
	if err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return err
	}
	if err == nil && !rec.Phase.Final() {
		return nil
	}
	return s.found(ctx, st)
}

// compare tells the others when sessions were used through this replica, and
// learns when they were through others.
func (s *Service) compare(ctx context.Context, all []session.Status) error {
	mine := map[string]time.Time{}
	s.mu.Lock()
	for _, st := range all {
		l := s.live[st.ID]
		if l == nil {
			continue
		}
		if used := s.deps.Activity.LastActivity(st.ID); used.After(l.told) {
			mine[st.ID] = used
			l.told = used
		}
	}
	s.mu.Unlock()
	if err := s.deps.Shared.Touch(ctx, mine); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range mine {
			if l := s.live[id]; l != nil {
				l.told = time.Time{}
			}
		}
		return err
	}
	// Why others ended sessions is asked on any replica.
	const recent = 100
	ended, err := s.deps.Store.EndedSessions(ctx, recent)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(ended) {
		s.gone.add(e.ID, e.Reason)
	}
	used, err := s.deps.Shared.Used(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range used {
		if l := s.live[id]; l != nil {
			l.active = later(l.active, t)
		}
	}
	return err
}

// elsewhere lets go of a session that another replica has ended; it returns
// false when none has.
func (s *Service) elsewhere(ctx context.Context, id string) bool {
	rec, err := s.deps.Store.Session(ctx, id)
	if err != nil || rec.Ended.IsZero() {
		return false
	}
	s.gone.add(id, rec.Reason)
	s.deps.Activity.Forget(id)
	s.mu.Lock()
	l := s.live[id]
	delete(s.live, id)
	s.mu.Unlock()
	if l != nil {
		s.sessions.leave(ctx, l.slot)
	}
	return true
}

// sweepLost notes, once a replica leads, the sessions that ended while none did.
func (s *Service) sweepLost(ctx context.Context) error {
	running, err := s.deps.Store.RunningSessions(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, rec := range running {
		// One that started after any list was made is asked for by name.
		if _, err := s.deps.Spawner.Get(ctx, rec.ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			there[rec.ID] = true
		}
	}
	return s.lost(ctx, there)
}

// ownOnly drops the launches that other replicas drive.
func (s *Service) ownOnly(open []store.Launch) []store.Launch {
	if !s.shared() {
		return open
	}
	return slices.DeleteFunc(slices.Clone(open), func(rec store.Launch) bool { return rec.Replica != s.deps.Replica })
}

// missing are the sessions this replica knows of that are not there.
func (s *Service) missing(there map[string]bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []string
	for id := range maps.Keys(s.live) {
		if !there[id] {
			lost = append(lost, id)
		}
	}
	return lost
}
