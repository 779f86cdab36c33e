package launch_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// shelf is a registry that notes what is removed.
type shelf struct {
	mu      sync.Mutex
	removed []string
	kept    []string // at the last removal
	fails   map[string]error
	asked   map[string]int
}

func (s *shelf) Remove(_ context.Context, image string, kept []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[image]++
	if err := s.fails[image]; err != nil {
		return err
	}
	s.removed, s.kept = append(s.removed, image), slices.Sorted(slices.Values(kept))
	return nil
}

func (s *shelf) look() (removed, kept []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.removed), s.kept
}

// TestRetain removes images that were not launched for long, but none that a
// session has or that was launched since, and gives up when it is not allowed.
func TestRetain(t *testing.T) {
	b := newBench(t)
	b.cfg.KeepImages, b.cfg.ReclaimInterval = 24*time.Hour, 20*time.Millisecond
	lead := &leading{}
	reg := &shelf{fails: map[string]error{}, asked: map[string]int{}}
	b.images, b.leader = reg, lead
	svc, stop := b.serve()
	defer stop()
	ctx := t.Context()
	ready := end(t, svc, begin(t, svc, ann, ask("main")))
	old := time.Now().Add(-48 * time.Hour)
	use := func(name string, at time.Time) {
		t.Helper()
		if err := b.st.UseImage(ctx, name, "", at); err != nil {
			t.Fatal(err)
		}
	}
	use(ready.Image, old) // its session still runs
	use("new", time.Now())
	use("old", old)
	use("older", old.Add(-time.Hour))
	<-time.After(200 * time.Millisecond)
	if removed, _ := reg.look(); len(removed) > 0 {
		t.Fatalf("who does not lead removed %q", removed)
	}
	lead.Store(true)
	eventually(t, "removed", func() bool { removed, _ := reg.look(); return len(removed) == 2 })
	removed, kept := reg.look()
	want := []string{"new", ready.Image}
	slices.Sort(want)
	if diff := cmp.Diff([][]string{{"older", "old"}, want}, [][]string{removed, kept}); diff != "" {
		t.Error(diff)
	}
	if n, failed := svc.Removals(); n != 2 || failed != 0 {
		t.Error(n, failed)
	}

	// A registry that is away is asked again, and the image is not forgotten.
	reg.mu.Lock()
	reg.fails["later"] = binnacle.Errorf(binnacle.CodeUnavailable, "away")
	reg.mu.Unlock()
	use("later", old)
	eventually(t, "removed", func() bool { reg.mu.Lock(); defer reg.mu.Unlock(); return reg.asked["later"] > 1 })
	reg.mu.Lock()
	delete(reg.fails, "later")
	reg.fails["never"] = binnacle.Errorf(binnacle.CodeForbidden, "not allowed")
	reg.mu.Unlock()
	eventually(t, "removed", func() bool { removed, _ := reg.look(); return slices.Contains(removed, "later") })
	use("never", old)
	eventually(t, "removed", func() bool { reg.mu.Lock(); defer reg.mu.Unlock(); return reg.asked["never"] > 0 })
	<-time.After(200 * time.Millisecond)
	if reg.mu.Lock(); reg.asked["never"] != 1 {
		t.Errorf("a registry that refuses is asked %d times", reg.asked["never"])
	}
	reg.mu.Unlock()
	images, err := b.st.Images(ctx)
	if err != nil || !slices.ContainsFunc(images, func(i store.Image) bool { return i.Name == "never" }) {
		t.Error(images, err)
	}
}
