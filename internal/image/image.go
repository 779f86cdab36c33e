// Package image turns a recipe into an OCI image: recipe → LLB → BuildKit.
//
// An image is environment layers and, beside them, the repository's tree:
//
//	base ─ prepare ─ server ─ system ─ environment ─ outline ─┐
//	                                         large files ─────┼─ merge ─ content steps ─ postBuild
//	                                         all other files ─┘
//
// The environment's layers are keyed by what they install, so two repositories
// that declare the same share them, and a commit that only touches notebooks
// starts no package manager. A step of the outline knows names in the tree and no
// more of it: an editable installation of the repository. The tree is joined with BuildKit's merge, which
// executes nothing.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// The labels of every image we build. The repo2docker ones are read by other
// tools of the Jupyter world.
const (
	LabelRepo        = "repo2docker.repo"
	LabelRef         = "repo2docker.ref"
	LabelVersion     = "repo2docker.version"
	LabelEnvironment = "dev.binnacle.environment"
	LabelKind        = "dev.binnacle.kind"
	// LabelCreated is when the commit was made (OCI's pre-defined annotations).
	LabelCreated    = "org.opencontainers.image.created"
	LabelInterfaces = "dev.binnacle.interfaces" // their names, with commas
)

// Request asks for a build.
type Request struct {
	Revision binnacle.Revision
	Recipe   recipe.Recipe
	// Dir is the repository's tree on this machine.
	Dir string
	// Name is the image's name in the runtime's store, from [Name].
	Name string
	// Time is the commit's; it becomes the time of files and image, so that
	// two machines make the same layers. Zero is a fixed time.
	Time int64 // seconds since 1970
	// Asked is the interface that the link opens; empty for none.
	Asked string
	// Tag is a second name, as registries write it; empty for none.
	Tag string
	// Push sends the image to Tag's registry, PlainHTTP by http.
	Push, PlainHTTP bool
	// Output is the path of an OCI archive to write; empty for none.
	Output string

	attested bool // the result says what it is made of; see push
}

// Image is a built image in the runtime's store.
type Image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // of its manifest
	// Environment is the identity of everything in it but the repository's tree.
	Environment string `json:"environment,omitempty"`

	interfaces string // as in the label
}

// host keeps our names out of every real registry.
const host = "binnacle.local/"

// Name is the image of a revision: BinderHub's naming (escaped repository, a
// short hash, the commit as the tag), so that operators find their way. An
// image with an interface that only the link asked for has its name behind that.
func Name(rev binnacle.Revision, asked string) string {
	const longest = 200
	t := tag(rev.Commit)
	if asked != "" {
		t += "-" + asked
	}
	return strings.ToLower(host + slug(repository(rev.Spec), longest) + ":" + t)
}

// repository names what images are kept apart by: where they come from, and of
// which folder of it they are.
func repository(spec binnacle.Spec) string {
	name := string(spec.Provider) + "/" + spec.Repo
	if spec.Subdir != "" {
		name += "?subdir=" + spec.Subdir // no address has a question mark
	}
	return name
}

func tag(commit string) string {
	if commit == "" {
		return "latest"
	}
	return commit
}

// slug is BinderHub's safe_slug: everything but letters and digits becomes a
// dash and its code, and a hash of the whole keeps cut names apart.
func slug(s string, limit int) string {
	const hash = 6
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "-%X", c)
		}
	}
	sum := sha256.Sum256([]byte(s))
	escaped := b.String()
	if len(escaped) > limit-hash-1 {
		escaped = escaped[:limit-hash-1]
	}
	return strings.ToLower(escaped + "-" + hex.EncodeToString(sum[:])[:hash])
}
