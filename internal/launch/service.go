// Package launch takes a launch from a Spec to a running Session: resolve,
// build what is missing, start, watch over it until it ends.
//
// A launch belongs to this package, not to the request that asked for it: it
// goes on when everybody left, any number may watch it, and a hub that was
// killed continues it. Every phase is on the disk before it is acted upon.
// Launches that need the same image share one build.
//
// [Service.Run] does the work; the other methods ask for it and look at it.
package launch

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Source finds and fetches repositories.
type Source interface {
	ResolveTarget(ctx context.Context, t source.Target, p source.Policy) (binnacle.Revision, string, error)
	Fetch(ctx context.Context, rev binnacle.Revision, p source.Policy, dir string, out func(line string)) error
}

// Builder makes images.
type Builder interface {
	// Find looks for the image of a revision; asked is an interface it has to
	// offer, or empty.
	Find(ctx context.Context, rev binnacle.Revision, asked string) (image.Image, bool, error)
	// Build is told nothing twice: the service joins equal requests. Errors that
	// the repository caused are build_failed with File and Line.
	Build(ctx context.Context, req image.Request, event func(binnacle.Event)) (image.Image, error)
	// Resolved tells the exact versions in an image.
	Resolved(ctx context.Context, name string) ([]binnacle.Resolved, error)
}

// Activity knows when people last talked to sessions: the proxy.
type Activity interface {
	LastActivity(id string) time.Time // zero: never
	Forget(id string)
}

// Store keeps launches; *store.Store is one.
type Store interface {
	Launch(ctx context.Context, id string) (store.Launch, error)
	Launches(ctx context.Context, owner string, all bool, limit int) ([]store.Launch, error)
	Unfinished(ctx context.Context) ([]store.Launch, error)
	Append(ctx context.Context, to []store.Cursor, events []binnacle.Event, save ...store.Launch) (store.Batch, error)
	Share(ctx context.Context, to store.Cursor, batches []store.Batch) error
	Events(ctx context.Context, launch string, after int64) ([]binnacle.Event, error)
	LastEvent(ctx context.Context, launch string) (id, bytes int64, err error)
	PutSession(ctx context.Context, s store.Session) error
	Session(ctx context.Context, id string) (store.Session, error)
	RunningSessions(ctx context.Context) ([]store.Session, error)
	EndedSessions(ctx context.Context, limit int) ([]store.Session, error)
	UseImage(ctx context.Context, name, environment string, now time.Time) error
	Images(ctx context.Context) ([]store.Image, error)
	ForgetUnused(ctx context.Context, name string, before time.Time) (bool, error)
	RememberImage(ctx context.Context, i store.Image) error
	BuiltEnvironment(ctx context.Context, hash string, took time.Duration, now time.Time) error
	Prune(ctx context.Context, before time.Time, keep int) (int64, error)
}

// Disk is what images and caches take.
type Disk interface {
	Usage(ctx context.Context) (int64, error)
	// Prune removes what was not used for longest until at most budget bytes are taken.
	Prune(ctx context.Context, budget int64) error
}

// Observer counts; its methods must not block. The outcome is "success",
// "canceled" or an error's code.
type Observer interface {
	PhaseDone(phase binnacle.Phase, outcome string, d time.Duration, provider binnacle.Provider)
	LaunchDone(outcome string, d time.Duration, provider binnacle.Provider)
	// BuildDone is told once for a build however many launches share it.
	BuildDone(outcome string, d time.Duration, provider binnacle.Provider)
	// SessionDone is told why: "idle", "age", "stopped", "exited", "orphan".
	SessionDone(why string, age time.Duration)
}

// Deps are the parts a Service works with. Activity, Disk and Observer may be nil.
type Deps struct {
	// Replica names this process among the replicas of a hub, and Shared is how
	// it works together with them; nil: it is the only one. Leader may be nil:
	// it leads always.
	Replica string
	Shared  Shared
	Leader  Leader

	Source Source
	// Recipe reads a repository; asked is the interface that the link opens.
	Recipe  func(fsys fs.FS, date time.Time, asked string) (recipe.Recipe, error)
	Builder Builder
	// ImageName names the image of a revision; launches that need the same name
	// share one build.
	ImageName func(rev binnacle.Revision, r recipe.Recipe) string
	Spawner   session.Spawner
	Activity  Activity
	Store     Store
	Disk      Disk
	// Images may be nil: then none are removed from a registry.
	Images     Images
	Observer   Observer
	SessionURL func(id string) string // ends with a slash
	Log        *slog.Logger
}

// Service launches. It is safe for concurrent use.
type Service struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	gate gate

	rates    *buckets
	sessions line // slots for sessions, asked for before anything is done
	builds   line
	places   map[store.Queue]*sharedLine // both, where replicas share them
	audience audience
	starts   chan struct{} // full: as many sessions are starting as may
	resolved refs

	mu        sync.Mutex
	stopping  bool
	started   bool                    // recovery is done, inbox is served
	recovered chan struct{}           // closed with started
	inbox     []func(context.Context) // work for Run to own
	wake      chan struct{}
	runs      map[string]*run   // launches that are not final
	byKey     map[string]*build // running builds, by what they build
	byName    map[string]*build // the same, by image, once that is known
	live      map[string]*live  // sessions
	led       bool              // at the last round over the sessions
	news      news
	canceled  chan struct{} // full: another replica canceled a launch
	gone      goneList

	removed, notRemoved atomic.Int64 // images, from the registry
}

// errStopping is why everything ends when the hub does: nothing failed.
var errStopping = errors.New("hub stops")

// New checks the configuration and returns a Service that does nothing before Run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = room(cfg.Limits.Memory)
	}
	banned, err := compile(cfg.BannedSpecs)
	if err != nil {
		return nil, err
	}
	allowed, err := compile(cfg.AllowedSpecs)
	if err != nil {
		return nil, err
	}
	if deps.Activity == nil {
		deps.Activity = quiet{}
	}
	if deps.Observer == nil {
		deps.Observer = quiet{}
	}
	const resolves = 16
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Log, gate: gate{banned, allowed},
		rates:    newBuckets(cfg.AddressRate, cfg.AddressBurst),
		sessions: newQueue(cfg.MaxSessions, cfg.PerOwner, cfg.PerRepository),
		builds:   newQueue(cfg.MaxBuilds, 0, 0),
		starts:   make(chan struct{}, cfg.MaxStarts),
		resolved: refs{keep: cfg.ResolveCache, calls: map[refKey]*refCall{}, busy: make(chan struct{}, resolves)},
		wake:     make(chan struct{}, 1),
		runs:     map[string]*run{}, byKey: map[string]*build{}, byName: map[string]*build{}, live: map[string]*live{},
		canceled: make(chan struct{}, 1), recovered: make(chan struct{}), gone: goneList{reasons: map[string]string{}},
	}
	if s.shared() {
		sessions := newSharedLine(deps, store.QueueSessions, store.SlotLimits{Total: cfg.MaxSessions, PerOwner: cfg.PerOwner, PerRepo: cfg.PerRepository})
		builds := newSharedLine(deps, store.QueueBuilds, store.SlotLimits{Total: cfg.MaxBuilds})
		s.sessions, s.builds = sessions, builds
		s.places = map[store.Queue]*sharedLine{store.QueueSessions: sessions, store.QueueBuilds: builds}
	}
	return s, nil
}

// quiet is an Activity nobody causes and an Observer that does not look.
type quiet struct{}

// LastActivity is never.
func (quiet) LastActivity(string) time.Time { return time.Time{} }

// Forget has nothing to forget.
func (quiet) Forget(string) {}

// PhaseDone does not look.
func (quiet) PhaseDone(binnacle.Phase, string, time.Duration, binnacle.Provider) {}

// LaunchDone does not look.
func (quiet) LaunchDone(string, time.Duration, binnacle.Provider) {}

// BuildDone does not look.
func (quiet) BuildDone(string, time.Duration, binnacle.Provider) {}

// SessionDone does not look.
func (quiet) SessionDone(string, time.Duration) {}

// Run finds again what an earlier hub left, then works until ctx ends and all
// it started has stopped. Builds are cancelled then and continued by the next
// Run; sessions stay.
func (s *Service) Run(ctx context.Context) error {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	if s.shared() {
		defer s.leave(context.WithoutCancel(ctx))
	}
	defer wg.Wait()
	defer cancel(errStopping)
	if s.shared() {
		wg.Go(func() { s.listen(work) })
		wg.Go(func() { s.beat(work) })
		for _, q := range s.places {
			wg.Go(func() { q.follow(work) })
		}
	}
	if err := s.recover(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	wg.Go(func() { s.cull(work) })
	wg.Go(func() { s.reclaim(work) })
	s.mu.Lock()
	s.started = true
	close(s.recovered)
	s.mu.Unlock()
	for {
		s.mu.Lock()
		inbox := s.inbox
		s.inbox = nil
		s.mu.Unlock()
		for _, f := range inbox {
			wg.Go(func() { f(work) })
		}
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.stopping = true
			s.mu.Unlock()
			return nil
		case <-s.wake:
		}
	}
}

// own gives f to Run. What comes after the end is dropped: it is on the disk.
func (s *Service) own(f func(context.Context)) {
	s.mu.Lock()
	s.inbox = append(s.inbox, f)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Stats is how much is going on.
type Stats struct {
	Queued, Building, Sessions       int
	MaxBuilds, MaxSessions, MaxQueue int
	Launches                         int // not final
}

// Stats counts.
func (s *Service) Stats() Stats {
	waiting, _ := s.sessions.sizes()
	waitingBuilds, building := s.builds.sizes()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Queued: waiting + waitingBuilds, Building: building, Sessions: len(s.live), Launches: len(s.runs),
		MaxBuilds: s.cfg.MaxBuilds, MaxSessions: s.cfg.MaxSessions, MaxQueue: s.cfg.MaxQueue,
	}
}
