package hub

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// maxTracked is how many launches may wait to be counted before we look for
// those that have ended ourselves, on a hub whose metrics nobody reads.
const maxTracked = 1000

// watchers knows the launches that were asked for through this hub until they
// are counted, and cancels those that nobody waits for any more. It does not
// follow their events: that would make it a watcher itself, for whose sake the
// service keeps a launch going.
type watchers struct {
	ctx context.Context // ends with Hub.Close
	hub *Hub

	mu       sync.Mutex
	closed   bool
	launches map[string]*watched
}

// watched is one launch that has not been counted.
type watched struct {
	caller      Caller
	count       int
	abandonable bool
	grace       *time.Timer // runs while nobody watches an abandonable launch
}

func newWatchers(ctx context.Context, h *Hub) *watchers {
	return &watchers{ctx: ctx, hub: h, launches: map[string]*watched{}}
}

// close stops the timers; no callback begins after it.
func (ws *watchers) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.closed = true
	for _, w := range ws.launches {
		if w.grace != nil {
			w.grace.Stop()
		}
	}
}

// observe remembers a launch to be counted, once however often it is asked for.
// An abandonable one, begun by /build whose stream is the only place that tells
// the token, is worth nothing once nobody watches.
func (ws *watchers) observe(c Caller, id string, abandonable bool) {
	ws.mu.Lock()
	if _, ok := ws.launches[id]; !ok {
		ws.launches[id] = &watched{caller: c, abandonable: abandonable && ws.hub.cfg.AbandonAfter > 0}
	}
	crowded := len(ws.launches) > maxTracked
	ws.mu.Unlock()
	if crowded {
		ws.settle(ws.ctx)
	}
}

// join counts a watcher in; the result counts it out.
func (ws *watchers) join(id string) (leave func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, ok := ws.launches[id]
	if !ok {
		return func() {}
	}
	w.count++
	if w.grace != nil {
		w.grace.Stop()
	}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if w.count--; w.count == 0 && w.abandonable && !ws.closed {
			w.grace = time.AfterFunc(ws.hub.cfg.AbandonAfter, func() { ws.abandon(id) })
		}
	}
}

// abandon cancels a launch unless it has ended or somebody came back, perhaps to
// another replica: then it looks again later.
func (ws *watchers) abandon(id string) {
	ws.mu.Lock()
	w, ok := ws.launches[id]
	if !ok || w.count > 0 || ws.closed {
		ws.mu.Unlock()
		return
	}
	ws.hub.tasks.Add(1)
	ws.mu.Unlock()
	defer ws.hub.tasks.Done()
	ctx, stop := context.WithTimeout(ws.ctx, 30*time.Second)
	defer stop()
	l, err := ws.hub.deps.Service.Get(ctx, w.caller, id)
	if err != nil || l.Phase.Final() {
		return
	}
	if watched, err := ws.hub.deps.Service.Watched(ctx, w.caller, id); watched || err != nil {
		ws.again(id)
		return
	}
	ws.hub.log.InfoContext(ctx, "launch abandoned", "launch_id", id)
	if err := ws.hub.deps.Service.Cancel(ctx, w.caller, id); err != nil {
		ws.hub.log.WarnContext(ctx, "cannot cancel an abandoned launch", "launch_id", id, "error", err)
	}
}

// again begins the grace anew.
func (ws *watchers) again(id string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w, ok := ws.launches[id]; ok && w.count == 0 && !ws.closed {
		w.grace = time.AfterFunc(ws.hub.cfg.AbandonAfter, func() { ws.abandon(id) })
	}
}

// settle counts the launches that have ended since it was last called; it runs
// when the metrics are read.
func (ws *watchers) settle(ctx context.Context) {
	ws.mu.Lock()
	open := maps.Clone(ws.launches)
	ws.mu.Unlock()
	launching, building := 0, 0
	for id, w := range open {
		l, err := ws.hub.deps.Service.Get(ctx, w.caller, id)
		switch {
		case binnacle.CodeOf(err) == binnacle.CodeNotFound:
			ws.take(id)
		case err != nil: // next time
		case l.Phase.Final():
			if ws.take(id) {
				ws.hub.metrics.ended(l)
			}
		case l.Phase == binnacle.PhaseBuilding:
			building++
			launching++
		default:
			launching++
		}
	}
	ws.hub.metrics.running(launching, building)
}

// take removes a launch; false when another was faster.
func (ws *watchers) take(id string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, ok := ws.launches[id]
	if !ok {
		return false
	}
	if w.grace != nil {
		w.grace.Stop()
	}
	delete(ws.launches, id)
	return true
}
