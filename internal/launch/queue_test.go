package launch_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		b.cfg.MaxSessions = 1
		svc, stop := b.serve()
		defer stop()
		// Ann asks four times before bob asks once.
		var ids []string
		for i := range 4 {
			ids = append(ids, begin(t, svc, ann, ask(fmt.Sprint("a", i))))
		}
		bob := launch.Caller{Owner: "bob"}
		ids = append(ids, begin(t, svc, bob, ask("b0")))
		<-time.After(time.Minute)
		positions := func() (got []int) {
			for _, id := range ids {
				l, err := svc.Get(t.Context(), launch.Caller{Trusted: true}, id)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, l.Position)
			}
			return got
		}
		if diff := cmp.Diff([]int{0, 2, 3, 4, 1}, positions()); diff != "" {
			t.Error(diff)
		}
		var order []string
		for range ids {
			all, err := svc.Sessions(t.Context(), launch.Caller{Trusted: true})
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			order = append(order, strings.TrimPrefix(all[0].Repo, "gh/o/r/"))
			if err := svc.Stop(t.Context(), launch.Caller{Trusted: true}, all[0].ID); err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * time.Second)
		}
		if diff := cmp.Diff([]string{"a0", "b0", "a1", "a2", "a3"}, order); diff != "" {
			t.Error(diff)
		}
		text := brief(follow(t, svc, ids[3], 0))
		for _, want := range []string{"queue waiting 4\n", "queue waiting 3\n", "queue waiting 1\n", "end ready\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	operator := launch.Caller{Trusted: true}
	tests := map[string]struct {
		set     func(c *launch.Config)
		callers []launch.Caller
		// want is each caller's fate: ready, waiting or limited.
		want []string
	}{
		"per owner": {func(c *launch.Config) { c.PerOwner = 1 }, []launch.Caller{ann, ann, {Owner: "bob"}, operator, operator}, []string{"ready", "waiting", "ready", "ready", "ready"}},
		"per repo":  {func(c *launch.Config) { c.PerRepository = 2 }, []launch.Caller{ann, {Owner: "b"}, {Owner: "c"}}, []string{"ready", "ready", "waiting"}},
		"queue":     {func(c *launch.Config) { c.MaxSessions, c.MaxQueue = 1, 1 }, []launch.Caller{ann, {Owner: "b"}, {Owner: "c"}, operator}, []string{"ready", "waiting", "limited", "waiting"}},
		"rate": {func(c *launch.Config) { c.AddressRate, c.AddressBurst = 60, 2 }, []launch.Caller{
			{Owner: "a", Address: "192.0.2.1"},
			{Owner: "b", Address: "192.0.2.1:99"},
			{Owner: "c", Address: "192.0.2.1"},
			{Owner: "c", Address: "192.0.2.2"},
			{Owner: "d", Address: "2001:db8::1"},
			{Owner: "e", Address: "2001:db8::2"},
			{Owner: "f", Address: "[2001:db8::3]:5"},
		}, []string{"ready", "ready", "limited", "ready", "ready", "ready", "limited"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.close()
				tt.set(&b.cfg)
				svc, stop := b.serve()
				defer stop()
				var got []string
				for i, c := range tt.callers {
					l, err := svc.Launch(t.Context(), c, ask(fmt.Sprint("r", i)))
					if err != nil {
						after, ok := launch.RetryAfter(err)
						if !ok || after < time.Second || after > time.Minute || binnacle.Public(err).Hint == "" {
							t.Error(after, ok, err)
						}
						got = append(got, string(binnacle.CodeOf(err)))
						continue
					}
					<-time.After(time.Millisecond)
					synctest.Wait()
					l, err = svc.Get(t.Context(), c, l.ID)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(l.Phase))
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestBuildsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		running, most := 0, 0
		b.bld.build = func(ctx context.Context, _ image.Request, _ func(binnacle.Event)) error {
			b.bld.mu.Lock()
			running++
			most = max(most, running)
			b.bld.mu.Unlock()
			<-time.After(time.Minute)
			b.bld.mu.Lock()
			running--
			b.bld.mu.Unlock()
			return nil
		}
		svc, stop := b.serve()
		defer stop()
		var ids []string
		for i := range 6 {
			ids = append(ids, begin(t, svc, launch.Caller{Owner: strconv.Itoa(i)}, ask(fmt.Sprint("r", i))))
		}
		for _, id := range ids {
			if e := end(t, svc, id); e.Phase != binnacle.PhaseReady {
				t.Errorf("%+v", e)
			}
		}
		if most != 2 {
			t.Errorf("%d builds at once", most)
		}
		told := 0
		for _, id := range ids {
			if strings.Contains(brief(follow(t, svc, id, 0)), "queue fetching") {
				told++
			}
		}
		if told != 4 {
			t.Errorf("%d of 4 were told their position", told)
		}
	})
}
