package launch_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/session"
)

func TestRecoveryInEachPhase(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for phase, hold := range map[binnacle.Phase]func(b *bench, on bool){
		binnacle.PhaseWaiting: func(b *bench, on bool) {
			b.cfg.MaxSessions = map[bool]int{true: 1, false: 10}[on]
		},
		binnacle.PhaseResolving: func(b *bench, on bool) {
			b.src.onResolve = map[bool]func(context.Context) error{true: hang}[on]
		},
		binnacle.PhaseFetching: func(b *bench, on bool) {
			b.src.onFetch = map[bool]func(context.Context) error{true: hang}[on]
		},
		binnacle.PhaseBuilding: func(b *bench, on bool) {
			b.bld.build = nil
			if on {
				b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error { return hang(ctx) }
			}
		},
		binnacle.PhaseLaunching: func(b *bench, on bool) {
			b.spw.silent = on
			for _, v := range b.spw.sessions {
				if !on {
					go func() { _ = v.srv.Serve(v.ln) }()
				}
			}
		},
	} {
		t.Run(string(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				hold(b, true)
				svc, stop := b.serve()
				if phase == binnacle.PhaseWaiting {
					end(t, svc, begin(t, svc, ann, ask("first")))
				}
				id := begin(t, svc, ann, ask("main"))
				<-time.After(3 * time.Second)
				stop()
				if _, err := svc.Launch(t.Context(), ann, ask("late")); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
					t.Error("a stopped service launches:", err)
				}
				before, err := b.st.Events(t.Context(), id, 0)
				if err != nil || len(before) == 0 || before[len(before)-1].Kind == binnacle.EventEnd {
					t.Fatal(brief(before), err)
				}
				left := filepath.Join(b.cfg.Checkouts, "left")
				if err := os.MkdirAll(left, 0o700); err != nil {
					t.Fatal(err)
				}
				hold(b, false)
				svc, stop = b.serve()
				defer stop()
				synctest.Wait()
				text := brief(follow(t, svc, id, 0))
				if !strings.HasPrefix(text, brief(before)+"log "+string(phase)+" The hub was restarted; going on with "+string(phase)+".\n") ||
					!strings.HasSuffix(text, "end ready\n") {
					t.Error(text)
				}
				if _, err := os.Stat(left); !os.IsNotExist(err) {
					t.Error("an old checkout is left")
				}
				want := 1
				if phase == binnacle.PhaseWaiting {
					want = 2
				}
				if ids := readyIDs(t, svc, ann); len(ids) != want || b.spw.starts != want || svc.Stats().Sessions != want {
					t.Errorf("sessions %v, %d starts, %+v", ids, b.spw.starts, svc.Stats())
				}
			})
		})
	}
}

// TestStartTakenAway: a replica that is told to stop while it starts a session takes that
// away again, before or after the next one has found it. The next one starts another.
func TestStartTakenAway(t *testing.T) {
	for name, late := range map[string]bool{"before it is found": false, "while it is waited for": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				b.spw.silent = true
				svc, stop := b.serve()
				id := begin(t, svc, ann, ask("main"))
				<-time.After(3 * time.Second)
				stop()
				b.spw.silent = false
				left := slices.Collect(maps.Values(b.spw.sessions))
				if len(left) != 1 {
					t.Fatalf("%d sessions are there", len(left))
				}
				if !late {
					b.spw.finish(left[0])
				}
				svc, stop = b.serve()
				defer stop()
				synctest.Wait()
				if late {
					<-time.After(3 * time.Second)
					b.spw.finish(left[0])
				}
				if e := end(t, svc, id); e.Phase != binnacle.PhaseReady || b.spw.starts != 2 || b.spw.count() != 1 {
					t.Errorf("%+v after %d starts; %d sessions", e, b.spw.starts, b.spw.count())
				}
			})
		})
	}
}

func TestGivenUpAfterTooManyRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
			<-ctx.Done()
			return ctx.Err()
		}
		svc, stop := b.serve()
		id := begin(t, svc, ann, ask("main"))
		for range b.cfg.MaxRestarts {
			<-time.After(time.Second)
			stop()
			_, stop = b.serve()
		}
		<-time.After(time.Second)
		stop()
		svc, stop = b.serve()
		defer stop()
		synctest.Wait()
		events := follow(t, svc, id, 0)
		e := events[len(events)-1]
		if e.Phase != binnacle.PhaseFailed || e.Error.Code != binnacle.CodeUnavailable || strings.Count(brief(events), "building img/") != 4 {
			t.Error(brief(events))
		}
		if s := svc.Stats(); s.Launches != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSessionsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		svc, stop := b.serve()
		id := begin(t, svc, ann, ask("main"))
		end(t, svc, id)
		gone := begin(t, svc, ann, ask("gone"))
		end(t, svc, gone)
		before, err := svc.Sessions(t.Context(), ann)
		if err != nil || len(before) != 2 {
			t.Fatal(before, err)
		}
		stop()
		lost := before[0]
		if lost.LaunchID != gone {
			lost, before[1] = before[1], before[0]
		}
		if err := b.spw.Stop(t.Context(), lost.ID); err != nil {
			t.Fatal(err)
		}
		// What no launch knows is left behind, too.
		if _, err := b.spw.Start(t.Context(), session.Spec{ID: "stray-aaaaaaaa", BaseURL: "/user/stray-aaaaaaaa/", Labels: map[string]string{"binnacle.owner": "ann"}}); err != nil {
			t.Fatal(err)
		}
		svc, stop = b.serve()
		defer stop()
		synctest.Wait()
		l, err := svc.Get(t.Context(), ann, id)
		if err != nil || l.Session == nil {
			t.Fatal(l, err)
		}
		if diff := cmp.Diff(before[1].Token, l.Session.Token); diff != "" || !l.Session.Ends.Equal(before[1].Ends) || l.Session.IdleEnds.Before(before[1].IdleEnds) {
			t.Errorf("%+v is not %+v", l.Session, before[1])
		}
		if reason, ok := svc.Gone(lost.ID); !ok || !strings.Contains(reason, "away") {
			t.Error(reason, ok)
		}
		<-time.After(2 * time.Minute)
		if diff := cmp.Diff([]string{l.Session.ID}, readyIDs(t, svc, launch.Caller{Trusted: true})); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJoinedBuildGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		svc, stop := b.serve()
		ids := []string{begin(t, svc, ann, ask("main")), begin(t, svc, launch.Caller{Owner: "bob"}, ask("main"))}
		<-time.After(10 * time.Second)
		stop()
		svc, stop = b.serve()
		defer stop()
		synctest.Wait()
		for _, id := range ids {
			if e := end(t, svc, id); e.Phase != binnacle.PhaseReady {
				t.Errorf("%+v", e)
			}
		}
		if b.bld.count() != 2 {
			t.Errorf("%d builds", b.bld.count())
		}
	})
}
