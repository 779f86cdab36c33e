package launch_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle"
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
