package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// progress tells a build's story as events and remembers what is needed to
// explain its failure.
type progress struct {
	emit   func(binnacle.Event)
	steps  map[digest.Digest]*step
	failed *step
	// stopped is the step that ran longest when the build was stopped.
	stopped *step
}

type step struct {
	name    string
	started bool
	since   time.Time
	done    bool
	rest    []byte   // of a line that has no end yet
	tail    []string // the last lines it printed
}

// cacheStep looks for a cache of an earlier build: it is no matter when none is there.
const cacheStep = "importing cache manifest"

// tailLines is how much of a step's output its explanation may look at.
const tailLines = 400

func newProgress(emit func(binnacle.Event)) *progress {
	return &progress{emit: emit, steps: map[digest.Digest]*step{}}
}

func (p *progress) follow(status <-chan *bkclient.SolveStatus) {
	for s := range status {
		for _, v := range s.Vertexes {
			p.vertex(v)
		}
		for _, l := range s.Logs {
			if st := p.steps[l.Vertex]; st != nil {
				p.output(st, l.Data)
			}
		}
	}
	for _, st := range p.steps {
		p.flush(st)
		// What was not told to have ended ran when the build was stopped.
		if st.started && !st.done && !strings.HasPrefix(st.name, "[internal]") && (p.stopped == nil || st.since.Before(p.stopped.since)) {
			p.stopped = st
		}
	}
}

func (p *progress) vertex(v *bkclient.Vertex) {
	st := p.steps[v.Digest]
	if st == nil {
		st = &step{name: v.Name}
		p.steps[v.Digest] = st
	}
	shown := !strings.HasPrefix(v.Name, "[internal]") && !strings.HasPrefix(v.Name, cacheStep)
	if v.Started != nil && !st.started && !v.Cached && v.Completed == nil {
		st.started, st.since = true, *v.Started
		if shown {
			p.emit(logLine(st.name, "▸ "+st.name))
		}
	}
	if v.Completed == nil || st.done {
		return
	}
	st.done = true
	p.flush(st)
	switch canceled := strings.Contains(v.Error, context.Canceled.Error()); {
	case v.Error == "" || strings.HasPrefix(v.Name, cacheStep):
	case !canceled && p.failed == nil:
		p.failed = st
	case canceled && st.started && shown && (p.stopped == nil || st.since.Before(p.stopped.since)):
		p.stopped = st
	}
	if !shown || v.Error != "" {
		return
	}
	e := binnacle.Event{Kind: binnacle.EventStep, Phase: binnacle.PhaseBuilding, Step: st.name, Cached: v.Cached}
	if v.Started != nil {
		e.Millis = v.Completed.Sub(*v.Started).Milliseconds()
	}
	p.emit(e)
}

// longestLine is where a line without an end is cut, in bytes.
const longestLine = 16 << 10

func (p *progress) output(st *step, data []byte) {
	st.rest = append(st.rest, data...)
	for {
		i := bytes.IndexAny(st.rest, "\r\n")
		if i < 0 && len(st.rest) < longestLine {
			return
		}
		if i < 0 {
			i = longestLine - 1
		}
		line := string(st.rest[:i])
		st.rest = st.rest[i+1:]
		p.line(st, line)
	}
}

func (p *progress) flush(st *step) {
	if len(st.rest) > 0 {
		p.line(st, string(st.rest))
		st.rest = nil
	}
}

func (p *progress) line(st *step, line string) {
	line = strings.ToValidUTF8(line, "\uFFFD")
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(st.tail) == tailLines {
		st.tail = append(st.tail[:0], st.tail[1:]...)
	}
	st.tail = append(st.tail, line)
	p.emit(logLine(st.name, line))
}

// exporting says that it was not the build that failed, but keeping its result.
func (p *progress) exporting() bool {
	return p.failed != nil && (strings.HasPrefix(p.failed.name, "exporting to image") || strings.HasPrefix(p.failed.name, "exporting cache") || strings.HasPrefix(p.failed.name, "pushing"))
}

// explain says what a failed build means to its author.
func (p *progress) explain(ctx context.Context, req Request, err error) error {
	r := req.Recipe
	if ctx.Err() != nil {
		return p.late(r, context.Cause(ctx))
	}
	if _, ok := errors.AsType[*binnacle.Error](err); ok {
		return err
	}
	// BuildKit's own words come second: they name digests and commands.
	if p.failed == nil && !isStepError(err) {
		if e := dockerfileError(req, err); e != nil {
			return e
		}
		return fmt.Errorf("build: %w", err)
	}
	name, tail := "", []string(nil)
	if p.failed != nil {
		name, tail = p.failed.name, p.failed.tail
	}
	if name == baseStep {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "build.base", Err: err, Message: "This hub's base image can't be fetched: " + lastCause(err) + ".",
			Hint: "Tell the operator of this hub: base.image in its configuration names it.",
		}
	}
	if r.Dockerfile != "" || (dockerfilePath(r) != "" && strings.HasPrefix(name, "[")) {
		return dockerfileStep(r, name, tail, err)
	}
	if exit, ok := errors.AsType[*gatewaypb.ExitError](err); ok && exit.ExitCode == outOfMemory || strings.Contains(err.Error(), "cannot allocate memory") {
		tail = append(tail, "Killed: out of memory (exit code 137)")
	}
	e := recipe.Explain(r, name, tail)
	e.Op, e.Err = "build.solve", err
	return e
}

// late is why a build was stopped that took too long, with the step it was at and
// that step's last words; any other reason is left as it is.
func (p *progress) late(r recipe.Recipe, cause error) error {
	limit, ok := errors.AsType[*binnacle.Error](cause)
	if !ok || limit.Code != binnacle.CodeTimeout || p.stopped == nil {
		return cause
	}
	e := *limit
	e.Err = cause
	e.File, e.Line = r.At(p.stopped.name)
	e.Message += " It was at the step “" + p.stopped.name + "”."
	e.Excerpt = recipe.LastWords(p.stopped.tail)
	return &e
}

// outOfMemory is how a shell reports a child that the kernel killed.
const outOfMemory = 137

func isStepError(err error) bool {
	_, exit := errors.AsType[*gatewaypb.ExitError](err)
	return exit
}

// dockerfileError is a Dockerfile that can't be read or followed.
func dockerfileError(req Request, err error) error {
	if base := req.Recipe.Base; base != nil && base.Image != "" {
		e := &binnacle.Error{
			Code: binnacle.CodeBuildFailed, Op: "build.base", Err: err,
			Message: "The image " + base.Image + " can't be fetched: " + lastCause(err) + ".",
			Hint:    "Check its name; it must be public, and its registry within reach of this hub.",
		}
		e.File = base.From.File
		e.Line = base.From.Line
		return e
	}
	if dockerfilePath(req.Recipe) == "" {
		return nil
	}
	e := &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Op: "build.dockerfile", File: dockerfilePath(req.Recipe), Line: dockerfileLine(err), Err: err,
		Message: "The Dockerfile can't be built: " + lastCause(err) + ".",
		Hint:    "Correct the line that is named, or remove the Dockerfile to let Binnacle install what the other files declare.",
	}
	for _, privilege := range []string{"network=host", "security=insecure"} {
		if strings.Contains(err.Error(), strings.ReplaceAll(privilege, "=", ".")+" is not allowed") {
			e.Message = "A step of the Dockerfile asks for --" + privilege + ", which builds here do not get."
			e.Hint, e.Line = "Remove it from the RUN line.", lineWith(req, "--"+privilege)
		}
	}
	return e
}

// dockerfilePath is the Dockerfile of the build; empty when there is none.
func dockerfilePath(r recipe.Recipe) string {
	if r.Base != nil {
		return r.Base.Dockerfile
	}
	return r.Dockerfile
}

// lineWith finds text in the Dockerfile; 0 when it is not there.
func lineWith(req Request, text string) int {
	b, err := os.ReadFile(filepath.Join(req.Dir, filepath.FromSlash(dockerfilePath(req.Recipe))))
	if err != nil {
		return 0
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, text) {
			return i + 1
		}
	}
	return 0
}

func dockerfileStep(r recipe.Recipe, name string, tail []string, err error) error {
	last := ""
	if len(tail) > 0 {
		last = " Its last words were: " + tail[len(tail)-1]
	}
	return &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Op: "build.dockerfile", File: dockerfilePath(r), Line: dockerfileLine(err), Err: err,
		Message: "A step of the Dockerfile failed: " + name + "." + last,
		Hint:    "The log above has its whole output.", Excerpt: recipe.Excerpt(tail),
	}
}

func dockerfileLine(err error) int {
	for _, s := range solvererrdefs.Sources(err) {
		for _, r := range s.Ranges {
			return int(r.Start.Line)
		}
	}
	return 0
}

// lastCause is the innermost part of a BuildKit error, without the digests.
func lastCause(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 && len(text)-i < 200 {
		if j := strings.LastIndex(text[:i], ": "); j >= 0 {
			return text[j+2:]
		}
	}
	return text
}
