package launch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle/internal/store"
)

// line is where launches wait for a slot: in this process's memory, or in the
// database that replicas share.
type line interface {
	// join asks for a slot for a launch. With force it gets one whatever the limits
	// say: what already runs has to be counted.
	join(ctx context.Context, launch string, who asker, force bool) (*ticket, error)
	// running is the slot of a session that was found, which its launch got once.
	running(launch string, who asker) *ticket
	// wait returns once t has its slot, or with ctx's cause, t having left.
	wait(ctx context.Context, t *ticket, tell func(position int)) error
	// leave gives a slot or a place back. It may be called twice, and with nil.
	leave(ctx context.Context, t *ticket)
	// sizes returns how many of this process's wait and how many hold a slot.
	sizes() (waiting, held int)
}

// asker is what limits count by; exempt: not by the owner.
type asker struct {
	owner, repo string
	exempt      bool
}

// sharedLine is a queue in the database: a slot is one of the hub's, whichever
// replica drives the launch. Who waits here hears of it when places change, and
// looks every pollNews.
type sharedLine struct {
	db      Shared
	log     *slog.Logger
	queue   store.Queue
	replica string
	limits  store.SlotLimits
	news    chan struct{} // full: places may have changed

	mu      sync.Mutex
	waiting map[*ticket]struct{}
	held    map[*ticket]struct{}
	owed    map[*ticket]struct{} // left while the database was away
}

func newSharedLine(deps Deps, queue store.Queue, limits store.SlotLimits) *sharedLine {
	return &sharedLine{
		db: deps.Shared, log: deps.Log, queue: queue, replica: deps.Replica, limits: limits,
		news: make(chan struct{}, 1), waiting: map[*ticket]struct{}{}, held: map[*ticket]struct{}{}, owed: map[*ticket]struct{}{},
	}
}

func (q *sharedLine) slot(launch string, who asker, force bool) store.Slot {
	return store.Slot{Queue: q.queue, ID: launch, Owner: who.owner, Repo: who.repo, Exempt: who.exempt, Replica: q.replica, Granted: force}
}

func (q *sharedLine) join(ctx context.Context, launch string, who asker, force bool) (*ticket, error) {
	got, err := q.db.Join(ctx, q.slot(launch, who, force), q.limits)
	if err != nil {
		return nil, err
	}
	return q.joined(got), nil
}

// joined is the ticket of a slot that was asked for.
func (q *sharedLine) joined(got store.Slot) *ticket {
	t := newTicket(asker{got.Owner, got.Repo, got.Exempt})
	t.launch, t.position = got.ID, got.Position
	q.mu.Lock()
	defer q.mu.Unlock()
	if got.Granted {
		q.grant(t)
		return t
	}
	q.waiting[t] = struct{}{}
	t.moved <- struct{}{}
	return t
}

func (q *sharedLine) running(launch string, who asker) *ticket {
	t := newTicket(who)
	t.launch = launch
	return t
}

// grant is with q.mu held.
func (q *sharedLine) grant(t *ticket) {
	delete(q.waiting, t)
	q.held[t] = struct{}{}
	t.position = 0
	close(t.granted)
}

func (q *sharedLine) wait(ctx context.Context, t *ticket, tell func(position int)) error {
	err := wait(ctx, t, q.positionOf, tell)
	if err != nil && !handsOver(ctx) {
		q.leave(ctx, t)
	}
	return err
}

func (q *sharedLine) positionOf(t *ticket) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.position
}

func (q *sharedLine) leave(ctx context.Context, t *ticket) {
	if t == nil {
		return
	}
	q.drop(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := q.giveBack(ctx, t); err != nil {
		q.log.WarnContext(ctx, "slot not given back, trying again later", "launch_id", t.launch, "error", err)
		q.mu.Lock()
		q.owed[t] = struct{}{}
		q.mu.Unlock()
	}
}

// drop forgets a ticket whose launch goes on elsewhere, and with it its slot.
func (q *sharedLine) drop(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, t)
	delete(q.held, t)
}

func (q *sharedLine) giveBack(ctx context.Context, t *ticket) error {
	replica := q.replica
	if q.queue == store.QueueSessions {
		replica = "" // any may end a session
	}
	return q.db.LeaveSlot(ctx, q.queue, t.launch, replica, q.limits)
}

func (q *sharedLine) sizes() (waiting, held int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), len(q.held)
}

// tell says that places may have changed.
func (q *sharedLine) tell() {
	select {
	case q.news <- struct{}{}:
	default:
	}
}

// follow keeps tickets as the database has them until ctx ends.
func (q *sharedLine) follow(ctx context.Context) {
	tick := time.NewTicker(pollNews)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.news:
		case <-tick.C:
			q.payBack(ctx)
		}
		if err := q.refresh(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "places in the queue not read", "error", err)
		}
	}
}

func (q *sharedLine) payBack(ctx context.Context) {
	q.mu.Lock()
	owed := make([]*ticket, 0, len(q.owed))
	for t := range q.owed {
		owed = append(owed, t)
	}
	q.mu.Unlock()
	for _, t := range owed {
		if q.giveBack(ctx, t) != nil {
			return // the next round
		}
		q.mu.Lock()
		delete(q.owed, t)
		q.mu.Unlock()
	}
}

// refresh learns who got a slot: whoever waits no more. (Or another replica has
// taken the launch: its next write finds that out.)
func (q *sharedLine) refresh(ctx context.Context) error {
	q.mu.Lock()
	asked := make([]*ticket, 0, len(q.waiting)) // later ones may be missing in the answer
	for t := range q.waiting {
		asked = append(asked, t)
	}
	q.mu.Unlock()
	if len(asked) == 0 {
		return nil
	}
	places, err := q.db.Places(ctx, q.queue, q.replica)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range asked {
		if _, ok := q.waiting[t]; !ok {
			continue
		}
		at, ok := places[t.launch]
		if !ok {
			q.grant(t)
			continue
		}
		if t.position == at {
			continue
		}
		t.position = at
		select {
		case t.moved <- struct{}{}:
		default:
		}
	}
	return nil
}
