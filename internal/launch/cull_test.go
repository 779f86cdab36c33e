package launch_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

// started launches and returns the session's id.
func started(t *testing.T, svc *launch.Service, c launch.Caller, ref string) string {
	t.Helper()
	id := begin(t, svc, c, ask(ref))
	if e := end(t, svc, id); e.Phase != binnacle.PhaseReady {
		t.Fatalf("%+v", e.Error)
	}
	l, err := svc.Get(t.Context(), c, id)
	if err != nil || l.Session == nil {
		t.Fatal(l, err)
	}
	return l.Session.ID
}

func TestCulling(t *testing.T) {
	tests := map[string]struct {
		during func(b *bench, svc *launch.Service, id string) // once a minute
		after  time.Duration                                  // it runs at least, and ten minutes more at most
		why    string
	}{
		"idle":    {nil, 30 * time.Minute, "Nobody had worked in it for 30 minutes."},
		"too old": {func(b *bench, _ *launch.Service, id string) { b.clk.touch(id) }, 6 * time.Hour, "It had run for 6 hours"},
		"busy kernel": {func(b *bench, _ *launch.Service, _ string) {
			b.spw.mu.Lock()
			defer b.spw.mu.Unlock()
			b.spw.kernels = `[{"execution_state":"idle","last_activity":"1999-01-01T00:00:00Z"},{"execution_state":"busy","last_activity":"1999-01-01T00:00:00Z"}]`
		}, 6 * time.Hour, "It had run for 6 hours"},
		"kernel worked once": {func(b *bench, _ *launch.Service, _ string) {
			b.spw.mu.Lock()
			defer b.spw.mu.Unlock()
			b.spw.kernels = `[{"execution_state":"idle","last_activity":"2000-01-01T00:20:00.5Z"}]`
		}, 50 * time.Minute, "Nobody had worked"},
		"kept alive": {func(_ *bench, svc *launch.Service, id string) {
			if time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) < time.Hour {
				_, _ = svc.KeepAlive(context.Background(), ann, id)
			}
		}, 89 * time.Minute, "Nobody had worked"},
		"does not answer": {func(b *bench, _ *launch.Service, _ string) {
			b.spw.mu.Lock()
			defer b.spw.mu.Unlock()
			b.spw.kernels = `{"message": "nonsense"}`
		}, 30 * time.Minute, "Nobody had worked"},
		"exited": {func(b *bench, _ *launch.Service, id string) {
			if v, err := b.spw.get(id); err == nil && time.Since(v.st.Started) > 5*time.Minute {
				b.spw.finish(v)
			}
		}, 5 * time.Minute, "It ended by itself. It used too much memory."},
		"removed by hand": {func(b *bench, _ *launch.Service, id string) {
			if v, err := b.spw.get(id); err == nil && time.Since(v.st.Started) > 5*time.Minute {
				_ = b.spw.Stop(context.Background(), id)
			}
		}, 5 * time.Minute, "It was removed on the machine"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				svc, stop := b.serve()
				defer stop()
				id := started(t, svc, ann, "main")
				begin := time.Now()
				for {
					<-time.After(time.Minute)
					if tt.during != nil {
						tt.during(b, svc, id)
					}
					if reason, ok := svc.Gone(id); ok {
						if !strings.Contains(reason, tt.why) {
							t.Error(reason)
						}
						break
					}
					if time.Since(begin) > 10*time.Hour {
						t.Fatal("it is still there")
					}
				}
				if d := time.Since(begin); d < tt.after || d > tt.after+10*time.Minute {
					t.Errorf("it ended after %v", d)
				}
				<-time.After(time.Second)
				if b.spw.count() != 0 || svc.Stats().Sessions != 0 {
					t.Errorf("%d sessions, %+v", b.spw.count(), svc.Stats())
				}
				if rec, err := b.st.Session(t.Context(), id); err != nil || rec.Ended.IsZero() || rec.Reason == "" {
					t.Error(rec, err)
				}
			})
		})
	}
}

func TestRuntimeAwayEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		svc, stop := b.serve()
		defer stop()
		id := started(t, svc, ann, "main")
		b.spw.mu.Lock()
		b.spw.away = true
		b.spw.mu.Unlock()
		<-time.After(10 * time.Hour)
		if _, ok := svc.Gone(id); ok || svc.Stats().Sessions != 1 {
			t.Error("the session was given up")
		}
	})
}

func TestOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		svc, stop := b.serve()
		defer stop()
		id := started(t, svc, ann, "main")
		ctx := t.Context()
		launches, err := svc.List(ctx, ann)
		if err != nil || len(launches) != 1 || launches[0].Session != nil {
			t.Fatal(launches, err)
		}
		for name, c := range map[string]launch.Caller{"bob": {Owner: "bob"}, "nobody": {}} {
			_, keep := svc.KeepAlive(ctx, c, id)
			for what, err := range map[string]error{"stop": svc.Stop(ctx, c, id), "keep": keep, "logs": svc.Logs(ctx, c, id, false, io.Discard)} {
				if binnacle.CodeOf(err) != binnacle.CodeNotFound {
					t.Errorf("%s: %s: %v", name, what, err)
				}
			}
			if ids := readyIDs(t, svc, c); len(ids) > 0 {
				t.Error(name, ids)
			}
			if list, err := svc.List(ctx, c); err != nil || len(list) > 0 {
				t.Error(name, list, err)
			}
			if _, err := svc.Get(ctx, c, launches[0].ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
				t.Error(name, "sees the launch", err)
			}
			err = svc.Events(ctx, c, launches[0].ID, 0, func(binnacle.Event) error { return nil })
			if binnacle.CodeOf(err) != binnacle.CodeNotFound {
				t.Error(name, "sees the events", err)
			}
		}
		// A client without cookies knows its launch by the id alone.
		nobody := launch.Caller{Address: "192.0.2.9"}
		lone := begin(t, svc, nobody, ask("lone"))
		if err := svc.Events(ctx, nobody, lone, 0, func(binnacle.Event) error { return nil }); err != nil {
			t.Error(err)
		}
		if l, err := svc.Get(ctx, nobody, lone); err != nil || l.Session == nil || l.Session.Token == "" {
			t.Error(l, err)
		}
		operator := launch.Caller{Trusted: true}
		var w strings.Builder
		if err := svc.Logs(ctx, operator, id, false, &w); err != nil || !strings.Contains(w.String(), "jupyter says") {
			t.Error(err)
		}
		if l, err := svc.Get(ctx, operator, launches[0].ID); err != nil || l.Session == nil {
			t.Error(err)
		}
		if err := svc.Stop(ctx, ann, id); err != nil {
			t.Error(err)
		}
		if reason, ok := svc.Gone(id); !ok || reason != "You stopped it." {
			t.Error(reason)
		}
		if err := svc.Stop(ctx, ann, id); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Error(err)
		}
		if _, err := svc.Get(ctx, ann, "nosuchlaunch"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Error(err)
		}
		err = svc.Events(ctx, ann, "nosuchlaunch", 0, func(binnacle.Event) error { return nil })
		if binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Error(err)
		}
	})
}
