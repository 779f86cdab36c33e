package launch

import (
	"context"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// refs asks repositories what a ref stands for. Who asks the same at the same
// time gets the same answer; beyond that it is believed for keep.
type refs struct {
	keep time.Duration
	busy chan struct{} // bounds how many are asked at once

	mu    sync.Mutex
	calls map[refKey]*refCall
}

type refKey struct {
	target source.Target
	policy source.Policy
}

type refCall struct {
	done chan struct{} // closed once the rest is set
	rev  binnacle.Revision
	file string
	err  error
	at   time.Time
}

func (f *refs) resolve(ctx context.Context, src Source, t source.Target, p source.Policy) (binnacle.Revision, string, error) {
	key := refKey{t, p}
	for {
		f.mu.Lock()
		c := f.calls[key]
		if c == nil || !c.at.IsZero() && time.Since(c.at) >= f.keep {
			c = &refCall{done: make(chan struct{})}
			f.calls[key] = c
			f.mu.Unlock()
			f.ask(ctx, src, key, c)
			return c.rev, c.file, c.err
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return binnacle.Revision{}, "", context.Cause(ctx)
		case <-c.done:
		}
		if binnacle.CodeOf(c.err) != binnacle.CodeCanceled {
			return c.rev, c.file, c.err
		}
		// Who asked went away; somebody else has to.
	}
}

func (f *refs) ask(ctx context.Context, src Source, key refKey, c *refCall) {
	select {
	case f.busy <- struct{}{}:
		c.rev, c.file, c.err = src.ResolveTarget(ctx, key.target, key.policy)
		<-f.busy
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		c.err = context.Canceled
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.err != nil || f.keep == 0 {
		delete(f.calls, key)
	} else {
		c.at = time.Now()
	}
	for k, o := range f.calls {
		if !o.at.IsZero() && time.Since(o.at) >= f.keep {
			delete(f.calls, k)
		}
	}
	close(c.done)
}
