package containerd_test

import (
	"testing"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestConformance(t *testing.T) {
	m := theMachine(t)
	sessiontest.Run(t, func(t *testing.T) (session.Spawner, sessiontest.Fixture) {
		t.Helper()
		return m.run(t), sessiontest.Fixture{
			Image:    testImage,
			Enforces: true,
			Reopen:   func(t *testing.T) session.Spawner { t.Helper(); return m.open(t) },
			Residue:  func(t *testing.T) []string { t.Helper(); return m.residue(t) },
		}
	})
}
