package launch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Builds is how replicas agree which of them makes an image; *store.Store has it.
type Builds interface {
	ClaimBuild(ctx context.Context, b store.Build, silence time.Duration) (store.Build, bool, error)
	KeepBuild(ctx context.Context, b store.Build) (bool, error)
	EndBuild(ctx context.Context, b store.Build) error
	Building(ctx context.Context, key string, silence time.Duration) (store.Build, bool, error)
}

// once makes the image, unless another replica of the hub makes it: then that is
// followed, without a slot or a tree of its own, and gone on with should it end without
// an image.
func (b *build) once(ctx context.Context) (image.Image, error) {
	s := b.svc
	if !s.shared() {
		return b.make(ctx)
	}
	mine := store.Build{Key: b.key, Launch: b.id, Replica: s.deps.Replica}
	for {
		other, claimed, err := s.deps.Shared.ClaimBuild(ctx, mine, s.cfg.TakeOver)
		if err != nil {
			return image.Image{}, err
		}
		if claimed {
			return b.hold(ctx, mine)
		}
		img, ended, err := b.follow(ctx, other)
		if ended || err != nil {
			b.elsewhere = true
			return img, err
		}
		if ctx.Err() != nil {
			return image.Image{}, context.Cause(ctx)
		}
	}
}

// hold makes the image while other replicas see that it is at work.
func (b *build) hold(ctx context.Context, mine store.Build) (image.Image, error) {
	s := b.svc
	making, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { s.keep(making, mine) })
	img, err := b.make(ctx)
	stop()
	keeping.Wait()
	if ctx.Err() == nil {
		mine.Failure = forAll(err)
	}
	b.log.flush(context.WithoutCancel(ctx)) // they read it to its end
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.deps.Shared.EndBuild(end, mine); err != nil {
		s.log.WarnContext(ctx, "other replicas learn later that a build has ended", "build_id", b.id, "error", err)
	}
	return img, err
}

// keep shows the others that a build goes on until ctx ends.
func (s *Service) keep(ctx context.Context, mine store.Build) {
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kept, err := s.deps.Shared.KeepBuild(ctx, mine)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "that a build goes on is not written", "build_id", mine.Launch, "error", err)
		}
		if err == nil && !kept {
			// Both make the same image now, which does no harm.
			s.log.WarnContext(ctx, "another replica took this one for dead and builds the same", "build_id", mine.Launch)
			return
		}
	}
}

// forAll is a failure that would meet any replica which tries the same; nil when
// another one may have more luck.
func forAll(err error) *binnacle.Error {
	switch binnacle.CodeOf(err) {
	case "", binnacle.CodeCanceled, binnacle.CodeInternal, binnacle.CodeUnavailable:
		return nil
	default:
		return binnacle.Public(err)
	}
}

// follow tells the launches of another replica's build until that has ended. It returns
// false when it ended without an image, so that somebody else has to make it.
func (b *build) follow(ctx context.Context, other store.Build) (image.Image, bool, error) {
	s := b.svc
	s.log.InfoContext(ctx, "another replica builds the same, and is followed", "build_id", b.id, "other", other.Launch, "replica", other.Replica)
	b.log.add(ctx, fetchingLine("Another launch, through another replica of the hub, builds this environment already. This one follows that build."))
	defer s.news.tell(other.Launch) // nobody may, once it has ended
	for after := int64(0); ; {
		news := s.news.of(other.Launch)
		now, there, err := s.deps.Shared.Building(ctx, b.key, s.cfg.TakeOver)
		if err != nil {
			return image.Image{}, false, err
		}
		if after, err = b.retell(ctx, other.Launch, after); err != nil {
			return image.Image{}, false, err
		}
		there = there && now.Launch == other.Launch
		switch {
		case there && now.Failure != nil:
			return image.Image{}, false, now.Failure
		case !there:
			img, ok, err := s.deps.Builder.Find(ctx, b.rev, b.asked)
			if err == nil && !ok {
				b.log.add(ctx, fetchingLine("That build ended without an image: nobody waited for it any more, or its replica of the hub went away. It begins again, so this takes longer; steps that are in the cache are not repeated."))
			}
			return img, ok, err
		}
		if err := s.wait(ctx, news, true); err != nil {
			return image.Image{}, false, err
		}
	}
}

// fetchingLine is one in the log of a build that has no place yet where it is made.
func fetchingLine(text string) binnacle.Event {
	return binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseFetching, Message: text}
}

// retell tells this build's launches what another launch was told of its build after an
// event, and returns the number of the last.
func (b *build) retell(ctx context.Context, launch string, after int64) (int64, error) {
	for {
		events, err := b.svc.deps.Store.Events(ctx, launch, after)
		if err != nil || len(events) == 0 {
			return after, err
		}
		after = events[len(events)-1].ID
		if slices.ContainsFunc(b.attached(), func(r *run) bool { return r.id == launch }) {
			continue // it was taken over and follows with us: these are our own words
		}
		for _, e := range events {
			if err := b.repeat(ctx, e); err != nil {
				return after, err
			}
		}
	}
}

// repeat tells an event of another launch's build.
func (b *build) repeat(ctx context.Context, e binnacle.Event) error {
	if e.Phase != binnacle.PhaseFetching && e.Phase != binnacle.PhaseBuilding {
		return nil
	}
	switch e.Kind {
	case binnacle.EventLog, binnacle.EventStep, binnacle.EventNote:
		b.log.add(ctx, e)
	case binnacle.EventPhase:
		if e.Phase == binnacle.PhaseBuilding {
			return b.building(ctx)
		}
	default: // its place in the queue, and its end, are its own
	}
	return nil
}
