package launch_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

// TestWithTheFakeSpawner launches on the spawner that keeps the contract's
// conformance suite.
func TestWithTheFakeSpawner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		fake := sessiontest.NewFake("img/c0ffee-main")
		defer fake.StopAll(t.Context())
		fake.DelayAnswers(3 * time.Second)
		b.other = fake
		svc, stop := b.serve()
		defer stop()
		id := started(t, svc, ann, "main")
		fake.SetBusy(id, true)
		<-time.After(2 * time.Hour)
		if len(readyIDs(t, svc, ann)) != 1 {
			t.Fatal("a session whose kernel works was stopped")
		}
		fake.Exit(id, "It used more than 2 GiB of memory and was stopped.")
		<-time.After(time.Minute)
		if reason, ok := svc.Gone(id); !ok || !strings.Contains(reason, "2 GiB") {
			t.Error(reason, ok)
		}
		e := end(t, svc, begin(t, svc, ann, ask("other")))
		if e.Phase != binnacle.PhaseFailed || e.Error.Code != binnacle.CodeUnavailable {
			t.Errorf("an image that is not there: %+v", e)
		}
	})
}

// full is a cluster without room: it says so, and gives up when it is told to.
type full struct{ session.Spawner }

func (full) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	spec.Waiting("The cluster has no room for the session.")
	<-ctx.Done()
	return session.Status{}, &binnacle.Error{Code: binnacle.CodeTimeout, Op: "session.start", Message: "There was no room.", Err: ctx.Err()}
}

// TestNoRoom wants people told what their launch waits for, while it waits and in
// the end.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.other = full{b.spw}
		svc, stop := b.serve()
		defer stop()
		id := begin(t, svc, ann, ask("main"))
		begun := time.Now()
		events := follow(t, svc, id, 0)
		told := slices.IndexFunc(events, func(e binnacle.Event) bool {
			return e.Message == "The cluster has no room for the session." && e.Phase == binnacle.PhaseLaunching && e.Time.Sub(begun) < time.Minute
		})
		last := events[len(events)-1]
		if told < 0 || last.Error == nil || last.Error.Message != "There was no room." || time.Since(begun) < time.Minute {
			t.Errorf("%+v", events)
		}
	})
}
