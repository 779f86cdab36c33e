package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/jupyter"
)

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func idleMemory(_ context.Context, r *report, h *hub, _ int) error {
	mb, err := h.memory()
	if err != nil {
		return err
	}
	r.add("hub memory, idle after start", "MiB", "resident, with containerd and BuildKit inside", mb)
	return nil
}

// coldBuild is the first environment of a machine: the base is there, nothing
// else is. A second one shares the server's layer.
func coldBuild(ctx context.Context, r *report, h *hub, _ int) error {
	empty, err := h.git.Repo(ctx, "empty", "")
	if err != nil {
		return err
	}
	if _, err := empty.Commit(ctx, map[string]string{"Dockerfile": "FROM binnacle.local/base\n"}); err != nil {
		return err
	}
	if _, _, err := h.launch(ctx, binnacle.LaunchRequest{Repo: empty.URL, BuildOnly: true}); err != nil {
		return fmt.Errorf("prepare the base: %w", err)
	}
	_, took, err := h.launch(ctx, binnacle.LaunchRequest{Repo: h.repo.URL, BuildOnly: true})
	if err != nil {
		return err
	}
	r.add("cold build of the requirements example", "s", "base present; Python, JupyterLab and the requirements downloaded", took.Seconds())
	other, err := h.git.Repo(ctx, "other", "")
	if err != nil {
		return err
	}
	if _, err := other.Commit(ctx, map[string]string{"requirements.txt": "humanize==4.12.3\n"}); err != nil {
		return err
	}
	_, took, err = h.launch(ctx, binnacle.LaunchRequest{Repo: other.URL, BuildOnly: true})
	if err != nil {
		return err
	}
	r.add("first build of another environment", "s", "one other requirement; shares the server's layer", took.Seconds())
	return nil
}

// relaunch is a click on a repository whose image is present.
func relaunch(ctx context.Context, r *report, h *hub, rounds int) error {
	var took []float64
	for range rounds {
		l, d, err := h.launch(ctx, binnacle.LaunchRequest{Repo: h.repo.URL})
		if err != nil {
			return err
		}
		took = append(took, milliseconds(d))
		lab, err := renderLab(ctx, l)
		if err != nil {
			r.Missing = append(r.Missing, "rendered JupyterLab: "+err.Error())
		} else {
			r.add("JupyterLab rendered after the server answered", "ms", "Chromium, empty cache", milliseconds(lab))
		}
		if err := h.client.Stop(ctx, l.Session.ID); err != nil {
			return err
		}
	}
	r.add("relaunch, image present: request to /api/status 200", "ms", "the ref is resolved at the git server each time", took...)
	merge(r, "JupyterLab rendered after the server answered")
	return nil
}

// merge makes one figure of those with the same name.
func merge(r *report, name string) {
	var rest []figure
	var one *figure
	for _, f := range r.Figures {
		switch {
		case f.Name != name:
			rest = append(rest, f)
		case one == nil:
			one = &f
		default:
			one.Values = append(one.Values, f.Values...)
		}
	}
	if one != nil {
		rest = append(rest, *one)
	}
	r.Figures = rest
}

// notebookCommit is a push that only touches a notebook, and a click.
func notebookCommit(ctx context.Context, r *report, h *hub, rounds int) error {
	var build, whole []float64
	for i := range rounds {
		if _, err := h.repo.Commit(ctx, map[string]string{"notes.md": fmt.Sprintf("change %d\n", i)}); err != nil {
			return err
		}
		l, d, err := h.launch(ctx, binnacle.LaunchRequest{Repo: h.repo.URL})
		if err != nil {
			return err
		}
		whole = append(whole, milliseconds(d))
		for _, p := range l.Phases {
			if p.Phase == binnacle.PhaseBuilding {
				build = append(build, float64(p.Millis))
			}
		}
		if err := h.client.Stop(ctx, l.Session.ID); err != nil {
			return err
		}
	}
	r.add("after a notebook-only commit: request to /api/status 200", "ms", "resolve, fetch, build, start", whole...)
	r.add("after a notebook-only commit: the build alone", "ms", "", build...)
	return nil
}

// cells measures 1+1 on a warm kernel, through us and directly over TCP.
func cells(ctx context.Context, r *report, h *hub, rounds int) error {
	l, _, err := h.launch(ctx, binnacle.LaunchRequest{Repo: h.repo.URL})
	if err != nil {
		return err
	}
	ours, err := roundTrips(ctx, server(l), rounds*8)
	if err != nil {
		return err
	}
	r.add("cell round trip on a warm kernel, through the hub", "ms", "unix socket behind the proxy", ours...)
	if err := h.client.Stop(ctx, l.Session.ID); err != nil {
		return err
	}
	h.tcp, err = startTCP(ctx)
	if err != nil {
		r.Missing = append(r.Missing, "cell round trip directly over TCP: "+err.Error())
		return nil //nolint:nilerr // said in the report
	}
	direct, err := roundTrips(ctx, h.tcp.server, rounds*8)
	if err != nil {
		return err
	}
	r.add("cell round trip on a warm kernel, directly over TCP", "ms", "the same JupyterLab on loopback, no proxy", direct...)
	return nil
}

func roundTrips(ctx context.Context, s jupyter.Server, n int) ([]float64, error) {
	k, err := s.StartKernel(ctx, "")
	if err != nil {
		return nil, err
	}
	var took []float64
	for i := range n + 3 {
		start := time.Now()
		res, err := k.Execute(ctx, "1+1")
		if err != nil || res.Text != "2" {
			return nil, errors.Join(fmt.Errorf("1+1 gave %+v", res), err, k.Close())
		}
		if i >= 3 { // the first ones warm up
			took = append(took, milliseconds(time.Since(start)))
		}
	}
	return took, k.Close()
}

// many is twenty people at once.
func many(ctx context.Context, r *report, h *hub, _ int) error {
	const people = 20
	before, err := h.memory()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var took []float64
	var ids []string
	var errs []error
	var wg sync.WaitGroup
	start := time.Now()
	for range people {
		wg.Go(func() {
			l, d, err := h.launch(ctx, binnacle.LaunchRequest{Repo: h.repo.URL})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			took = append(took, d.Seconds())
			ids = append(ids, l.Session.ID)
		})
	}
	wg.Wait()
	all := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.add("20 launches at once: each", "s", "image present", took...)
	r.add("20 launches at once: all", "s", "", all.Seconds())
	after, err := h.memory()
	if err != nil {
		return err
	}
	r.add("hub memory, 20 sessions", "MiB", fmt.Sprintf("%.0f MiB before", before), after)
	for _, id := range ids {
		errs = append(errs, h.client.Stop(ctx, id))
	}
	return errors.Join(errs...)
}
