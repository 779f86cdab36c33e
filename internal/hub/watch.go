package hub

import (
	"context"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// watchers follows each launch that was asked for through this hub to its end:
// for the metrics, and to cancel what nobody waits for any more.
type watchers struct {
	ctx context.Context // ends with Hub.Close
	hub *Hub

	mu       sync.Mutex
	launches map[string]*watched
}

// watched is one launch that has not ended.
type watched struct {
	caller    Caller
	count     int
	abandoned *time.Timer // runs while nobody watches; nil when it may not be canceled
}

func newWatchers(ctx context.Context, h *Hub) *watchers {
	return &watchers{ctx: ctx, hub: h, launches: map[string]*watched{}}
}

// observe follows a launch to its end, once however often it is asked.
func (ws *watchers) observe(c Caller, id string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if _, ok := ws.launches[id]; ok || ws.ctx.Err() != nil {
		return
	}
	ws.launches[id] = &watched{caller: c}
	ws.hub.metrics.started()
	ws.hub.tasks.Go(func() {
		found, building := true, false
		// An error means the launch is gone or the hub is closing: the metrics
		// miss it, and that is all.
		_ = ws.hub.deps.Service.Events(ws.ctx, c, id, 0, func(e binnacle.Event) error {
			if now := e.Phase == binnacle.PhaseBuilding; now != building {
				found, building = false, now
				ws.hub.metrics.setBuilding(now)
			}
			return nil
		})
		if building {
			ws.hub.metrics.setBuilding(false)
		}
		if l, err := ws.hub.deps.Service.Get(ws.ctx, c, id); err == nil {
			ws.hub.metrics.ended(l, found)
		} else {
			ws.hub.metrics.forget()
		}
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if w := ws.launches[id]; w.abandoned != nil {
			w.abandoned.Stop()
		}
		delete(ws.launches, id)
	})
}

// abandonable says that the launch is worth nothing without somebody watching:
// one begun by /build, whose stream is the only place that tells the token.
func (ws *watchers) abandonable(id string) {
	after := ws.hub.cfg.AbandonAfter
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, ok := ws.launches[id]
	if !ok || w.abandoned != nil || after < 0 {
		return
	}
	w.abandoned = time.AfterFunc(after, func() { ws.cancel(id) })
	if w.count > 0 {
		w.abandoned.Stop()
	}
}

// join counts a watcher in; the result counts it out.
func (ws *watchers) join(_ Caller, id string) (leave func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, ok := ws.launches[id]
	if !ok {
		return func() {}
	}
	w.count++
	if w.abandoned != nil {
		w.abandoned.Stop()
	}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		w.count--
		if w.count == 0 && w.abandoned != nil && ws.launches[id] == w {
			w.abandoned.Reset(ws.hub.cfg.AbandonAfter)
		}
	}
}

func (ws *watchers) cancel(id string) {
	ws.mu.Lock()
	w, ok := ws.launches[id]
	abandoned := ok && w.count == 0 && ws.ctx.Err() == nil
	ws.mu.Unlock()
	if !abandoned {
		return
	}
	ctx, stop := context.WithTimeout(ws.ctx, 30*time.Second)
	defer stop()
	ws.hub.log.InfoContext(ctx, "launch abandoned", "launch_id", id)
	if err := ws.hub.deps.Service.Cancel(ctx, w.caller, id); err != nil {
		ws.hub.log.WarnContext(ctx, "cannot cancel an abandoned launch", "launch_id", id, "error", err)
	}
}
