package launch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

// busy counts how many builds run at once; each ends when it is let go.
type busy struct {
	now, most atomic.Int64
	gate      chan struct{}
}

func (b *busy) build(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
	b.most.Store(max(b.most.Load(), b.now.Add(1)))
	defer b.now.Add(-1)
	select {
	case <-b.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// buildsAreCountedTogether: max_builds is the hub's, a place in the queue is the same
// through any replica, and a dead replica holds no slot.
func buildsAreCountedTogether(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.MaxBuilds = 2
	first, second := pair(t, b, url)
	work := &busy{gate: make(chan struct{})}
	b.bld.build = work.build
	var ids []string
	for i := range 4 { // two for each replica
		svc := []*replica{first, second}[i%2]
		ids = append(ids, begin(t, svc.Service, launch.Caller{Owner: fmt.Sprint("o", i)}, ask(fmt.Sprint("r", i))))
		if i == 1 {
			eventually(t, "two builds", func() bool { return work.now.Load() == 2 })
		}
	}
	positions := func(svc *launch.Service) (sum int) {
		for _, id := range ids {
			l, err := svc.Get(t.Context(), launch.Caller{Trusted: true}, id)
			if err != nil {
				t.Fatal(err)
			}
			sum += l.Position
		}
		return sum
	}
	for _, svc := range []*replica{first, second} {
		eventually(t, "both replicas say that two wait, one behind the other", func() bool { return positions(svc.Service) == 1+2 })
	}
	list, err := second.List(t.Context(), launch.Caller{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, l := range list {
		listed += l.Position
	}
	if listed != 1+2 {
		t.Errorf("the list has positions of sum %d", listed)
	}
	if most := work.most.Load(); most != 2 {
		t.Errorf("%d builds at once", most)
	}
	// The first dies with one build at work and one that waits; both go on in the second.
	// As it is only silent, they may run on in it for a moment.
	first.db.dead.Store(true)
	eventually(t, "the second has all four", func() bool { return second.Stats().Launches == 4 })
	close(work.gate)
	for _, id := range ids {
		if e := end(t, second.Service, id); e.Phase != binnacle.PhaseReady {
			t.Errorf("%+v", e)
		}
	}
	eventually(t, "no slot is kept", func() bool {
		places, err := second.db.Places(t.Context(), "builds", "")
		return err == nil && len(places) == 0 && second.Stats().Building == 0
	})
}

// sessionsAreCountedTogether: max_sessions is the hub's, whoever ends one.
func sessionsAreCountedTogether(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.MaxSessions = 1
	first, second := pair(t, b, url)
	id := started(t, first.Service, ann, "main")
	bob := launch.Caller{Owner: "bob"}
	next := begin(t, second.Service, bob, ask("main"))
	<-time.After(time.Second) // rounds of the leader, who compares slots with sessions
	l, err := first.Get(t.Context(), bob, next)
	if err != nil || l.Phase != binnacle.PhaseWaiting || l.Position != 1 {
		t.Fatalf("a second session of one: %+v %v", l, err)
	}
	if err := second.Stop(t.Context(), ann, id); err != nil {
		t.Fatal(err)
	}
	if e := end(t, first.Service, next); e.Phase != binnacle.PhaseReady {
		t.Errorf("%+v", e)
	}
}

// addressesAreCountedTogether: who is limited at one replica is at the other, and
// the queue's length is both's.
func addressesAreCountedTogether(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.AddressRate, b.cfg.AddressBurst, b.cfg.MaxSessions, b.cfg.MaxQueue = 1, 2, 1, 1
	first, second := pair(t, b, url)
	var got []string
	for i, address := range []string{"192.0.2.1", "192.0.2.1:99", "192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		svc := []*replica{first, second}[i%2]
		_, err := svc.Launch(t.Context(), launch.Caller{Owner: fmt.Sprint("o", i), Address: address}, binnacle.LaunchRequest{Repo: fmt.Sprint("gh/o/r/", i), BuildOnly: i < 3})
		got = append(got, string(binnacle.CodeOf(err)))
		if err != nil && i == 2 {
			if after, ok := launch.RetryAfter(err); !ok || after < time.Minute {
				t.Error(after, ok)
			}
		}
	}
	if _, err := second.Launch(t.Context(), launch.Caller{Owner: "more", Address: "192.0.2.4"}, ask("more")); err == nil || !strings.Contains(binnacle.Public(err).Message, "queue") {
		t.Errorf("the queue has one already: %v", err)
	}
	if diff := cmp.Diff([]string{"", "", "limited", "", ""}, got); diff != "" {
		t.Error(diff)
	}
	limit, left, full, ok := second.Rate(t.Context(), "192.0.2.2")
	if limit != 2 || left != 1 || !ok || time.Until(full) > time.Hour || time.Until(full) < 50*time.Minute {
		t.Error(limit, left, full, ok)
	}
}

// oneWishIsOneLaunch: asked for at the same moment through both, nothing is built twice.
func oneWishIsOneLaunch(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	work := &busy{gate: make(chan struct{})}
	b.bld.build = work.build
	const wishes = 10
	var ids [wishes][4]string
	for i := range ids {
		var all sync.WaitGroup
		for n := range ids[i] {
			all.Go(func() {
				l, err := []*replica{first, second}[n%2].Launch(context.WithoutCancel(t.Context()), ann, binnacle.LaunchRequest{Repo: fmt.Sprint("gh/o/r/", i), BuildOnly: true})
				if err != nil {
					t.Error(err)
				}
				ids[i][n] = l.ID
			})
		}
		all.Wait()
	}
	close(work.gate)
	for i, same := range ids {
		if same != [4]string{same[0], same[0], same[0], same[0]} {
			t.Errorf("wish %d became launches %q", i, same)
		}
		if e := end(t, second.Service, same[0]); e.Phase != binnacle.PhaseReady {
			t.Errorf("%+v", e)
		}
	}
	if b.bld.count() != wishes {
		t.Errorf("%d builds for %d wishes", b.bld.count(), wishes)
	}
}

// unwatchedEnds: a launch that nobody follows any more through any replica ends
// after launch.grace, and not while it is followed through the other.
func unwatchedEnds(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.Grace = time.Second
	first, second := pair(t, b, url)
	b.bld.build = (&busy{gate: make(chan struct{})}).build
	never := begin(t, first.Service, ann, ask("never")) // by a program that does not follow
	id := begin(t, first.Service, ann, ask("main"))
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		gone <- second.Events(ctx, ann, id, 0, func(binnacle.Event) error { return nil })
	}()
	eventually(t, "it is known to be watched", func() bool {
		there, err := first.Watched(t.Context(), ann, id)
		return err == nil && there
	})
	<-time.After(3 * time.Second)
	if l, err := first.Get(t.Context(), ann, id); err != nil || l.Phase != binnacle.PhaseBuilding {
		t.Fatalf("a launch that is watched through the other replica: %+v %v", l, err)
	}
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "it is canceled", func() bool {
		l, err := second.Get(t.Context(), ann, id)
		return err == nil && l.Phase == binnacle.PhaseCanceled && l.Error.Message == "Nobody was watching this launch any more."
	})
	if l, err := second.Get(t.Context(), ann, never); err != nil || l.Phase.Final() {
		t.Errorf("a launch that nobody ever watched: %+v %v", l, err)
	}
	if there, err := second.Watched(t.Context(), launch.Caller{Owner: "bob"}, never); there || binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Error(there, err)
	}
}
