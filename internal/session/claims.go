package session

import (
	"context"
	"fmt"
	"sync"
)

// Claims keep a runtime from starting and stopping the same session at once. The
// zero value is ready; safe for concurrent use.
type Claims struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // ids being started or stopped
}

// Claim takes an id for a start. Two starts of one id are a conflict.
func (c *Claims) Claim(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[id] != nil {
		return Taken(id)
	}
	c.take(id)
	return nil
}

func (c *Claims) take(id string) {
	if c.busy == nil {
		c.busy = map[string]chan struct{}{}
	}
	c.busy[id] = make(chan struct{})
}

// Await takes an id for a stop; it waits for a start or another stop.
func (c *Claims) Await(ctx context.Context, id string) error {
	for {
		c.mu.Lock()
		done := c.busy[id]
		if done == nil {
			c.take(id)
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("wait for the session: %w", ctx.Err())
		}
	}
}

// Release gives an id back.
func (c *Claims) Release(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.busy[id])
	delete(c.busy, id)
}

// Claimed says whether an id is being started or stopped.
func (c *Claims) Claimed(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy[id] != nil
}
