package containerd_test

import (
	"testing"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestConformance(t *testing.T) {
	m := theMachine(t)
	sessiontest.Run(t, func(t *testing.T) (session.Spawner, sessiontest.Fixture) {
		return m.run(t), sessiontest.Fixture{
			Image:    testImage,
			Enforces: true,
			Reopen:   func(t *testing.T) session.Spawner { return m.open(t) },
			Residue:  func(t *testing.T) []string { return m.residue(t) },
		}
	})
}
