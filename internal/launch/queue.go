package launch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// queue hands out slots in turns: a person's tickets stand in consecutive
// rounds, and within a round who came first is first. One person with fifty
// launches does not keep the next person waiting for all of them. Newcomers
// begin in the round that is being served, so nobody waits forever either.
type queue struct {
	total, perOwner, perRepo int // 0: no limit

	mu      sync.Mutex
	seq     int64
	round   int64            // of the ticket granted last
	last    map[string]int64 // round of each owner's last ticket
	waiting []*ticket        // by round, then seq
	held    map[*ticket]struct{}
	owners  map[string]int // held
	repos   map[string]int // held
}

// ticket is a place in the queue, then a slot.
type ticket struct {
	asker

	round, seq int64
	position   int           // from 1; 0 once granted
	moved      chan struct{} // has room for one; position changed
	granted    chan struct{} // closed

	launch string // whose it is, in the database
}

func newTicket(who asker) *ticket {
	return &ticket{asker: who, moved: make(chan struct{}, 1), granted: make(chan struct{})}
}

func newQueue(total, perOwner, perRepo int) *queue {
	return &queue{
		total: total, perOwner: perOwner, perRepo: perRepo,
		held: map[*ticket]struct{}{}, owners: map[string]int{}, repos: map[string]int{}, last: map[string]int64{},
	}
}

func (q *queue) join(_ context.Context, _ string, who asker, force bool) (*ticket, error) {
	t := newTicket(who)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	t.seq = q.seq
	if force {
		q.grant(t)
	} else {
		q.stand(t)
	}
	q.dispatch()
	return t, nil
}

func (q *queue) running(_ string, who asker) *ticket {
	t := newTicket(who)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grant(t)
	return t
}

// stand puts t at its place among those who wait.
func (q *queue) stand(t *ticket) {
	t.round = q.round
	if last, ok := q.last[t.owner]; ok {
		t.round = max(t.round, last+1)
	}
	maps.DeleteFunc(q.last, func(_ string, round int64) bool { return round < q.round })
	q.last[t.owner] = t.round
	at, _ := slices.BinarySearchFunc(q.waiting, t, func(a, b *ticket) int {
		return cmp.Or(cmp.Compare(a.round, b.round), cmp.Compare(a.seq, b.seq))
	})
	q.waiting = slices.Insert(q.waiting, at, t)
}

func (q *queue) leave(_ context.Context, t *ticket) {
	if t == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.held[t]; ok {
		delete(q.held, t)
		release(q.owners, t.owner)
		release(q.repos, t.repo)
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o *ticket) bool { return o == t })
	q.dispatch()
}

func (q *queue) sizes() (waiting, held int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), len(q.held)
}

func (q *queue) grant(t *ticket) {
	q.held[t] = struct{}{}
	q.round = max(q.round, t.round)
	q.owners[t.owner]++
	q.repos[t.repo]++
	t.position = 0
	close(t.granted)
}

// dispatch grants what fits and tells the others where they stand.
func (q *queue) dispatch() {
	for _, t := range q.waiting {
		if q.total > 0 && len(q.held) >= q.total {
			break
		}
		if q.perOwner > 0 && !t.exempt && q.owners[t.owner] >= q.perOwner || q.perRepo > 0 && q.repos[t.repo] >= q.perRepo {
			continue
		}
		q.grant(t)
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(t *ticket) bool { _, ok := q.held[t]; return ok })
	for i, t := range q.waiting {
		if t.position == i+1 {
			continue
		}
		t.position = i + 1
		select {
		case t.moved <- struct{}{}:
		default:
		}
	}
}

func (q *queue) positionOf(t *ticket) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.position
}

func (q *queue) wait(ctx context.Context, t *ticket, tell func(position int)) error {
	err := wait(ctx, t, q.positionOf, tell)
	if err != nil {
		q.leave(ctx, t)
	}
	return err
}

// wait returns once t has its slot, or with ctx's cause. It tells positions as
// they change, the far ones less often: a long queue that moves fast would
// otherwise do nothing but tell.
func wait(ctx context.Context, t *ticket, positionOf func(*ticket) int, tell func(position int)) error {
	told := 0
	for {
		select {
		case <-t.granted:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.moved:
		}
		p := positionOf(t)
		if p == 0 || p == told {
			continue
		}
		told = p
		tell(p)
		pause := time.NewTimer(time.Second + time.Duration(p)*20*time.Millisecond)
		select {
		case <-t.granted:
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func release(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}
