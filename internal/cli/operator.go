package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// buildPath is where the command line asks a running hub for a build whose
// image leaves the machine. It is on the unix socket only.
const buildPath = "/operator/build"

// buildRequest asks for an image with a name, in a registry or in a file.
type buildRequest struct {
	Repo string `json:"repo"`
	Ref  string `json:"ref,omitempty"`
	// Subdir is the folder to take for all of the repository.
	Subdir string `json:"subdir,omitempty"`
	Tag    string `json:"tag,omitempty"`
	Push   bool   `json:"push,omitempty"`
	// PlainHTTP pushes without TLS.
	PlainHTTP bool   `json:"plain_http,omitempty"`
	Output    string `json:"output,omitempty"`
	// Interface is one to install although the repository does not imply it.
	Interface string `json:"interface,omitempty"`
}

// buildAnswer is one line of the answer: an event, or how it ended.
type buildAnswer struct {
	Event *binnacle.Event `json:"event,omitempty"`
	Image *image.Image    `json:"image,omitempty"`
	Error *binnacle.Error `json:"error,omitempty"`
}

// operator adds what only the command line of this machine may ask for.
func (s *server) operator(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == buildPath {
			s.serveBuild(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) serveBuild(w http.ResponseWriter, r *http.Request) {
	const longest = 1 << 16
	var req buildRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longest)).Decode(&req); err != nil {
		http.Error(w, "not a build request", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	tell := func(a buildAnswer) {
		// A reader that is gone ends the request's context, and so the build.
		if enc.Encode(a) == nil {
			_ = flush.Flush()
		}
	}
	img, err := s.build(r.Context(), req, func(e binnacle.Event) { tell(buildAnswer{Event: &e}) })
	if err != nil {
		s.log.WarnContext(r.Context(), "build failed", "repo", req.Repo, "err", err)
		tell(buildAnswer{Error: operatorError(err)})
		return
	}
	tell(buildAnswer{Image: &img})
}

// operatorError is what the operator is told: all of it, since nobody else
// reads this answer.
func operatorError(err error) *binnacle.Error {
	e := binnacle.Public(err)
	if _, ok := errors.AsType[*binnacle.Error](err); !ok && e.Code == binnacle.CodeInternal {
		e.Message, e.Hint = "Something went wrong: "+err.Error()+".", "This is a fault of Binnacle or of this machine; `binnacle doctor` checks the machine."
	}
	return e
}

// build resolves, fetches, reads and builds, telling phases as a launch does.
func (s *server) build(ctx context.Context, req buildRequest, emit func(binnacle.Event)) (image.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Launch.BuildTimeout)
	defer cancel()
	n, last := int64(0), time.Now()
	tell := func(e binnacle.Event) {
		n++
		e.ID, e.Time = n, time.Now()
		if e.Kind == binnacle.EventPhase {
			e.Millis, last = e.Time.Sub(last).Milliseconds(), e.Time
		}
		emit(e)
	}
	begin := func(p binnacle.Phase) { tell(binnacle.Event{Kind: binnacle.EventPhase, Phase: p}) }
	img, err := s.buildPhases(ctx, req, begin, tell)
	end := binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseReady, Image: img.Name, Millis: time.Since(last).Milliseconds()}
	if err != nil {
		end.Phase, end.Error = binnacle.PhaseFailed, operatorError(err)
	}
	tell(end)
	return img, err
}

func (s *server) buildPhases(ctx context.Context, req buildRequest, begin func(binnacle.Phase), tell func(binnacle.Event)) (_ image.Image, err error) {
	begin(binnacle.PhaseResolving)
	trusted := source.Policy{Local: true}
	rev, err := resolve(ctx, s.source, req.Repo, req.Ref, req.Subdir)
	if err != nil {
		return image.Image{}, err
	}
	begin(binnacle.PhaseFetching)
	if err := s.service.Recovered(ctx); err != nil {
		return image.Image{}, err
	}
	if err := os.MkdirAll(s.cfg.Launch.Checkouts, 0o700); err != nil {
		return image.Image{}, err
	}
	parent, err := os.MkdirTemp(s.cfg.Launch.Checkouts, "build-")
	if err != nil {
		return image.Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(parent)) }()
	dir := filepath.Join(parent, "tree")
	line := func(text string) {
		tell(binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseFetching, Message: text})
	}
	if err := s.source.Fetch(ctx, rev, trusted, dir, line); err != nil {
		return image.Image{}, err
	}
	when, err := s.source.CommitTime(ctx, rev)
	if err != nil {
		return image.Image{}, err
	}
	r, err := readTree(dir, recipeOptions(s.cfg, when, req.Interface))
	if err != nil {
		return image.Image{}, err
	}
	for _, n := range r.Notes {
		note := &binnacle.Error{Message: n.Message, Hint: n.Hint, File: n.File, Line: n.Line}
		tell(binnacle.Event{Kind: binnacle.EventNote, Phase: binnacle.PhaseFetching, Error: note})
	}
	begin(binnacle.PhaseBuilding)
	// On a cluster the builders know the registry. What is wrong with a name is said by pushing.
	if to, err := name.NewTag(req.Tag); req.Push && err == nil && s.engine != nil {
		defer s.engine.Pushing(to.RegistryStr(), to.RepositoryStr())()
	}
	return s.builder.Build(ctx, image.Request{
		Revision: rev, Recipe: r, Dir: dir, Name: s.builder.Name(rev, r.Asked), Time: unixOrZero(when), Tag: req.Tag, Push: req.Push, PlainHTTP: req.PlainHTTP, Output: req.Output,
	}, tell)
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// readBuild takes the answer of serveBuild apart.
func readBuild(body io.Reader, event func(binnacle.Event) error) (image.Image, error) {
	dec := json.NewDecoder(body)
	for {
		var a buildAnswer
		if err := dec.Decode(&a); err != nil {
			return image.Image{}, &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: "cli.build", Message: "The hub stopped during the build.", Hint: "Run the same command again; what was built is not lost.", Err: err,
			}
		}
		switch {
		case a.Event != nil:
			if err := event(*a.Event); err != nil {
				return image.Image{}, err
			}
		case a.Error != nil:
			return image.Image{}, a.Error
		case a.Image != nil:
			return *a.Image, nil
		}
	}
}
