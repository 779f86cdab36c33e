package cli

import (
	"context"
	"io"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/launch"
)

// service is the launch service in the hub's words.
type service struct{ *launch.Service }

var _ hub.Service = service{}

// Launch is the service's.
func (s service) Launch(ctx context.Context, c hub.Caller, req binnacle.LaunchRequest) (binnacle.Launch, error) {
	return s.Service.Launch(ctx, launch.Caller(c), req)
}

// Get is the service's.
func (s service) Get(ctx context.Context, c hub.Caller, id string) (binnacle.Launch, error) {
	return s.Service.Get(ctx, launch.Caller(c), id)
}

// List is the service's.
func (s service) List(ctx context.Context, c hub.Caller) ([]binnacle.Launch, error) {
	return s.Service.List(ctx, launch.Caller(c))
}

// Cancel is the service's.
func (s service) Cancel(ctx context.Context, c hub.Caller, id string) error {
	return s.Service.Cancel(ctx, launch.Caller(c), id)
}

// Resolved is the service's.
func (s service) Resolved(ctx context.Context, c hub.Caller, id string) ([]binnacle.Resolved, error) {
	return s.Service.Resolved(ctx, launch.Caller(c), id)
}

// Events is the service's.
func (s service) Events(ctx context.Context, c hub.Caller, id string, after int64, yield func(binnacle.Event) error) error {
	return s.Service.Events(ctx, launch.Caller(c), id, after, yield)
}

// Sessions is the service's.
func (s service) Sessions(ctx context.Context, c hub.Caller) ([]binnacle.Session, error) {
	return s.Service.Sessions(ctx, launch.Caller(c))
}

// Stop is the service's.
func (s service) Stop(ctx context.Context, c hub.Caller, id string) error {
	return s.Service.Stop(ctx, launch.Caller(c), id)
}

// Session is the service's.
func (s service) Session(ctx context.Context, c hub.Caller, id string) (binnacle.Session, error) {
	return s.Service.Session(ctx, launch.Caller(c), id)
}

// Watched is the service's.
func (s service) Watched(ctx context.Context, c hub.Caller, id string) (bool, error) {
	return s.Service.Watched(ctx, launch.Caller(c), id)
}

// KeepAlive is the service's.
func (s service) KeepAlive(ctx context.Context, c hub.Caller, id string) (binnacle.Session, error) {
	return s.Service.KeepAlive(ctx, launch.Caller(c), id)
}

// Logs is the service's.
func (s service) Logs(ctx context.Context, c hub.Caller, id string, follow bool, w io.Writer) error {
	return s.Service.Logs(ctx, launch.Caller(c), id, follow, w)
}

// disk is the engine and the git mirrors as the launch service sees them.
type disk struct{ *server }

var _ launch.Disk = disk{}

// Usage is what both take, in bytes.
func (d disk) Usage(ctx context.Context) (int64, error) {
	u, err := janitor(d).Usage(ctx)
	return u.Total, err
}

// Prune keeps both within budget bytes.
func (d disk) Prune(ctx context.Context, budget int64) error {
	_, err := d.reclaim(ctx, budget)
	return err
}

// mirrorAge is how long a mirror that is not used stays although space is short.
const mirrorAge = 24 * time.Hour

// reclaim frees until engine and mirrors fit into budget: mirrors of today are
// the last to go, because they are small and fetching again is slow.
func (s *server) reclaim(ctx context.Context, budget int64) (freed int64, err error) {
	mirrors, err := s.source.Usage(ctx)
	if err != nil {
		return 0, err
	}
	const share = 4 // of the budget that mirrors may fill
	gone, err := s.source.Prune(ctx, mirrorAge, budget/share)
	if err != nil {
		return gone, err
	}
	if s.engine == nil {
		return gone, nil // builders and machines look after their own disks
	}
	keep, err := s.keep(ctx)
	if err != nil {
		return gone, err
	}
	freed, err = s.engine.Prune(ctx, max(0, budget-(mirrors-gone)), keep)
	return freed + gone, err
}

// keep says which images sessions run from and when others were last used.
func (s *server) keep(ctx context.Context) (engine.Keep, error) {
	running, err := s.spawner.List(ctx)
	if err != nil {
		return engine.Keep{}, err
	}
	inUse := map[string]bool{}
	for _, st := range running {
		inUse[st.Image] = true
	}
	images, err := s.store.Images(ctx)
	if err != nil {
		return engine.Keep{}, err
	}
	used := map[string]time.Time{}
	for _, img := range images {
		used[img.Name] = img.Used
	}
	return engine.Keep{
		InUse:   func(image string) bool { return inUse[image] },
		LastUse: func(image string) time.Time { return used[image] },
	}, nil
}

// janitor is the disk as the operator sees it.
type janitor struct{ *server }

var _ hub.Janitor = janitor{}

// Usage lists what takes disk. Layers are what images and build cache share.
func (j janitor) Usage(ctx context.Context) (hub.Usage, error) {
	u := hub.Usage{Budget: j.cfg.Launch.DiskBudget}
	var parts []engine.Use
	if j.engine != nil {
		var err error
		if parts, err = j.engine.Usage(ctx); err != nil {
			return u, err
		}
	}
	for _, p := range parts {
		part := hub.UsagePart{Name: p.Name, Count: p.Items, Bytes: p.Bytes}
		switch p.Name {
		case "layers", "archives":
			u.Total += p.Bytes
		default: // counted in the layers already
			part.Reclaimable = p.Bytes
			part.Name += " (part of the layers)"
		}
		u.Parts = append(u.Parts, part)
	}
	mirrors, err := j.source.Usage(ctx)
	if err != nil {
		return u, err
	}
	u.Total += mirrors
	u.Parts = append(u.Parts, hub.UsagePart{Name: "git mirrors", Bytes: mirrors, Reclaimable: mirrors})
	return u, nil
}

// Clean reclaims down to the request's budget.
func (j janitor) Clean(ctx context.Context, req hub.CleanRequest) (hub.CleanReport, error) {
	before, err := j.Usage(ctx)
	if err != nil {
		return hub.CleanReport{}, err
	}
	budget := req.Budget
	if budget == 0 {
		budget = j.cfg.Launch.DiskBudget
	}
	if req.All {
		budget = 0
	}
	if req.DryRun {
		var unused int64
		for _, p := range before.Parts {
			unused += p.Reclaimable
		}
		return hub.CleanReport{Freed: min(unused, max(0, before.Total-budget)), After: before}, nil
	}
	freed, err := j.reclaim(ctx, budget)
	if err != nil {
		return hub.CleanReport{}, err
	}
	after, err := j.Usage(ctx)
	return hub.CleanReport{Freed: freed, After: after}, err
}

// checks are what /health asks.
func (s *server) checks() []hub.Check {
	checks := []hub.Check{{Service: "database", Run: func(ctx context.Context) error {
		_, err := s.store.Unfinished(ctx)
		return err
	}}}
	if s.engine == nil {
		return append(checks, s.more...)
	}
	return append(append(checks, s.more...),
		hub.Check{Service: "containerd", Run: func(ctx context.Context) error {
			_, err := s.engine.Containerd().Version(ctx)
			return err
		}},
		hub.Check{Service: "buildkit", Run: func(ctx context.Context) error {
			_, err := s.engine.BuildKit().Info(engine.Clean(ctx))
			return err
		}},
	)
}
