package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// build is the making of one image for all the launches that need it.
type build struct {
	svc     *Service
	key     string
	id      string // the launch it began for
	rev     binnacle.Revision
	asked   string // the interface that the link opens
	policy  source.Policy
	rebuild bool
	owner   string // whose turn in the queue it takes
	done    chan struct{}

	log       buildLog
	elsewhere bool // another replica made it, or failed to; of run's

	mu     sync.Mutex
	phase  binnacle.Phase
	runs   map[*run]struct{}
	closed bool   // nobody can join any more
	next   *build // which makes the same image; set before done is closed
	cancel context.CancelCauseFunc
	img    image.Image
	err    error
}

// errUnwanted is why a build ends that nobody waits for.
var errUnwanted = &binnacle.Error{Code: binnacle.CodeCanceled, Op: "build", Message: "Nobody waits for this build any more."}

// image returns the launch's image: the one that is there, or one built.
func (s *Service) image(ctx context.Context, r *run) (image.Image, error) {
	rec := r.record()
	rev := *rec.Revision
	asked := recipe.InterfaceOf(rec.Path)
	fetching := rec.Remade
	for {
		if !rec.Request.Rebuild && !rec.Remade {
			img, ok, err := s.deps.Builder.Find(ctx, rev, asked)
			if err != nil {
				return image.Image{}, err
			}
			if ok {
				return img, s.say(ctx, r, binnacle.Event{Kind: binnacle.EventLog, Message: "Found built image " + img.Name + ".", Image: img.Name})
			}
		}
		if !fetching {
			if err := s.step(ctx, r, binnacle.PhaseFetching, binnacle.Event{}, nil); err != nil {
				return image.Image{}, err
			}
			fetching = true
		}
		b, fresh := s.buildFor(r, rev, asked)
		ok, err := b.attach(ctx, r)
		if err != nil {
			b.detach(r)
		}
		if fresh {
			// Only now, so that nothing it says goes unheard.
			s.own(b.run)
		}
		if err != nil {
			return image.Image{}, err
		}
		if ok {
			return b.wait(ctx, r)
		}
	}
}

// buildFor returns the build for a revision and the interface asked for, and
// whether it is a new one, which the caller has to start.
func (s *Service) buildFor(r *run, rev binnacle.Revision, asked string) (_ *build, fresh bool) {
	rec := r.record()
	policy := source.Policy{Local: rec.Trusted}
	// What only a trusted caller may fetch is never shared with others while
	// it is built; equal images are joined later, by name.
	key := fmt.Sprintf("%t %s %s %s %q", policy.Local, rev.URL, rev.Commit, asked, rev.Spec.Subdir)
	s.mu.Lock()
	b := s.byKey[key]
	if b != nil {
		s.mu.Unlock()
		return b, false
	}
	b = &build{
		svc: s, key: key, id: r.id, rev: rev, asked: asked, policy: policy, rebuild: rec.Request.Rebuild || rec.Remade, owner: r.caller.key(),
		done: make(chan struct{}), phase: binnacle.PhaseFetching, runs: map[*run]struct{}{},
	}
	b.log = buildLog{limit: s.cfg.BuildLogCap, write: b.write}
	s.byKey[key] = b
	s.mu.Unlock()
	return b, true
}

// attach makes r a launch of this build and gives it the log so far. It returns
// false when the build is over.
func (b *build) attach(ctx context.Context, r *run) (bool, error) {
	b.log.flush(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	batches := b.log.written()
	if err := b.svc.deps.Store.Share(ctx, store.Cursor{Launch: r.id, First: r.next, Epoch: r.rec.Epoch}, batches); err != nil {
		return false, r.taken(err)
	}
	for _, batch := range batches {
		r.next += int64(batch.Count)
	}
	if b.phase == binnacle.PhaseBuilding {
		rec := r.rec
		rec.Phases = slices.Clone(rec.Phases)
		enter(&rec, binnacle.PhaseBuilding, time.Now().UTC())
		if _, err := b.svc.deps.Store.Append(ctx, nil, nil, rec); err != nil {
			return false, r.taken(err)
		}
		r.rec = rec
	}
	r.signal()
	b.runs[r] = struct{}{}
	return true, nil
}

// detach takes r out; a build without launches ends.
func (b *build) detach(r *run) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		b.next.detach(r)
		return
	}
	delete(b.runs, r)
	if len(b.runs) > 0 || b.closed {
		return
	}
	b.closed = true
	if b.cancel != nil {
		b.cancel(errUnwanted)
	}
	b.svc.dropBuild(b)
}

// wait returns what the build made.
func (b *build) wait(ctx context.Context, r *run) (image.Image, error) {
	for {
		select {
		case <-ctx.Done():
			b.detach(r)
			return image.Image{}, context.Cause(ctx)
		case <-b.done:
		}
		b.mu.Lock()
		next, img, err := b.next, b.img, b.err
		b.mu.Unlock()
		if next == nil {
			return img, err
		}
		b = next
	}
}

// dropBuild makes room for another build of the same.
func (s *Service) dropBuild(b *build) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.byKey, func(_ string, o *build) bool { return o == b })
	maps.DeleteFunc(s.byName, func(_ string, o *build) bool { return o == b })
}

// run is the build's life.
func (b *build) run(root context.Context) {
	ctx, cancel := context.WithCancelCause(root)
	defer cancel(nil)
	b.mu.Lock()
	b.cancel = cancel
	if b.closed {
		cancel(errUnwanted)
	}
	b.mu.Unlock()
	begin := time.Now()
	img, err := b.once(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	b.log.close(context.WithoutCancel(ctx))
	b.mu.Lock()
	b.closed, b.img = true, img
	b.err = err
	moved := b.next != nil
	b.mu.Unlock()
	b.svc.dropBuild(b)
	close(b.done)
	if !moved && !b.elsewhere {
		b.svc.deps.Observer.BuildDone(cmp.Or(string(binnacle.CodeOf(err)), "success"), time.Since(begin), b.rev.Spec.Provider)
	}
}

// make takes its turn, fetches, reads, builds.
func (b *build) make(ctx context.Context) (image.Image, error) {
	s := b.svc
	slot, err := s.builds.join(ctx, b.id, asker{owner: b.owner, exempt: true}, false)
	if err != nil {
		return image.Image{}, err
	}
	defer s.builds.leave(ctx, slot)
	err = s.builds.wait(ctx, slot, func(position int) { s.queued(ctx, binnacle.PhaseFetching, position, b.attached()...) })
	if err != nil {
		return image.Image{}, err
	}
	for _, r := range b.attached() {
		r.mu.Lock()
		r.position = 0
		r.mu.Unlock()
	}
	if s.cfg.BuildTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.BuildTimeout, &binnacle.Error{
			Code: binnacle.CodeTimeout, Op: "build", Message: "The build took longer than " + sentence(s.cfg.BuildTimeout) + " and was stopped.",
			Hint: "Install less, or pin versions so that the solver has less to search. The operator can raise build_timeout.",
		})
		defer cancel()
	}
	ctx, said, stop := silence(ctx, s.cfg.BuildSilence)
	defer stop()
	img, err := b.fetchAndBuild(ctx, said)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = cause // else it tells more of why ctx ended
	}
	return img, err
}

func (b *build) fetchAndBuild(ctx context.Context, said func()) (image.Image, error) {
	s := b.svc
	if !b.rebuild {
		// Somebody may have built it between this launch's look and its turn.
		img, ok, err := s.deps.Builder.Find(ctx, b.rev, b.asked)
		if err != nil || ok {
			return img, err
		}
	}
	dir := filepath.Join(s.cfg.Checkouts, b.id)
	if err := errors.Join(os.MkdirAll(s.cfg.Checkouts, 0o700), os.RemoveAll(dir)); err != nil {
		return image.Image{}, err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			s.log.WarnContext(ctx, "checkout not removed", "launch_id", b.id, "error", err)
		}
	}()
	err := s.deps.Source.Fetch(ctx, b.rev, b.policy, dir, func(line string) {
		said()
		e := binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseFetching, Message: line}
		if note, ok := strings.CutPrefix(line, source.Note); ok {
			e.Kind, e.Message, e.Error = binnacle.EventNote, note, binnacle.Errorf(binnacle.CodeInvalid, "%s", note)
		}
		b.log.add(ctx, e)
	})
	if err != nil {
		return image.Image{}, err
	}
	made, err := s.commitTime(ctx, b.rev)
	if err != nil {
		return image.Image{}, err
	}
	rec, err := b.read(ctx, dir, made)
	if err != nil {
		return image.Image{}, err
	}
	name := s.deps.ImageName(b.rev, rec)
	if other := s.claim(b, name); other != nil && b.moveTo(ctx, other) {
		return image.Image{}, nil
	}
	if err := b.building(ctx); err != nil {
		return image.Image{}, err
	}
	begin := time.Now()
	req := image.Request{Revision: b.rev, Recipe: rec, Dir: dir, Name: name, Asked: b.asked}
	if !made.IsZero() {
		req.Time = made.Unix()
	}
	img, err := b.solve(ctx, req, said)
	if err == nil && img.Environment != "" {
		err = s.deps.Store.BuiltEnvironment(ctx, img.Environment, time.Since(begin), time.Now())
	}
	return img, err
}

// commitTime is when the commit was made; zero when the source does not know. It
// makes two machines build the same layers.
func (s *Service) commitTime(ctx context.Context, rev binnacle.Revision) (time.Time, error) {
	known, ok := s.deps.Source.(interface {
		CommitTime(ctx context.Context, rev binnacle.Revision) (time.Time, error)
	})
	if !ok {
		return time.Time{}, nil
	}
	return known.CommitTime(ctx, rev)
}

// read reads the recipe of a commit of that time and tells its warnings.
func (b *build) read(ctx context.Context, dir string, made time.Time) (recipe.Recipe, error) {
	// A Root does not follow the repository's links out of its tree.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return recipe.Recipe{}, err
	}
	rec, err := b.svc.deps.Recipe(root.FS(), made, b.asked)
	if err = errors.Join(err, root.Close()); err != nil {
		return recipe.Recipe{}, err
	}
	for _, i := range rec.Interfaces {
		b.log.add(ctx, binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseFetching, Message: "A session offers " + i.Path + ": " + i.Why + "."})
	}
	for _, n := range rec.Notes {
		b.log.add(ctx, binnacle.Event{
			Kind: binnacle.EventNote, Phase: binnacle.PhaseFetching, Message: n.Message,
			Error: &binnacle.Error{Code: binnacle.CodeInvalid, Message: n.Message, Hint: n.Hint, File: n.File, Line: n.Line},
		})
	}
	return rec, nil
}

// solve builds, a second time when what builds went away under it.
func (b *build) solve(ctx context.Context, req image.Request, said func()) (image.Image, error) {
	event := func(e binnacle.Event) {
		said()
		switch e.Kind {
		case binnacle.EventLog, binnacle.EventStep, binnacle.EventNote:
			e.Phase = binnacle.PhaseBuilding
			b.log.add(ctx, e)
		default: // phases are told here
		}
	}
	img, err := b.svc.deps.Builder.Build(ctx, req, event)
	if binnacle.CodeOf(err) != binnacle.CodeUnavailable || ctx.Err() != nil {
		return img, err
	}
	b.svc.log.WarnContext(ctx, "build is tried again", "build_id", b.id, "error", err)
	event(binnacle.Event{Kind: binnacle.EventLog, Message: "The builder went away; trying once more."})
	return b.svc.deps.Builder.Build(ctx, req, event)
}

// claim notes that b makes the image called name, or returns who already does.
func (s *Service) claim(b *build, name string) *build {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.byName[name]; other != nil && other != b {
		return other
	}
	s.byName[name] = b
	return nil
}

// moveTo hands all launches to the build that already makes the same image. It
// returns false when that one has just ended.
func (b *build) moveTo(ctx context.Context, other *build) bool {
	b.log.flush(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.runs {
		ok, err := other.attach(ctx, r)
		if err == nil && ok {
			continue
		}
		// It ended meanwhile, so we go on ourselves, for all.
		for r := range b.runs {
			other.detach(r)
		}
		return false
	}
	b.next, b.closed, b.runs = other, true, nil
	return true
}

// building enters the next phase, for the build and all its launches.
func (b *build) building(ctx context.Context) error {
	b.log.flush(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase == binnacle.PhaseBuilding {
		return nil // another replica got so far, and went away
	}
	now := time.Now().UTC()
	runs := slices.Collect(maps.Keys(b.runs))
	e := binnacle.Event{Time: now, Kind: binnacle.EventPhase, Phase: binnacle.PhaseBuilding}
	if len(runs) > 0 {
		rec := runs[0].record()
		e.Millis = now.Sub(rec.Phases[len(rec.Phases)-1].Start).Milliseconds()
		b.svc.deps.Observer.PhaseDone(binnacle.PhaseFetching, "success", now.Sub(rec.Phases[len(rec.Phases)-1].Start), rec.Spec.Provider)
	}
	batch, err := b.svc.write(ctx, runs, []binnacle.Event{e}, func(rec *store.Launch) { enter(rec, binnacle.PhaseBuilding, now) })
	if err != nil {
		return err
	}
	if batch.Count == 0 {
		return errUnwanted // other replicas have taken all its launches
	}
	b.phase = binnacle.PhaseBuilding
	b.log.wrote(batch)
	return nil
}

func (b *build) attached() []*run {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.runs))
}

// write is the log's way to the launches. The lock keeps a launch that joins
// from missing or doubling the batch.
func (b *build) write(ctx context.Context, events []binnacle.Event, wrote func(store.Batch)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch, err := b.svc.write(ctx, slices.Collect(maps.Keys(b.runs)), events, nil)
	if err != nil {
		b.svc.log.ErrorContext(ctx, "build log not written", "build_id", b.id, "lines", len(events), "error", err)
		return
	}
	wrote(batch)
}

// silence returns a context that ends when said is not called for d.
func silence(ctx context.Context, d time.Duration) (_ context.Context, said, stop func()) {
	if d <= 0 {
		return ctx, func() {}, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() {
		cancel(&binnacle.Error{
			Code: binnacle.CodeTimeout, Op: "build", Message: "The build said nothing for " + sentence(d) + " and was stopped.",
			Hint: "A step waits for something that does not come: look at the last lines of the log. The operator can raise build_silence.",
		})
	})
	return ctx, func() {
			if timer.Stop() {
				timer.Reset(d)
			}
		}, func() {
			timer.Stop()
			cancel(nil)
		}
}
