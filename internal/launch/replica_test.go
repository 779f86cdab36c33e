package launch_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// leading is a Leader set by hand.
type leading struct{ atomic.Bool }

func (l *leading) Leads() bool { return l.Load() }

// mute is a replica's database that, once it is dead, gets no heartbeat, and that lets
// the replica wait while it is held.
type mute struct {
	*store.Store
	dead  atomic.Bool
	beats atomic.Int64
	held  atomic.Pointer[chan struct{}]
}

func (m *mute) Canceled(ctx context.Context, replica string) ([]string, error) {
	if held := m.held.Load(); held != nil {
		<-*held
	}
	return m.Store.Canceled(ctx, replica)
}

func (m *mute) Beat(ctx context.Context, replica string) error {
	m.beats.Add(1)
	if m.dead.Load() {
		return nil
	}
	return m.Store.Beat(ctx, replica)
}

func (m *mute) KeepBuild(ctx context.Context, b store.Build) (bool, error) {
	if m.dead.Load() {
		return true, nil
	}
	return m.Store.KeepBuild(ctx, b)
}

// replica is one of the services that share sessions and a database.
type replica struct {
	*launch.Service
	db   *mute
	clk  *clock
	lead *leading
	stop func()
}

// pair runs two services, the second of which leads.
func pair(t *testing.T, b *bench, url string) (first, second *replica) {
	t.Helper()
	return patientPair(t, b, url, 2*time.Second)
}

// patientPair is a pair that believes in each other's life for so long.
func patientPair(t *testing.T, b *bench, url string, silence time.Duration) (first, second *replica) {
	t.Helper()
	b.cfg.Heartbeat, b.cfg.TakeOver = 100*time.Millisecond, silence
	b.cfg.CullInterval, b.cfg.OrphanGrace = 100*time.Millisecond, 300*time.Millisecond
	one := func(name string) *replica {
		st, err := store.OpenPostgres(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		r := &replica{db: &mute{Store: st}, clk: &clock{last: map[string]time.Time{}}, lead: &leading{}}
		b.replica, b.store, b.shared, b.leader, b.clk = name, st, r.db, r.lead, r.clk
		r.Service, r.stop = b.serve()
		t.Cleanup(func() {
			r.stop()
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	}
	first, second = one("one"), one("two")
	second.lead.Store(true)
	return first, second
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestReplicas(t *testing.T) {
	server := postgres.Start(t)
	t.Run("database runs", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, string){
			"any": anyReplica, "use": useIsShared, "dead": deadReplicaIsTakenOver, "outage": outageBetweenBeats, "stop": replicaThatStopsHandsOver,
			"builds": buildsAreCountedTogether, "sessions": sessionsAreCountedTogether, "addresses": addressesAreCountedTogether,
			"one wish": oneWishIsOneLaunch, "unwatched": unwatchedEnds, "strangers": strangersShareABuild, "strangers at once": strangersAtOnce, "strangers' failure": strangersShareAFailure,
			"strangers of the dead": strangersOfTheDead, "strangers cancel": strangersCancel,
		} {
			url := server.Database()
			t.Run(name, func(t *testing.T) {
				t.Parallel() // they mostly wait
				test(t, url)
			})
		}
	})
	t.Run("database restarts", func(t *testing.T) { databaseRestarts(t, server) })
}

func anyReplica(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	work := &busy{gate: make(chan struct{})}
	b.bld.build = work.build
	// Followed on the replica that does not drive it, from the middle on.
	id := begin(t, first.Service, ann, ask("main"))
	got := make(chan []binnacle.Event, 1)
	go func() { got <- follow(t, second.Service, id, 0) }()
	eventually(t, "building, seen from the other replica", func() bool {
		l, err := second.Get(t.Context(), ann, id)
		return err == nil && l.Phase == binnacle.PhaseBuilding
	})
	// Who opens the link again and is sent to the other replica gets this launch.
	if again := begin(t, second.Service, ann, ask("main")); again != id {
		t.Error("a launch that is under way on another replica was not joined")
	}
	close(work.gate)
	there := <-got
	if diff := cmp.Diff(brief(follow(t, first.Service, id, 0)), brief(there)); diff != "" || !strings.HasSuffix(brief(there), "end ready\n") {
		t.Error(diff, brief(there))
	}
	if _, err := second.Get(t.Context(), launch.Caller{Owner: "bob"}, id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Error(err)
	}
	l, err := second.Get(t.Context(), ann, id)
	if err != nil || l.Session == nil || l.Session.State != "running" {
		t.Fatalf("%+v, %v", l, err)
	}
	// It is nobody's orphan, on neither.
	<-time.After(time.Second)
	if b.spw.count() != 1 {
		t.Fatal("a session of the other replica was stopped")
	}
	// Stopped on the other replica; the first learns why.
	if err := second.Stop(t.Context(), ann, l.Session.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason", func() bool { reason, ok := first.Gone(l.Session.ID); return ok && reason == "You stopped it." })
	eventually(t, "no slot taken", func() bool { return first.Stats().Sessions == 0 && second.Stats().Sessions == 0 })

	// Canceled on the other replica.
	work.gate = make(chan struct{})
	id = begin(t, first.Service, ann, ask("other"))
	eventually(t, "building", func() bool { return b.bld.count() == 2 })
	if err := second.Cancel(t.Context(), launch.Caller{Owner: "bob"}, id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Error(err)
	}
	if err := second.Cancel(t.Context(), ann, id); err != nil {
		t.Fatal(err)
	}
	if e := end(t, second.Service, id); e.Phase != binnacle.PhaseCanceled {
		t.Errorf("%+v", e)
	}
}

func useIsShared(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	b.cfg.IdleTimeout = 3 * time.Second
	first, second := pair(t, b, url)
	id := started(t, first.Service, ann, "main")
	// Somebody works through the replica that does not lead.
	for range 40 {
		<-time.After(100 * time.Millisecond)
		first.clk.touch(id)
	}
	if b.spw.count() != 1 {
		t.Fatal("a session that is used was ended")
	}
	// Nobody does any more, but it is kept alive through it.
	if _, err := first.KeepAlive(t.Context(), ann, id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "idle", func() bool { return b.spw.count() == 0 })
	eventually(t, "the reason", func() bool {
		reason, ok := first.Gone(id)
		there, _ := second.Gone(id)
		return ok && reason == there && strings.Contains(reason, "Nobody had worked")
	})
}

func deadReplicaIsTakenOver(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	gates := make(chan struct{})
	b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
		if b.bld.count() > 1 {
			return nil
		}
		select { // the dead one's
		case <-gates:
			return errors.New("the builder is gone")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	id := begin(t, first.Service, ann, ask("main"))
	eventually(t, "building", func() bool { return b.bld.count() == 1 })
	// Alive ones keep theirs.
	<-time.After(2500 * time.Millisecond)
	if b.bld.count() != 1 {
		t.Fatal("a launch was taken from a living replica")
	}
	first.db.dead.Store(true)
	text := brief(follow(t, second.Service, id, 0))
	if !strings.Contains(text, "log building The replica of the hub that worked on this went away; another one goes on with building.\n") ||
		!strings.HasSuffix(text, "end ready\n") {
		t.Error(text)
	}
	// The dead one was only slow: what it still says is refused.
	close(gates)
	eventually(t, "it notices", func() bool { return first.Stats().Launches == 0 })
	if diff := cmp.Diff(text, brief(follow(t, first.Service, id, 0))); diff != "" {
		t.Error(diff)
	}
	l, err := first.Get(t.Context(), ann, id)
	if err != nil || l.Session == nil || b.spw.starts != 1 || b.spw.count() != 1 {
		t.Errorf("%+v, %v, %d starts", l, err, b.spw.starts)
	}
}

func replicaThatStopsHandsOver(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	first, second := pair(t, b, url)
	b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
		if b.bld.count() > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	id := begin(t, first.Service, ann, ask("main"))
	eventually(t, "building", func() bool { return b.bld.count() == 1 })
	first.stop()
	first.stop = func() {}
	if e := end(t, second.Service, id); e.Phase != binnacle.PhaseReady {
		t.Errorf("%+v", e)
	}
}

// outageBetweenBeats: while the database was away nobody's heart could be heard, and
// nobody is believed dead for that, whatever the leader waited for meanwhile.
func outageBetweenBeats(t *testing.T, url string) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	const silence = 4 * time.Second
	first, second := patientPair(t, b, url, silence)
	gate := make(chan struct{})
	b.bld.build = (&busy{gate: gate}).build
	id := begin(t, first.Service, ann, ask("main"))
	eventually(t, "building", func() bool { return b.bld.count() == 1 })
	<-time.After(silence) // the leader trusts what it hears
	held := make(chan struct{})
	first.db.dead.Store(true)
	second.db.held.Store(&held)
	<-time.After(silence + 500*time.Millisecond)
	second.db.held.Store(nil)
	close(held)
	beats := second.db.beats.Load()
	eventually(t, "the leader has looked", func() bool { return second.db.beats.Load() > beats+1 })
	first.db.dead.Store(false)
	close(gate)
	text := brief(follow(t, second.Service, id, 0))
	if strings.Contains(text, "went away") || !strings.HasSuffix(text, "end ready\n") || b.bld.count() != 1 {
		t.Errorf("%d builds:\n%s", b.bld.count(), text)
	}
}

// databaseRestarts: launches, watchers and sessions only wait, and no living
// replica is taken for dead.
func databaseRestarts(t *testing.T, server *postgres.Server) {
	t.Helper()
	b := newBench(t)
	defer b.close()
	// A heart that waits for the database beats a second after its return at the latest,
	// and on a busy machine this one is shared.
	const silence = 5 * time.Second
	first, second := patientPair(t, b, server.Database(), silence)
	gate := make(chan struct{})
	b.bld.build = func(ctx context.Context, _ image.Request, event func(binnacle.Event)) error {
		for {
			event(binnacle.Event{Kind: binnacle.EventLog, Message: "at work"})
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	ids := []string{begin(t, first.Service, ann, ask("main")), begin(t, second.Service, ann, ask("other"))}
	got := make(chan []binnacle.Event, 1)
	go func() { got <- follow(t, second.Service, ids[0], 0) }()
	eventually(t, "building", func() bool { return b.bld.count() == 2 })
	server.Down()
	const longer = silence + 500*time.Millisecond // than a silent replica is believed to live
	<-time.After(longer)
	server.Up()
	<-time.After(longer)
	close(gate)
	for _, id := range ids {
		if e := end(t, first.Service, id); e.Phase != binnacle.PhaseReady {
			t.Errorf("%+v", e)
		}
	}
	var last int64
	for _, e := range <-got {
		if e.ID != last+1 || strings.Contains(e.Message, "went away") {
			t.Fatalf("%+v follows %d", e, last)
		}
		last = e.ID
	}
	if b.bld.count() != 2 || b.spw.count() != 2 {
		t.Errorf("%d builds, %d sessions", b.bld.count(), b.spw.count())
	}
}
