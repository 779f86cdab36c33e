package image

import (
	"time"

	"github.com/moby/buildkit/client/llb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// What the tests look at from outside.
var (
	Graph = func(base string, r recipe.Recipe, mtime time.Time) (llb.State, error) {
		return graph(ours(base), r, mtime)
	}
	// GraphOn is on an operator's base, whose configuration has that environment.
	GraphOn = func(base string, env []string, r recipe.Recipe, mtime time.Time) (llb.State, error) {
		f := ours(base)
		f.env = env
		return graph(f, onto(r, env), mtime)
	}
	Marshal = marshal
	Slug    = slug

	DebianPackages = debianPackages
	PythonPackages = pythonPackages
	CondaPackages  = condaPackages
	Components     = components
	WithSums       = withSums
)

// Environment is what steps and sessions of a recipe see, on our own base.
func Environment(r recipe.Recipe) map[string]string { return environment(r, nil) }

// Preparation is what makes a base of an image.
const Preparation = preparation

// Config is how a container of the image starts.
func Config(req Request) ocispec.Image { return (&Builder{version: "1"}).config(req, nil) }

// Lines are what of the pieces of a step's output is told, line by line.
func Lines(pieces ...string) []string {
	var out []string
	p := newProgress(func(e binnacle.Event) { out = append(out, e.Message) })
	st := &step{}
	for _, piece := range pieces {
		p.output(st, []byte(piece))
	}
	p.flush(st)
	return out
}
