// Package builders chooses among the BuildKits of a cluster.
//
// A build goes to the builder that is the first for its environment, so that it
// finds there what an earlier build of the same environment left; to the next
// one when the first is busy, not ready or being drained. When a builder goes
// away in the middle of a build, the build begins again on another one.
//
//	pool := builders.New(cfg, log)
//	go pool.Run(ctx, clientset) // follows the Service's EndpointSlices
//	err := pool.Use(ctx, environment, say, func(ctx context.Context, c *bkclient.Client) error { … })
package builders

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"

	"github.com/binnacle-hub/binnacle"
)

// Attempts is how often a build is begun when its builders go away: a build that
// takes its builder down with it shall not take down all of them.
const Attempts = 3

// again is how long a build that found no builder waits before it looks again,
// unless the list of builders changes before.
const again = 2 * time.Second

// errLost is why a build ends whose builder went away.
var errLost = errors.New("the connection to the builder broke")

// Builder is one BuildKit.
type Builder struct {
	// Name stays the same when the builder comes back at another address: its
	// cache may still be there.
	Name string
	// Address is "host:port", or "unix:///path".
	Address string
}

// Pool is all builders. Its methods may be called at the same time.
type Pool struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	ready   []Builder
	changed chan struct{}  // closed and replaced when ready changes
	running map[string]int // builds of this process, by the builder's name
}

// New makes a Pool of the configured addresses. With a Service, Run must follow
// its endpoints.
func New(cfg Config, log *slog.Logger) *Pool {
	p := &Pool{cfg: cfg, log: log, changed: make(chan struct{}), running: map[string]int{}}
	for _, a := range cfg.Addresses {
		p.ready = append(p.ready, Builder{Name: a, Address: a})
	}
	return p
}

// Builders lists those that can take builds.
func (p *Pool) Builders() []Builder {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ready)
}

// Use runs f with a BuildKit. Builds with the same key, an environment, go to the
// same builder while it has room. say is told what the user should know, in
// sentences. When the builder goes away while f runs, the context of f ends and f
// runs again with another one: it must be able to.
//
// Returns unavailable when no builder is there within the configured time, or
// when several went away during the build; else what f returned.
func (p *Pool) Use(ctx context.Context, key string, say func(line string), f func(context.Context, *bkclient.Client) error) error {
	lost := map[string]bool{}
	for attempt := 1; ; attempt++ {
		c, err := p.take(ctx, key, lost, say)
		if err != nil {
			return err
		}
		err = p.run(ctx, c, f)
		if err == nil || ctx.Err() != nil || !c.lost() {
			return err
		}
		lost[c.builder.Name] = true
		p.log.WarnContext(ctx, "builder went away during a build", slog.String("builder", c.builder.Name), slog.Int("attempt", attempt), slog.String("error", text(err)))
		if attempt == Attempts {
			return &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: "builders.use", Err: err,
				Message: fmt.Sprintf("The builder went away in the middle of the build, %d times.", Attempts),
				Hint:    "Perhaps the build needs more memory than builders have: tell the operator of this hub. Else try again later.",
			}
		}
		say("The builder " + c.builder.Name + " went away in the middle of the build. The build begins again on another one, so it takes longer; steps that are in the cache are not repeated.")
	}
}

// run lends the connection to f and takes it back.
func (p *Pool) run(ctx context.Context, c *conn, f func(context.Context, *bkclient.Client) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.broken, func() { cancel(context.Cause(c.broken)) })
	defer stop()
	defer p.release(c)
	return f(ctx, c.client)
}

func (p *Pool) release(c *conn) {
	p.mu.Lock()
	p.running[c.builder.Name]--
	if p.running[c.builder.Name] == 0 {
		delete(p.running, c.builder.Name)
	}
	p.mu.Unlock()
	if err := c.close(); err != nil {
		p.log.Warn("close the connection to a builder", slog.String("builder", c.builder.Name), slog.Any("error", err))
	}
}

// take connects to the best builder that is there, and waits for one.
func (p *Pool) take(ctx context.Context, key string, lost map[string]bool, say func(line string)) (*conn, error) {
	deadline := time.NewTimer(p.cfg.Wait)
	defer deadline.Stop()
	var problem error
	for told := false; ; told = true {
		p.mu.Lock()
		ready, changed := slices.Clone(p.ready), p.changed
		p.mu.Unlock()
		c, err := p.choose(ctx, rank(ready, key, lost))
		if c != nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		problem = err
		if !told {
			say("No builder is ready. The build waits for one.")
			p.log.WarnContext(ctx, "a build waits for a builder", slog.Int("builders", len(ready)), slog.String("error", text(problem)))
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		case <-time.After(again):
		case <-deadline.C:
			return nil, &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: "builders.take", Err: problem, Message: fmt.Sprintf("No builder was ready within %s.", p.cfg.Wait),
				Hint: "Try again in a few minutes; the operator of this hub sees why in its log and in the state of the builders.",
			}
		}
	}
}

// choose connects to the first builder of a list that has room; when none has, to
// the one that does least. It returns nil, and why, when none is there.
func (p *Pool) choose(ctx context.Context, builders []Builder) (*conn, error) {
	var best *conn
	var errs []error
	drop := func(c *conn) {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	for _, b := range builders {
		c, err := p.connect(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("builder %s: %w", b.Name, err))
			continue
		}
		c.busy = max(c.busy, p.builds(b.Name))
		if best != nil && best.busy <= c.busy {
			drop(c)
			continue
		}
		drop(best)
		if best = c; c.busy < p.cfg.PerBuilder {
			break
		}
	}
	if best == nil {
		return nil, errors.Join(errs...)
	}
	p.mu.Lock()
	p.running[best.builder.Name]++
	p.mu.Unlock()
	return best, nil
}

// text is an error without the stack traces that BuildKit's have in a log.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (p *Pool) builds(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running[name]
}

// set replaces the list of builders and wakes those who wait for one.
func (p *Pool) set(ctx context.Context, ready []Builder) {
	slices.SortFunc(ready, func(a, b Builder) int { return cmp.Compare(a.Name, b.Name) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(ready, p.ready) {
		return
	}
	p.ready = ready
	close(p.changed)
	p.changed = make(chan struct{})
	p.log.InfoContext(ctx, "builders changed", slog.Any("ready", ready))
}

// rank orders builders for a key by rendezvous hashing: each builder has a score
// for the key, so one that comes or goes moves only the keys that are its own.
// Those that were lost in this build come last.
func rank(builders []Builder, key string, lost map[string]bool) []Builder {
	score := func(b Builder) uint64 {
		sum := sha256.Sum256([]byte(b.Name + "\x00" + key))
		return binary.BigEndian.Uint64(sum[:])
	}
	out := slices.Clone(builders)
	slices.SortFunc(out, func(a, b Builder) int {
		if lost[a.Name] != lost[b.Name] {
			if lost[a.Name] {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(score(b), score(a)), cmp.Compare(a.Name, b.Name))
	})
	return out
}
