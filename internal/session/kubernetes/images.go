package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle"
)

// Registry is Images that asks the image's registry: for its manifest each time,
// so that a missing image is known before a pod waits for it, and for its
// configuration once, because that never changes.
type Registry struct {
	plain   []string
	options []remote.Option
	mu      sync.Mutex
	known   map[v1.Hash]ocispec.ImageConfig
}

var _ Images = (*Registry)(nil)

// NewRegistry takes the registries without TLS ("host:port") and the options that
// say how to authenticate.
func NewRegistry(plain []string, options ...remote.Option) *Registry {
	return &Registry{plain: plain, options: options, known: map[v1.Hash]ocispec.ImageConfig{}}
}

// Config implements Images. Returns not_found when the image is missing, limited
// when the registry says so, unavailable when it does not answer.
func (r *Registry) Config(ctx context.Context, ref string) (ocispec.ImageConfig, error) {
	image, err := name.ParseReference(ref)
	if err != nil {
		return ocispec.ImageConfig{}, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "session.image", Message: fmt.Sprintf("%q is not the name of an image.", ref), Err: err}
	}
	if slices.Contains(r.plain, image.Context().RegistryStr()) {
		image, _ = name.ParseReference(ref, name.Insecure) // it is fine, as above
	}
	img, err := remote.Image(image, append([]remote.Option{remote.WithContext(ctx)}, r.options...)...)
	if err != nil {
		return ocispec.ImageConfig{}, noImage(ref, err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return ocispec.ImageConfig{}, noImage(ref, err)
	}
	id := manifest.Config.Digest
	r.mu.Lock()
	c, ok := r.known[id]
	r.mu.Unlock()
	if ok {
		return c, nil
	}
	file, err := img.ConfigFile()
	if err != nil {
		return ocispec.ImageConfig{}, noImage(ref, err)
	}
	c = ocispec.ImageConfig{
		User: file.Config.User, Env: file.Config.Env, Entrypoint: file.Config.Entrypoint, Cmd: file.Config.Cmd,
		WorkingDir: file.Config.WorkingDir, Labels: file.Config.Labels,
	}
	const most = 4096
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= most {
		clear(r.known)
	}
	r.known[id] = c
	return c, nil
}

func noImage(ref string, err error) error {
	if c := binnacle.CodeOf(err); c == binnacle.CodeCanceled || c == binnacle.CodeTimeout {
		return fmt.Errorf("look for the image: %w", err)
	}
	e := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "session.image", Message: "The registry of images does not answer.", Hint: "Try again in some minutes.", Err: err,
	}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusNotFound:
			e.Code, e.Message, e.Hint = binnacle.CodeNotFound, fmt.Sprintf("The image %s is not there.", ref), "Launch again; it is then built anew."
		case http.StatusTooManyRequests:
			e.Code, e.Message = binnacle.CodeLimited, "The registry of images limits how often it is asked."
		case http.StatusUnauthorized, http.StatusForbidden:
			e.Code, e.Message, e.Hint = binnacle.CodeInternal, "The registry does not let the hub see the session's image.", "The operator of this hub must give it the registry's credentials."
		}
	}
	return e
}
