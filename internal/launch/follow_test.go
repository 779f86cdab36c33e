package launch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

var bob = launch.Caller{Owner: "bob", Address: "192.0.2.2"}

// follows is what a launch is told that follows another replica's build.
const follows = "log fetching Another launch, through another replica of the hub, builds this environment already. This one follows that build.\n"

// following waits until a launch follows a build that is at work.
func following(t *testing.T, b *bench, r *replica, id string) {
	t.Helper()
	eventually(t, "the second follows the build", func() bool {
		events, err := r.db.Events(t.Context(), id, 0)
		return err == nil && strings.Contains(brief(events), follows) && strings.Contains(brief(events), "log building building img/c0ffee-main\n")
	})
	if b.bld.count() != 1 || !building(t, r) {
		t.Fatalf("%d builds of the same", b.bld.count())
	}
}

// strangers ask for the same through two replicas, of which the first builds and the
// second follows.
func strangers(t *testing.T, b *bench, first, second *replica) []string {
	t.Helper()
	one := begin(t, first.Service, ann, ask("main"))
	eventually(t, "building", func() bool { return b.bld.count() == 1 })
	two := begin(t, second.Service, bob, ask("main"))
	following(t, b, second, two)
	return []string{one, two}
}

// building says whether a replica is known to build what these tests ask for.
func building(t *testing.T, r *replica) bool {
	t.Helper()
	_, there, err := r.db.Building(t.Context(), `false https://git.example.org/o/r c0ffee-main  ""`, time.Hour)
	if err != nil {
		t.Error(err)
	}
	return there
}

// strangersShareABuild: what strangers ask for through two replicas is fetched and built
// once, each has its session, and its log once.
func strangersShareABuild(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.MaxBuilds = 1 // who follows takes nobody's place
	first, second := pair(t, b, url)
	gate := make(chan struct{})
	b.bld.build = func(ctx context.Context, _ image.Request, event func(binnacle.Event)) error {
		for i := range 10 {
			event(binnacle.Event{Kind: binnacle.EventLog, Message: fmt.Sprint("line ", i)})
			if i == 5 {
				select {
				case <-gate:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	}
	ids := strangers(t, b, first, second)
	one, two := ids[0], ids[1]
	three := begin(t, second.Service, launch.Caller{Owner: "cleo"}, ask("main"))
	following(t, b, second, three) // with the second
	close(gate)
	for _, id := range []string{one, two, three} {
		text := brief(follow(t, second.Service, id, 0))
		for i := range 10 {
			if strings.Count(text, fmt.Sprintf("log building line %d\n", i)) != 1 {
				t.Errorf("line %d is not there once", i)
			}
		}
		if strings.Count(text, "phase building\n") != 1 || !strings.HasSuffix(text, "phase launching\nend ready\n") || strings.Contains(text, follows) == (id == one) {
			t.Error(text)
		}
	}
	if b.bld.count() != 1 || b.src.fetches != 1 || b.spw.count() != 3 {
		t.Errorf("%d builds, %d fetches, %d sessions", b.bld.count(), b.src.fetches, b.spw.count())
	}
}

// strangersAtOnce: who asks for the same at the same moment through both replicas has it
// built once, whichever is faster.
func strangersAtOnce(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.MaxBuilds = 3
	first, second := pair(t, b, url)
	b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
		select {
		case <-time.After(50 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	const wishes = 10
	var all sync.WaitGroup
	for i := range wishes {
		for n, svc := range []*replica{first, second} {
			all.Go(func() {
				l, err := svc.Launch(context.WithoutCancel(t.Context()), launch.Caller{Owner: fmt.Sprint("o", n)}, ask(fmt.Sprint("r", i)))
				if err != nil {
					t.Error(err)
					return
				}
				if e := end(t, svc.Service, l.ID); e.Phase != binnacle.PhaseReady {
					t.Errorf("%+v", e)
				}
			})
		}
	}
	all.Wait()
	if b.bld.count() != wishes || b.spw.count() != 2*wishes {
		t.Errorf("%d builds for %d wishes of two, %d sessions", b.bld.count(), wishes, b.spw.count())
	}
}

// strangersShareAFailure: what the repository is at fault for is not tried again for who
// followed, but for who asks later.
func strangersShareAFailure(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	gate := make(chan struct{})
	b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
		select {
		case <-gate:
			return &binnacle.Error{Code: binnacle.CodeBuildFailed, Message: "no such package", File: "requirements.txt", Line: 3}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ids := strangers(t, b, first, second)
	close(gate)
	for _, id := range ids {
		if e := end(t, second.Service, id); e.Phase != binnacle.PhaseFailed || e.Error.Code != binnacle.CodeBuildFailed || e.Error.Line != 3 {
			t.Errorf("%+v", e)
		}
	}
	if b.bld.count() != 1 {
		t.Errorf("%d builds", b.bld.count())
	}
	if e := end(t, second.Service, begin(t, second.Service, bob, ask("main"))); e.Phase != binnacle.PhaseFailed || b.bld.count() != 2 {
		t.Errorf("%+v, %d builds", e, b.bld.count())
	}
}

// strangersOfTheDead: when the replica dies that builds for both, the other builds, once,
// and both have their sessions.
func strangersOfTheDead(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.MaxBuilds = 1
	first, second := pair(t, b, url)
	dead := make(chan struct{})
	b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
		if b.bld.count() > 1 {
			return nil
		}
		select {
		case <-dead:
			return errors.New("the builder is gone")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ids := strangers(t, b, first, second)
	<-time.After(2500 * time.Millisecond) // longer than the silence of the dead
	if b.bld.count() != 1 {
		t.Fatal("a living replica's build was taken over")
	}
	first.db.dead.Store(true)
	for _, id := range ids {
		if e := end(t, second.Service, id); e.Phase != binnacle.PhaseReady {
			t.Errorf("%+v", e)
		}
	}
	text := brief(follow(t, second.Service, ids[1], 0))
	if b.bld.count() != 2 || b.spw.count() != 2 || strings.Count(text, "ended without an image") != 1 || strings.Count(text, "phase building\n") != 1 {
		t.Errorf("%d builds, %d sessions\n%s", b.bld.count(), b.spw.count(), text)
	}
	close(dead)
	eventually(t, "the dead one notices", func() bool { return first.Stats().Launches == 0 })
	if b.bld.count() != 2 || b.spw.count() != 2 {
		t.Errorf("%d builds, %d sessions after the dead one's last words", b.bld.count(), b.spw.count())
	}
}

// strangersCancel: who follows may go, and when those go for whom it was built, who follows
// builds.
func strangersCancel(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	gate := make(chan struct{})
	b.bld.build = (&busy{gate: gate}).build
	ids := strangers(t, b, first, second)
	one, two := ids[0], ids[1]
	if err := second.Cancel(t.Context(), bob, two); err != nil {
		t.Fatal(err)
	}
	if e := end(t, second.Service, two); e.Phase != binnacle.PhaseCanceled {
		t.Errorf("%+v", e)
	}
	two = begin(t, second.Service, bob, ask("main"))
	following(t, b, second, two)
	if err := first.Cancel(t.Context(), ann, one); err != nil {
		t.Fatal(err)
	}
	if e := end(t, first.Service, one); e.Phase != binnacle.PhaseCanceled {
		t.Errorf("%+v", e)
	}
	eventually(t, "the second builds", func() bool { return b.bld.count() == 2 })
	close(gate)
	if e := end(t, second.Service, two); e.Phase != binnacle.PhaseReady {
		t.Errorf("%+v", e)
	}
	if building(t, second) {
		t.Error("a build is left")
	}
}
