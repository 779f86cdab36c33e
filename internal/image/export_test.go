package image

import (
	"time"

	"github.com/moby/buildkit/client/llb"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// What the tests look at from outside.
var (
	Graph = func(base string, r recipe.Recipe, mtime time.Time) (llb.State, error) {
		return graph(ours(base), r, mtime)
	}
	Marshal = marshal
	Slug    = slug

	DebianPackages = debianPackages
	PythonPackages = pythonPackages
	CondaPackages  = condaPackages
	Installed      = installed
)
