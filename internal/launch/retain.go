package launch

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Images is a registry whose old images are removed.
type Images interface {
	// Remove removes an image, but for what those that are kept share with it; one
	// that is not there is no error. Returns forbidden when the registry does not
	// let images be removed.
	Remove(ctx context.Context, image string, kept []string) error
}

// Removals says how many images were removed from the registry, and how often that
// failed, since this process began.
func (s *Service) Removals() (removed, failed int64) {
	return s.removed.Load(), s.notRemoved.Load()
}

// retain removes images that were not launched for KeepImages. It returns false
// when there is no use in trying again.
func (s *Service) retain(ctx context.Context) bool {
	before := time.Now().Add(-s.cfg.KeepImages)
	all, err := s.deps.Store.Images(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "old images not listed", "error", err)
		return true
	}
	used, err := s.usedImages(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "old images stay, because what sessions use is not known", "error", err)
		return true
	}
	var old []store.Image
	var kept []string
	for _, i := range all { // the least recently used first
		if i.Used.Before(before) && !slices.ContainsFunc(used, func(name string) bool { return name == i.Name || strings.HasPrefix(name, i.Name+"@") }) {
			old = append(old, i)
		} else {
			kept = append(kept, i.Name)
		}
	}
	for n, i := range old {
		if ctx.Err() != nil || !s.leads() {
			return true
		}
		// A launch may have taken it meanwhile: then it stays.
		gone, err := s.deps.Store.ForgetUnused(ctx, i.Name, before)
		if err != nil {
			s.log.WarnContext(ctx, "old image not removed", "image", i.Name, "error", err)
			return true
		}
		if !gone {
			kept = append(kept, i.Name)
			continue
		}
		others := slices.Clone(kept)
		for _, o := range old[n+1:] {
			others = append(others, o.Name)
		}
		if err := s.deps.Images.Remove(ctx, i.Name, others); err != nil {
			s.notRemoved.Add(1)
			if back := s.deps.Store.RememberImage(context.WithoutCancel(ctx), i); back != nil {
				s.log.WarnContext(ctx, "old image not remembered", "image", i.Name, "error", back)
			}
			if binnacle.CodeOf(err) == binnacle.CodeForbidden {
				s.log.ErrorContext(ctx, "old images are not removed", "error", err)
				return false
			}
			s.log.WarnContext(ctx, "old image not removed", "image", i.Name, "error", err)
			return true
		}
		s.removed.Add(1)
		s.log.InfoContext(ctx, "old image removed from the registry", "image", i.Name, "used", i.Used)
	}
	return true
}

// usedImages are those of sessions and of launches that are under way.
func (s *Service) usedImages(ctx context.Context) ([]string, error) {
	var used []string
	sessions, err := s.deps.Spawner.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, st := range sessions {
		used = append(used, st.Image)
	}
	open, err := s.deps.Store.Unfinished(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range open {
		used = append(used, l.Image)
	}
	running, err := s.deps.Store.RunningSessions(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range running {
		if l, err := s.deps.Store.Launch(ctx, r.Launch); err == nil {
			used = append(used, l.Image)
		} else if binnacle.CodeOf(err) != binnacle.CodeNotFound {
			return nil, err
		}
	}
	return used, nil
}
