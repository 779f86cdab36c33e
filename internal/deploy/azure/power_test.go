package azure_test

import (
	"errors"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/test/azuresim"
)

// A cluster that is stopped says so instead of letting everybody wait for its API;
// stopping and starting twice asks Azure once.
func TestSleepAndWake(t *testing.T) {
	t.Parallel()
	s := azuresim.Start(t, &azuresim.Azure{Kubeconfig: []byte("kubeconfig")})
	c := mustOpen(t, settings(s), s)
	if err := c.Sleep(t.Context()); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("sleep without a cluster: %v", err)
	}
	if err := run(t, t.TempDir(), settings(s), s.HTTP, up); err != nil {
		t.Fatal(err)
	}
	before := len(s.Writes())
	for range 2 {
		if err := c.Sleep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if asleep, err := c.Asleep(t.Context()); err != nil || !asleep {
			t.Errorf("asleep: %v %v", asleep, err)
		}
		if _, err := c.Kubeconfig(t.Context()); !errors.Is(err, deploy.ErrAsleep) || binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			t.Errorf("the way into a stopped cluster: %v", err)
		}
	}
	for range 2 {
		if err := c.Wake(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, err := c.Kubeconfig(t.Context()); err != nil || string(b) != "kubeconfig" {
			t.Errorf("the way into a cluster that runs: %s %v", b, err)
		}
	}
	if w := s.Writes()[before:]; len(w) != 2 {
		t.Errorf("asked of Azure: %q", w)
	}
}
