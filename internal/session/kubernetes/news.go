package kubernetes

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// news tells those who wait for a session that something about it changed. The
// zero value is ready.
type news struct {
	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{}
}

// of returns a channel that gets a value after each change; several may become
// one. The caller calls stop.
func (n *news) of(id string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting == nil {
		n.waiting = map[string]map[chan struct{}]struct{}{}
	}
	if n.waiting[id] == nil {
		n.waiting[id] = map[chan struct{}]struct{}{}
	}
	n.waiting[id][c] = struct{}{}
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if delete(n.waiting[id], c); len(n.waiting[id]) == 0 {
			delete(n.waiting, id)
		}
	}
}

func (n *news) tell(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.waiting[id] {
		select {
		case c <- struct{}{}:
		default: // it has one already
		}
	}
}

// turns let one caller at a time look whether a session's server listens yet:
// a page asks for a hundred files at once. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	byID map[string]*turn
}

type turn struct {
	slot  chan struct{}
	users int
}

// of is taken by a send; the caller calls done in the end.
func (t *turns) of(id string) (slot chan struct{}, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[string]*turn{}
	}
	one := t.byID[id]
	if one == nil {
		one = &turn{slot: make(chan struct{}, 1)}
		t.byID[id] = one
	}
	one.users++
	return one.slot, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(t.byID, id)
		}
	}
}

// remembered is how long we know why a session is gone that the cluster has
// forgotten.
const remembered = 10 * time.Minute

// graves keep the last status of sessions that somebody else removed. The zero
// value is ready.
type graves struct {
	mu   sync.Mutex
	byID map[string]grave
}

type grave struct {
	status session.Status
	since  time.Time
}

func (g *graves) add(st session.Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byID == nil {
		g.byID = map[string]grave{}
	}
	maps.DeleteFunc(g.byID, func(_ string, old grave) bool { return time.Since(old.since) > remembered })
	g.byID[st.ID] = grave{st, time.Now()}
}

func (g *graves) find(id string) (session.Status, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one, ok := g.byID[id]
	return one.status, ok && time.Since(one.since) <= remembered
}

func (g *graves) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byID, id)
}

func (g *graves) all() []session.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []session.Status
	for _, id := range slices.Sorted(maps.Keys(g.byID)) {
		if one := g.byID[id]; time.Since(one.since) <= remembered {
			list = append(list, one.status)
		}
	}
	return list
}
