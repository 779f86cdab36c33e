// Package registry is the hub's registry of images: who the hub is there, how
// long it waits, and what its errors mean.
//
//	reg := registry.New(cfg, transport)
//	img, found, err := reg.Image(ctx, "registry.example.org/binnacle/x:1", say)
//	opt.Session = append(opt.Session, reg.BuildKitAuth()) // BuildKit asks the hub
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/binnacle-hub/binnacle"
)

// DefaultTimeout is [Config].Timeout when nothing is configured.
const DefaultTimeout = time.Minute

// Config of the registry.
type Config struct {
	// ImagePrefix is the beginning of every image's name, for example
	// "registry.example.org/binnacle", below which images are, or, as BinderHub's
	// image_prefix, "registry.example.org/lab/binder-", which their names follow.
	ImagePrefix string
	// Insecure speaks http with the registry.
	Insecure bool
	// DockerConfig is a file as `docker login` writes it, with credentials or with
	// the names of credential helpers. It is read again for every use. Empty is
	// the one in DOCKER_CONFIG. Where it has none for the registry of image_prefix,
	// and that is Azure's or Google's, the identity of the pod is used.
	DockerConfig string
	// Lazy writes layers as eStargz: machines that have its snapshotter start
	// sessions before all of an image is there. Others fetch them whole, and they
	// are larger than ours.
	Lazy bool
	// Timeout is how long the registry may take to answer one question, with the
	// waiting that it asks for.
	Timeout time.Duration
}

// Name is an image's, with the prefix.
func (c Config) Name(image string) string {
	if strings.HasSuffix(c.ImagePrefix, "-") || strings.HasSuffix(c.ImagePrefix, "_") || strings.HasSuffix(c.ImagePrefix, ".") {
		return c.ImagePrefix + image
	}
	return strings.TrimSuffix(c.ImagePrefix, "/") + "/" + image
}

// DefaultConfig has no registry.
func DefaultConfig() Config { return Config{Timeout: DefaultTimeout} }

// Validate reports every problem, each with the name of its setting.
func (c Config) Validate() error {
	var errs []error
	if c.ImagePrefix != "" {
		if _, err := name.NewRepository(c.Name("x"), name.StrictValidation); err != nil || strings.Contains(c.ImagePrefix, "//") {
			errs = append(errs, fmt.Errorf("image_prefix: %q is not the beginning of an image's name such as registry.example.org/binnacle", c.ImagePrefix))
		}
	}
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("timeout: must be more than 0"))
	}
	return errors.Join(errs...)
}

// Registry is one hub's view of registries.
type Registry struct {
	cfg       Config
	transport http.RoundTripper
	own       string // the host of image_prefix
	cloud     cloud
}

// New makes a Registry. It asks through transport, which brings proxy and
// certificate authorities.
func New(cfg Config, transport http.RoundTripper) *Registry {
	r := &Registry{cfg: cfg, transport: transport}
	if repo, err := name.NewRepository(cfg.Name("x")); err == nil {
		r.own = repo.RegistryStr()
	}
	r.cloud = newCloud(r.own, transport)
	return r
}

// Reference reads an image's name.
func (r *Registry) Reference(image string) (name.Reference, error) {
	ref, err := name.ParseReference(image)
	if err == nil && r.cfg.Insecure && ref.Context().RegistryStr() == r.own {
		ref, err = name.ParseReference(image, name.Insecure)
	}
	if err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "registry.name", Message: "That is not the name of an image: " + image + ".", Err: err}
	}
	return ref, nil
}

// Image finds an image for this machine's architecture. It returns false when the
// registry has none of that name. say is told when the registry makes us wait.
//
// Returns limited when the registry limits us, timeout when it is slow, and
// unavailable for everything else, with the reason in words.
func (r *Registry) Image(ctx context.Context, image string, say func(line string)) (v1.Image, bool, error) {
	ref, err := r.Reference(image)
	if err != nil {
		return nil, false, err
	}
	// What is read of the image later has the caller's time: only these questions
	// have the registry's.
	asking, cancel := context.WithCancelCause(ctx)
	var limits atomic.Bool
	late := time.AfterFunc(r.cfg.Timeout, func() {
		if limits.Load() {
			cancel(errLimited)
		} else {
			cancel(errSlow)
		}
	})
	wait := func(line string) {
		limits.Store(true)
		if say != nil {
			say(line)
		}
	}
	img, err := look(ref, append(r.Options(wait), remote.WithContext(asking)))
	if late.Stop() && err == nil {
		return img, true, nil
	}
	defer cancel(nil)
	switch {
	case missing(err):
		return nil, false, nil
	case ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	case context.Cause(asking) != nil:
		err = errors.Join(context.Cause(asking), err)
	}
	return nil, false, r.Explain(ctx, image, Read, err)
}

// look fetches the manifest and the configuration, which has the labels.
func look(ref name.Reference, opts []remote.Option) (v1.Image, error) {
	desc, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, err
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	_, err = img.ConfigFile()
	return img, err
}

// missing says that the registry answered, and has no such image.
func missing(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && e.StatusCode == http.StatusNotFound
}

// Name is an image's, with the configured prefix.
func (r *Registry) Name(image string) string { return r.cfg.Name(image) }

// Lazy says that layers are written as eStargz.
func (r *Registry) Lazy() bool { return r.cfg.Lazy }

// Insecure says that it is spoken with over http.
func (r *Registry) Insecure() bool { return r.cfg.Insecure }

// Host is the registry of the configured prefix, "host:port"; empty without one.
func (r *Registry) Host() string { return r.own }

// Identified says that who is given no credentials signs in to the registry with the
// identity of its pod.
func (r *Registry) Identified() bool { return r.cloud != nil }

// Options are what every call of go-containerregistry gets, beside its context.
// say may be nil.
func (r *Registry) Options(say func(line string)) []remote.Option {
	return []remote.Option{
		remote.WithAuthFromKeychain(r), remote.WithUserAgent("binnacle"),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		remote.WithTransport(&patient{under: r.transport, say: say}),
		// Waiting for a registry that is busy is patient's.
		remote.WithRetryStatusCodes(http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout),
	}
}
