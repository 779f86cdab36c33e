package e2e_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// rolling: an upgrade that replaces every replica fails nobody, and neither does
// whoever empties the nodes of both: no request, no launch, and a kernel that somebody
// works with is there as soon as her browser connects again.
func (h *clusterHub) rolling(t *testing.T) {
	t.Helper()
	worker, s := ready(t, h.person, launchOf(h.example.URL))
	k := kernelWith12Knots(t, s)
	ctx, stop := context.WithCancel(t.Context())
	var asked, failed, worked, again, launched, found atomic.Int64
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for range 4 {
		asking.Go(func() { h.asks(ctx, t, &asked, &failed) })
	}
	asking.Go(func() { works(ctx, t, s, k, &worked, &again) })
	asking.Go(func() { launches(ctx, t, h.person, launchOf(h.example.URL), &launched) })
	stranger := &person{Client: dial(h.url)}
	asking.Go(func() {
		launches(ctx, t, stranger, binnacle.LaunchRequest{Repo: h.example.URL, BuildOnly: true}, &found)
	})
	h.values["hub"].(map[string]any)["annotations"] = map[string]any{"example.org/turn": "two"}
	h.upgrade(t)
	h.drained(t)
	// The last of those that go may still have the kernel's connection.
	eventually(t, "the kernel is reached through another replica", func() bool { return again.Load() > 0 || t.Failed() })
	eventually(t, "work went on", func() bool {
		return asked.Load() >= 100 && worked.Load() >= 10 && launched.Load() > 0 && found.Load() >= 5 || t.Failed()
	})
	stop()
	asking.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed during an upgrade and while nodes were emptied", failed.Load(), asked.Load())
	}
	t.Logf("%d requests, %d cells with %d connections more; %d sessions and %d images were launched", asked.Load(), worked.Load(), again.Load(), launched.Load(), found.Load())
	k = h.attach(t, s, k.ID)
	runCell(t, k, "print(knots > 12)", "True")
	if err := errors.Join(k.Close(), h.person.Stop(t.Context(), worker.Session.ID)); err != nil {
		t.Error(err)
	}
}

// asks asks the hub, by a new connection each time, until ctx ends.
func (h *clusterHub) asks(ctx context.Context, t *testing.T, asked, failed *atomic.Int64) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for ctx.Err() == nil {
		asked.Add(1)
		res, err := c.Get(h.url + "versions")
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			err = errors.Join(err, res.Body.Close())
		}
		if err != nil || res.StatusCode != http.StatusOK {
			failed.Add(1)
			t.Log(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// works runs cells until ctx ends. Its WebSocket ends with the replica that it leads
// through; then it connects again, as a browser does, and that must succeed at once.
func works(ctx context.Context, t *testing.T, s jupyter.Server, k *jupyter.Kernel, worked, again *atomic.Int64) {
	t.Helper()
	defer func() { _ = k.Close() }() // its replica may be ending
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		res, err := k.Execute(whole, "knots += 1; print(knots > 12)")
		switch {
		case err != nil:
			_ = k.Close()
			next, aerr := s.Attach(whole, k.ID)
			if aerr != nil {
				t.Errorf("a kernel is not reached again: %v, after %v", aerr, err)
				return
			}
			k = next
			again.Add(1)
		case res.Error != "" || strings.TrimSpace(res.Stdout) != "True":
			t.Errorf("a cell gave %+v", res)
		default:
			worked.Add(1)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// launches launches a repository, follows that to its end and stops its session, again
// and again until ctx ends.
func launches(ctx context.Context, t *testing.T, p *person, req binnacle.LaunchRequest, launched *atomic.Int64) {
	t.Helper()
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		l, err := p.Launch(whole, req)
		if err != nil {
			t.Errorf("a launch during an upgrade is refused: %v", err)
			return
		}
		text := ""
		err = p.Events(whole, l.ID, 0, func(e binnacle.Event) error {
			text += e.Message + "\n"
			return nil
		})
		got, gerr := p.Get(whole, l.ID)
		if err := errors.Join(err, gerr); err != nil || got.Phase != binnacle.PhaseReady {
			t.Errorf("a launch during an upgrade: %+v %v\n%s", got, err, text)
			return
		}
		if got.Session != nil {
			if err := p.Stop(whole, got.Session.ID); err != nil {
				t.Errorf("a session is not stopped during an upgrade: %v", err)
			}
		}
		launched.Add(1)
		<-time.After(50 * time.Millisecond)
	}
}

// drained evicts all replicas, as `kubectl drain` does: one has to wait until the
// other is replaced.
func (h *clusterHub) drained(t *testing.T) {
	t.Helper()
	evict := func(r replica) error {
		return h.Client.PolicyV1().Evictions(h.namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: r.name, Namespace: h.namespace}})
	}
	all := h.each(t)
	eventually(t, "one may go", func() bool { return evict(all[0]) == nil })
	if err := evict(all[1]); !apierrors.IsTooManyRequests(err) {
		t.Errorf("both replicas may go at once: %v", err)
	}
	eventually(t, "the second may go once the first is replaced", func() bool { return evict(all[1]) == nil })
	eventually(t, "two replicas are ready again", func() bool {
		now := h.ready(t)
		return len(now) == 2 && !slices.ContainsFunc(now, func(r replica) bool { return r.name == all[0].name || r.name == all[1].name })
	})
}
