package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/binnacle-hub/binnacle"
)

// Remove removes an image from its registry: its name, and of its manifests those
// that no image of kept needs. One that is not there is no error. The registry gives
// the space back when it collects what nothing names.
//
// Returns forbidden when the registry does not let this hub remove images, and the
// codes of [Registry.Image].
func (r *Registry) Remove(ctx context.Context, image string, kept []string) error {
	ref, err := r.Reference(image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.Timeout, errSlow)
	defer cancel()
	opts := append(r.Options(nil), remote.WithContext(ctx))
	mine, err := manifests(ref, opts)
	if err != nil || len(mine) == 0 {
		return r.removal(ctx, image, err)
	}
	needed := map[v1.Hash]bool{}
	for _, k := range kept {
		other, err := r.Reference(k)
		if err != nil || other.Context().Name() != ref.Context().Name() || other.Name() == ref.Name() {
			continue // manifests are in repositories: another one has its own
		}
		theirs, err := manifests(other, opts)
		if err != nil {
			return r.removal(ctx, k, err)
		}
		for _, h := range theirs {
			needed[h] = true
		}
	}
	// Many registries remove names only with what they name.
	var refused error
	if _, tagged := ref.(name.Tag); tagged {
		if err := remote.Delete(ref, opts...); err != nil && !missing(err) {
			refused = err
		}
	}
	for _, h := range mine { // the list of manifests before what is in it
		if needed[h] {
			continue
		}
		if err := remote.Delete(ref.Context().Digest(h.String()), opts...); err != nil && !missing(err) {
			return r.removal(ctx, image, err)
		}
		refused = nil
	}
	if refused != nil && !unsupported(refused) {
		return r.removal(ctx, image, refused)
	}
	return nil
}

// manifests are the digests of an image and, when it is a list, of what is in it;
// none when there is no such image.
func manifests(ref name.Reference, opts []remote.Option) ([]v1.Hash, error) {
	desc, err := remote.Get(ref, opts...)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := []v1.Hash{desc.Digest}
	if !desc.MediaType.IsIndex() {
		return list, nil
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		list = append(list, d.Digest)
	}
	return list, nil
}

func unsupported(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && (e.StatusCode == http.StatusMethodNotAllowed || e.StatusCode == http.StatusBadRequest || e.StatusCode == http.StatusNotImplemented)
}

// removal says what is wrong with a removal.
func (r *Registry) removal(ctx context.Context, image string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
		err = errors.Join(cause, err)
	}
	k, _ := classify(err)
	if !unsupported(err) && k != credentials && k != denied {
		return r.Explain(ctx, image, Remove, err)
	}
	e := &binnacle.Error{
		Code: binnacle.CodeForbidden, Op: "registry.remove", Err: err,
		Message: "The registry " + r.own + " does not let this hub remove images.",
		Hint:    "Give its account the right to delete, where the registry has that in its API (Docker Hub has not; CNCF's distribution wants REGISTRY_STORAGE_DELETE_ENABLED); or set launch.keep_images to 0 and let the registry remove old images by a rule of its own.",
	}
	return e
}
