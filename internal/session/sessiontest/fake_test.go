package sessiontest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestFake(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) (session.Spawner, sessiontest.Fixture) {
		t.Helper()
		f := sessiontest.NewFake("example/image:1")
		t.Cleanup(func() { f.StopAll(t.Context()) })
		return f, sessiontest.Fixture{
			Image:   "example/image:1",
			Reopen:  func(*testing.T) session.Spawner { return f },
			Residue: func(*testing.T) []string { return nil },
		}
	})
}

func TestFakeInSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sessiontest.NewFake("example/image:1")
		f.DelayAnswers(time.Hour)
		spec := sessiontest.NewSpec("a-1", "example/image:1")
		if _, err := f.Start(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		f.SetBusy(spec.ID, true)
		body, err := sessiontest.Fetch(t.Context(), f, spec, "api/kernels")
		if err != nil {
			t.Fatal(err)
		}
		if want := `"busy"`; time.Since(began) < time.Hour || !strings.Contains(body, want) {
			t.Errorf("answered after %s: %s", time.Since(began), body)
		}
		f.StopAll(t.Context())
	})
}
