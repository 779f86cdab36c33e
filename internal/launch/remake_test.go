package launch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// cleaned is a runtime that starts from the builder's images, of which somebody removes
// those of the next starts after they were found.
type cleaned struct {
	*spawner

	from *builder
	next int // starts whose image is removed
}

func (c *cleaned) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	c.from.mu.Lock()
	if c.next > 0 {
		c.next--
		delete(c.from.images, spec.Image)
	}
	there := c.from.images[spec.Image]
	c.from.mu.Unlock()
	if !there {
		return session.Status{}, binnacle.Errorf(binnacle.CodeNotFound, "The image %s is not there.", spec.Image)
	}
	return c.spawner.Start(ctx, spec)
}

// TestRemovedImage wants a session from an image that was removed after the launch had
// found it: it is built again, once, and the person is told.
func TestRemovedImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		runtime := &cleaned{spawner: b.spw, from: b.bld}
		b.other = runtime
		svc, stop := b.serve()
		defer stop()
		first := started(t, svc, ann, "main")
		runtime.next = 1
		want := `phase waiting
phase resolving
log resolving Found built image img/c0ffee-main.
phase launching
log launching The image img/c0ffee-main was removed before its session could start. It is built again, so this launch takes longer; steps that are in the cache are not repeated.
phase fetching
log fetching Fetching c0ffee-main
phase building
log building building img/c0ffee-main
step building pip
phase launching
end ready
`
		id := begin(t, svc, ann, ask("main"))
		if diff := cmp.Diff(want, brief(follow(t, svc, id, 0))); diff != "" {
			t.Error(diff)
		}
		l, err := svc.Get(t.Context(), ann, id)
		if err != nil || l.Session == nil || l.Session.ID == first || l.Image != "img/c0ffee-main" || b.bld.count() != 2 || b.spw.count() != 2 {
			t.Errorf("%+v %v, %d builds, %d sessions", l, err, b.bld.count(), b.spw.count())
		}
		// Whatever removes it does so again: the launch ends, and says what is wrong.
		runtime.next = 1000
		e := end(t, svc, begin(t, svc, ann, ask("main")))
		if e.Phase != binnacle.PhaseFailed || e.Error.Code != binnacle.CodeUnavailable || !strings.Contains(e.Error.Message, "built again") || b.bld.count() != 3 {
			t.Errorf("%+v, %d builds", e.Error, b.bld.count())
		}
		synctest.Wait()
		if st := svc.Stats(); st.Launches != 0 || st.Building != 0 || st.Sessions != 2 || b.spw.count() != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestRemovedImageAndRestart: a hub that is killed while it builds a removed image again
// goes on with that.
func TestRemovedImageAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		runtime := &cleaned{spawner: b.spw, from: b.bld, next: 1}
		b.other = runtime
		b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
			if b.bld.count() != 2 {
				return nil
			}
			<-ctx.Done() // the hub's end
			return ctx.Err()
		}
		svc, stop := b.serve()
		id := begin(t, svc, ann, ask("main"))
		<-time.After(time.Second)
		stop()
		svc, stop = b.serve()
		defer stop()
		synctest.Wait()
		text := brief(follow(t, svc, id, 0))
		if !strings.HasSuffix(text, "end ready\n") || strings.Count(text, "was removed before") != 1 || b.bld.count() != 3 || b.spw.count() != 1 {
			t.Errorf("%d builds, %d sessions\n%s", b.bld.count(), b.spw.count(), text)
		}
	})
}
