// Package image turns a recipe into an OCI image: recipe → LLB → BuildKit.
package image

import (
	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// Request asks for a build.
type Request struct {
	Revision binnacle.Revision
	Recipe   recipe.Recipe
	// Dir is the repository's tree on this machine.
	Dir string
	// Name is the image's name, e.g. from Name.
	Name string
}

// Image is a built image in the runtime's store.
type Image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // of its manifest
	// Environment is the identity of everything in it but the repository's tree.
	Environment string `json:"environment,omitempty"`
}
