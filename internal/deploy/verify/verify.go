// Package verify proves that a hub works: it launches a repository through the
// hub's public address, as a person would, and runs a cell in it.
//
// It gates what changes a hub: what is not verified is not done.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Hub is what is asked of a hub; the client of its API has it.
type Hub interface {
	// Version answers as soon as the hub does.
	Version(ctx context.Context) (string, error)
	Launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, error)
	Events(ctx context.Context, id string, after int64, yield func(binnacle.Event) error) error
	Get(ctx context.Context, id string) (binnacle.Launch, error)
	Stop(ctx context.Context, id string) error
}

// Options are what is verified.
type Options struct {
	// Repository is launched: an address or a spec.
	Repository string
	// Code is the cell; empty is one whose answer is known.
	Code string
	// Want is what the cell prints.
	Want string
	// Answer bounds how long the hub may take until it answers at all: names and
	// certificates take a while after an installation. 0 is [DefaultAnswer].
	Answer time.Duration
	// Timeout bounds everything; 0 is [DefaultTimeout].
	Timeout time.Duration
	// Tell is told of each phase; nil tells nobody.
	Tell func(Phase)
	// Way is how the session is reached; nil is the usual one.
	Way http.RoundTripper
	// Now tells the time.
	Now func() time.Time
}

// The defaults.
const (
	DefaultAnswer  = 5 * time.Minute
	DefaultTimeout = 20 * time.Minute
	defaultCode    = "print(6 * 7)"
	defaultWant    = "42"
)

// The phases of a verification beside those of the launch itself.
const (
	PhaseAnswer = "answer" // the hub answers at its public address
	PhaseKernel = "kernel" // a kernel starts in the session
	PhaseCell   = "cell"   // the cell runs over the kernel's WebSocket
)

// Phase is one phase and how long it took.
type Phase struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"`
}

// Report is what a verification found.
type Report struct {
	Version    string  `json:"version"`
	Repository string  `json:"repository"`
	Commit     string  `json:"commit,omitempty"`
	Phases     []Phase `json:"phases"`
}

// Total is how long everything took.
func (r Report) Total() time.Duration {
	var total time.Duration
	for _, p := range r.Phases {
		total += p.Took
	}
	return total
}

// run is one verification.
type run struct {
	Options

	hub    Hub
	report Report
	since  time.Time
}

// Run verifies a hub. The session it starts is stopped. Returns unavailable,
// with the phase that failed and why, when the hub does not work; the report has
// the phases until then.
func Run(ctx context.Context, hub Hub, o Options) (Report, error) {
	if o.Code == "" {
		o.Code, o.Want = defaultCode, defaultWant
	}
	if o.Answer <= 0 {
		o.Answer = DefaultAnswer
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	r := &run{Options: o, hub: hub, report: Report{Repository: o.Repository}, since: o.Now()}
	err := r.all(ctx)
	return r.report, err
}

func (r *run) done(name string) {
	now := r.Now()
	p := Phase{Name: name, Took: now.Sub(r.since)}
	r.since = now
	r.report.Phases = append(r.report.Phases, p)
	if r.Tell != nil {
		r.Tell(p)
	}
}

func (r *run) all(ctx context.Context) error {
	if err := r.answers(ctx); err != nil {
		return err
	}
	r.done(PhaseAnswer)
	l, err := r.hub.Launch(ctx, binnacle.LaunchRequest{Repo: r.Repository})
	if err != nil {
		return failed("launch", "the hub did not take the launch of "+r.Repository, err)
	}
	if l, err = r.follow(ctx, l.ID); err != nil {
		return err
	}
	if l.Revision != nil {
		r.report.Commit = l.Revision.Commit
	}
	defer r.stop(ctx, l.Session.ID)
	k, err := start(ctx, r.Way, l.Session.URL, l.Session.Token)
	if err != nil {
		return failed(PhaseKernel, "no kernel started in the session", err)
	}
	defer k.close()
	r.done(PhaseKernel)
	out, err := k.execute(ctx, r.Code)
	if err != nil {
		return failed(PhaseCell, "the cell did not run", err)
	}
	if strings.TrimSpace(out) != r.Want {
		return failed(PhaseCell, fmt.Sprintf("the cell printed %q, not %q", shorten(out), r.Want), nil)
	}
	r.done(PhaseCell)
	return nil
}

// answers waits for the hub's first answer.
func (r *run) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Answer)
	defer cancel()
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var last error
	for {
		v, err := r.hub.Version(ctx)
		if err == nil {
			r.report.Version = v
			return nil
		}
		if last == nil || ctx.Err() == nil { // one that was cut off says nothing
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return failed(PhaseAnswer, cmp.Or(https(last), "the hub does not answer at its public address"), last)
		case <-tick.C:
		}
	}
}

// follow waits until the launch is ready.
func (r *run) follow(ctx context.Context, id string) (binnacle.Launch, error) {
	var phase binnacle.Phase
	var wrong *binnacle.Error
	var lines []string
	err := r.hub.Events(ctx, id, 0, func(e binnacle.Event) error {
		switch e.Kind {
		case binnacle.EventPhase:
			if phase != "" && e.Phase != phase {
				r.done(string(phase))
			}
			phase = e.Phase
		case binnacle.EventLog:
			const keep = 5
			lines = append(lines, e.Message)
			lines = lines[max(0, len(lines)-keep):]
		case binnacle.EventEnd:
			wrong = e.Error
		}
		return nil
	})
	if err != nil {
		return binnacle.Launch{}, failed(string(phase), "the launch could not be followed", err)
	}
	l, err := r.hub.Get(ctx, id)
	if err != nil {
		return l, failed(string(phase), "the launch could not be read", err)
	}
	if l.Phase != binnacle.PhaseReady || l.Session == nil {
		what := "the launch ended as " + string(l.Phase)
		if wrong != nil {
			what += ": " + wrong.Message
		}
		if len(lines) > 0 {
			what += " Its log ends with:\n  " + strings.Join(lines, "\n  ")
		}
		return l, failed(string(phase), what, nil)
	}
	if phase != "" && !phase.Final() {
		r.done(string(phase))
	}
	return l, nil
}

// stop ends the session also when we are told to stop.
func (r *run) stop(ctx context.Context, id string) {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = r.hub.Stop(ctx, id) // it would end by itself when idle
}

func failed(phase, what string, err error) error {
	if binnacle.CodeOf(err) == binnacle.CodeCanceled {
		return err
	}
	if err != nil {
		if e, ok := errors.AsType[*binnacle.Error](err); ok {
			what += ": " + e.Message
		} else {
			what += ": " + err.Error()
		}
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "verify." + phase, Message: fmt.Sprintf("The hub was not verified (%s): %s", phase, what),
		Hint: "binnacle deploy logs shows what hub and builders say; binnacle deploy verify tries again.", Err: err,
	}
}

func shorten(s string) string {
	const limit = 200
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
