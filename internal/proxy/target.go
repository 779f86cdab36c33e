package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// target is what the proxy holds for one session: its connections and its
// activity clock.
type target struct {
	last atomic.Int64 // when a person was last active, in Unix nanoseconds; 0 never

	idleTimeout time.Duration
	maxIdle     int

	mu     sync.Mutex
	closed bool
	idle   []*conn // the last one was used last
	open   map[io.Closer]struct{}
	sweep  *time.Timer // set while idle holds something
}

func newTarget(cfg Config) *target {
	return &target{
		idleTimeout: cfg.IdleTimeout,
		maxIdle:     cfg.MaxIdle,
		open:        map[io.Closer]struct{}{},
	}
}

func (t *target) touch() { t.last.Store(time.Now().UnixNano()) }

// adopt makes a fresh connection the target's, which then closes it with
// itself. false when the target is closed.
func (t *target) adopt(nc net.Conn) (*conn, bool) {
	c := newConn(nc)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false
	}
	t.open[c] = struct{}{}
	return c, true
}

// exchange hands the place of old to a closer that owns it from now on.
func (t *target) exchange(old, owner io.Closer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, old)
	if t.closed {
		return false
	}
	t.open[owner] = struct{}{}
	return true
}

// drop forgets a closer.
func (t *target) drop(c io.Closer) {
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
}

// discard closes a connection that is not idle.
func (t *target) discard(c *conn) {
	t.drop(c)
	_ = c.Close()
}

// take gives the connection used last, nil when there is none.
func (t *target) take() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.idle)
	if n == 0 {
		return nil
	}
	c := t.idle[n-1]
	t.idle[n-1] = nil
	t.idle = t.idle[:n-1]
	return c
}

// put gives back a connection on which nothing is under way.
func (t *target) put(c *conn) {
	t.mu.Lock()
	if t.closed || len(t.idle) >= t.maxIdle {
		delete(t.open, c)
		t.mu.Unlock()
		_ = c.Close()
		return
	}
	c.idleSince = time.Now()
	t.idle = append(t.idle, c)
	if t.sweep == nil {
		t.sweep = time.AfterFunc(t.idleTimeout, t.expire)
	}
	t.mu.Unlock()
}

// expire closes what was idle too long and comes back while something is idle.
func (t *target) expire() {
	t.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(t.idle) && now.Sub(t.idle[n].idleSince) >= t.idleTimeout {
		n++
	}
	old := append([]*conn(nil), t.idle[:n]...)
	t.idle = append([]*conn(nil), t.idle[n:]...)
	for _, c := range old {
		delete(t.open, c)
	}
	t.sweep = nil
	if len(t.idle) > 0 && !t.closed {
		t.sweep = time.AfterFunc(t.idleTimeout-now.Sub(t.idle[0].idleSince), t.expire)
	}
	t.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

// close closes all connections at once.
func (t *target) close() {
	t.mu.Lock()
	open := t.open
	t.open, t.idle, t.closed = nil, nil, true
	if t.sweep != nil {
		t.sweep.Stop()
	}
	t.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}
