package launch_test

import (
	"context"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// watched calls ended as soon as a launch's end can be read, before the service
// knows that it was written.
type watched struct {
	*store.Store
	ended func()
}

func (w *watched) Append(ctx context.Context, to []store.Cursor, events []binnacle.Event, save ...store.Launch) (store.Batch, error) {
	b, err := w.Store.Append(ctx, to, events, save...)
	if err == nil && len(save) > 0 && save[0].Phase.Final() {
		w.ended()
	}
	return b, err
}

func TestWhoSawTheEndGetsANewLaunch(t *testing.T) {
	b := newBench(t)
	defer b.close()
	w := &watched{Store: b.st, ended: func() {}}
	b.store = w
	svc, stop := b.serve()
	defer stop()
	again := make(chan string, 1)
	saw := false
	w.ended = func() {
		if saw {
			return
		}
		saw = true
		done := make(chan struct{})
		go func() {
			defer close(done)
			l, err := svc.Launch(context.Background(), ann, ask("main"))
			if err != nil {
				t.Error(err)
			}
			again <- l.ID
		}()
		select {
		case <-done:
		case <-time.After(2 * time.Second): // it joined, and waits for the lock of the one that ends
		}
	}
	first := begin(t, svc, ann, ask("main"))
	end(t, svc, first)
	second := <-again
	if second == first {
		t.Error("a launch that has ended was joined")
	}
	end(t, svc, second)
}
