package launch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

func talk(n int, pause time.Duration) func(context.Context, image.Request, func(binnacle.Event)) error {
	return func(_ context.Context, _ image.Request, event func(binnacle.Event)) error {
		for i := range n {
			event(binnacle.Event{Kind: binnacle.EventLog, Message: fmt.Sprint("line ", i)})
			if pause > 0 {
				<-time.After(pause)
			}
		}
		return nil
	}
}

func TestWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = talk(300, 10*time.Millisecond)
		svc, stop := b.serve()
		defer stop()
		id := begin(t, svc, ann, ask("main"))
		// One leaves in the middle and comes back where it was.
		broken := errors.New("connection lost")
		var events []binnacle.Event
		for len(events) == 0 || events[len(events)-1].Kind != binnacle.EventEnd {
			n, after := 0, int64(0)
			if len(events) > 0 {
				after = events[len(events)-1].ID
			}
			err := svc.Events(t.Context(), ann, id, after, func(e binnacle.Event) error {
				if n++; n > 37 {
					return broken
				}
				events = append(events, e)
				return nil
			})
			if err != nil && !errors.Is(err, broken) {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(follow(t, svc, id, 0), events); diff != "" {
			t.Error(diff)
		}
		if got := follow(t, svc, id, events[len(events)-1].ID); len(got) != 0 {
			t.Error(got)
		}
		if got := follow(t, svc, id, 1<<40); len(got) != 0 {
			t.Error(got)
		}
	})
}

func TestSlowWatcherDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.bld.build = talk(2000, 0)
		svc, stop := b.serve()
		defer stop()
		begun := time.Now()
		id := begin(t, svc, ann, ask("main"))
		slow := make(chan int)
		go func() {
			n := 0
			_ = svc.Events(context.Background(), ann, id, 0, func(binnacle.Event) error {
				n++
				<-time.After(time.Second)
				return nil
			})
			slow <- n
		}()
		if e := end(t, svc, id); e.Phase != binnacle.PhaseReady || time.Since(begun) > time.Second {
			t.Error(e, time.Since(begun))
		}
		if n := <-slow; n < 2000 {
			t.Error("the slow one saw", n)
		}
	})
}

func TestWatcherEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.spw.silent = true
		svc, stop := b.serve()
		defer stop()
		id := begin(t, svc, ann, ask("main"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := svc.Events(ctx, ann, id, 0, func(binnacle.Event) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestGrace(t *testing.T) {
	for _, grace := range []time.Duration{0, 10 * time.Second} {
		t.Run(grace.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				b.cfg.Grace = grace
				b.bld.build = talk(60, time.Second)
				svc, stop := b.serve()
				defer stop()
				id := begin(t, svc, ann, ask("main"))
				for range 2 { // reloading within the grace period is no leaving
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					_ = svc.Events(ctx, ann, id, 0, func(binnacle.Event) error { return nil })
					cancel()
					<-time.After(5 * time.Second)
				}
				if l, err := svc.Get(t.Context(), ann, id); err != nil || l.Phase != binnacle.PhaseBuilding {
					t.Fatal(l.Phase, err)
				}
				<-time.After(2 * time.Minute)
				want := binnacle.PhaseReady
				if grace > 0 {
					want = binnacle.PhaseCanceled
				}
				if e := end(t, svc, id); e.Phase != want {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

func TestLogCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.cfg.BuildLogCap = 1 << 20
		long := strings.Repeat("x", 1000)
		b.bld.build = func(_ context.Context, _ image.Request, event func(binnacle.Event)) error {
			event(binnacle.Event{Kind: binnacle.EventLog, Message: strings.Repeat("é", 100_000) + "\xff"})
			for i := range 20_000 {
				event(binnacle.Event{Kind: binnacle.EventLog, Message: fmt.Sprint("line ", i, " ", long)})
			}
			event(binnacle.Event{Kind: binnacle.EventStep, Step: "last step"})
			return binnacle.Errorf(binnacle.CodeBuildFailed, "It failed.")
		}
		svc, stop := b.serve()
		defer stop()
		id := begin(t, svc, ann, ask("main"))
		text := brief(follow(t, svc, id, 0))
		if len(text) > 2<<20 {
			t.Errorf("%d bytes are kept", len(text))
		}
		for _, want := range []string{"line 0 ", "longer than 1024 KiB", " lines left out)", "line 19999 ", "last step"} {
			if strings.Count(text, want) != 1 {
				t.Errorf("%d times %q", strings.Count(text, want), want)
			}
		}
		if strings.Contains(text, "line 10000 ") || !strings.HasSuffix(text, "end failed [build_failed :0]\n") {
			t.Error("the middle is there or the end is not")
		}
	})
}

func FuzzLaunch(f *testing.F) {
	for _, s := range []string{"gh/o/r/main", "https://git.example.org/a/b.git", "/etc", "git/https%3A%2F%2Fx%2Fy/m", "--upload-pack=x"} {
		f.Add(s, "main", "lab/tree/a.ipynb", "A")
	}
	f.Add("gh/o/r", "../x", "../../x", "JUPYTER_TOKEN")
	f.Add("gh/o/r", "\x00", "%2e%2e/%2e%2e", "")
	b := newBench(f)
	svc, stop := b.serve()
	f.Cleanup(func() { stop(); b.close() })
	f.Fuzz(func(t *testing.T, repo, ref, path, env string) {
		req := binnacle.LaunchRequest{Repo: repo, Ref: ref, Path: path, Env: map[string]string{env: "v"}, BuildOnly: true}
		l, err := svc.Launch(t.Context(), launch.Caller{Owner: "fuzz"}, req)
		if err != nil {
			if c := binnacle.CodeOf(err); c != binnacle.CodeInvalid && c != binnacle.CodeForbidden && c != binnacle.CodeLimited {
				t.Errorf("%s: %v", c, err)
			}
			return
		}
		if l.Spec.Provider == binnacle.Dir || strings.HasPrefix(l.Spec.Ref, "-") || strings.ContainsAny(l.Spec.Ref, "\n\x00") {
			t.Errorf("%+v", l.Spec)
		}
	})
}

func BenchmarkLaunchPresentImage(b *testing.B) {
	bb := newBench(b)
	bb.bld.images["img/c0ffee-main"] = true
	bb.cfg.MaxSessions = 1 << 30
	svc, stop := bb.serve()
	b.Cleanup(func() { stop(); bb.close() })
	b.ReportAllocs()
	for b.Loop() {
		id := begin(b, svc, launch.Caller{Trusted: true}, ask("main"))
		if e := end(b, svc, id); e.Phase != binnacle.PhaseReady {
			b.Fatal(mustJSON(e))
		}
	}
}

func BenchmarkBuildLog(b *testing.B) {
	for _, watchers := range []int{1, 100} {
		b.Run(fmt.Sprintf("lines=10000/launches=%d", watchers), func(b *testing.B) {
			bb := newBench(b)
			bb.bld.build = talk(10_000, 0)
			svc, stop := bb.serve()
			b.Cleanup(func() { stop(); bb.close() })
			n := 0
			for b.Loop() {
				n++
				var ids []string
				for range watchers {
					ids = append(ids, begin(b, svc, launch.Caller{Trusted: true}, binnacle.LaunchRequest{Repo: fmt.Sprint("gh/o/r/", n), BuildOnly: true}))
				}
				for _, id := range ids {
					if e := end(b, svc, id); e.Phase != binnacle.PhaseReady {
						b.Fatal(mustJSON(e))
					}
				}
			}
		})
	}
}
