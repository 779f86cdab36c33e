package image

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"google.golang.org/grpc/metadata"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
)

// Shared says where images are that every machine of a cluster fetches.
type Shared struct {
	// Registry is asked for images; builders push to it.
	Registry *registry.Registry
	// Base is the image everything is built on; empty is the one that builders
	// bootstrap, which is kept in the registry too, so that all builders have the
	// same.
	Base string
	// Bootstrapped is what builders call the base that they bootstrap, and BaseKey
	// tells differently bootstrapped ones apart.
	Bootstrapped, BaseKey string
}

// NewShared makes the Builder of a cluster: it builds on the builders of a pool,
// and images are in a registry.
func NewShared(pool Pool, s Shared, version string, log *slog.Logger) *Builder {
	in := inRegistry{s}
	return &Builder{pool: pool, keeper: in, base: &sharedBase{inRegistry: in, pool: pool}, version: version, log: log}
}

// inRegistry keeps images in a registry, with what they are made of.
type inRegistry struct{ Shared }

// name is the local one below the prefix.
func (in inRegistry) name(rev binnacle.Revision, asked string) string {
	return in.Registry.Name(strings.TrimPrefix(Name(rev, asked), host))
}

func (in inRegistry) find(ctx context.Context, name string) (Image, bool, error) {
	img, ok, err := in.Registry.Image(ctx, name, func(string) {})
	if err != nil || !ok {
		return Image{}, false, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, false, in.explain(ctx, name, err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Image{}, false, in.explain(ctx, name, err)
	}
	labels := file.Config.Labels
	return Image{Name: name, Digest: digest.String(), Environment: labels[LabelEnvironment], interfaces: labels[LabelInterfaces]}, true, nil
}

// prepare pushes the image, and keeps the cache of its environment beside it: a
// builder that has never made it starts from there.
func (in inRegistry) prepare(req Request, opt *bkclient.SolveOpt) {
	opt.Session = []session.Attachable{in.Registry.BuildKitAuth()}
	opt.Exports = []bkclient.ExportEntry{in.push(req.Name)}
	if ref := in.cache(req); ref != nil {
		opt.CacheImports = []bkclient.CacheOptionsEntry{{Type: ref.Type, Attrs: ref.Attrs}}
		attrs := exportAttrs()
		maps.Copy(attrs, ref.Attrs)
		// A cache that can't be kept makes a later build slower, nothing more.
		maps.Copy(attrs, map[string]string{"mode": "min", "image-manifest": "true", "ignore-error": "true"})
		opt.CacheExports = []bkclient.CacheOptionsEntry{{Type: ref.Type, Attrs: attrs}}
	}
}

func (in inRegistry) push(name string) bkclient.ExportEntry {
	attrs := exportAttrs()
	maps.Copy(attrs, map[string]string{"name": name, "push": "true", "store": "false"})
	if in.Registry.Lazy() {
		// Every layer, or a machine waits for the one that is not.
		attrs["compression"], attrs["force-compression"] = "estargz", "true"
	}
	if in.Registry.Insecure() {
		attrs["registry.insecure"] = "true"
	}
	return bkclient.ExportEntry{Type: bkclient.ExporterImage, Attrs: attrs}
}

// cache is where the steps of an environment are kept; nil for a Dockerfile,
// whose environment nobody knows before.
func (in inRegistry) cache(req Request) *gateway.CacheOptionsEntry {
	const most = 128 // characters of a tag
	key := req.Recipe.Environment()
	if key == "" || len(key) > most || dockerfilePath(req.Recipe) != "" {
		return nil
	}
	attrs := map[string]string{"ref": in.Registry.Name("cache:" + key)}
	if in.Registry.Insecure() {
		attrs["registry.insecure"] = "true"
	}
	return &gateway.CacheOptionsEntry{Type: "registry", Attrs: attrs}
}

func (inRegistry) attested() bool { return true }

// built has nothing to add: labels are in the image.
func (inRegistry) built(context.Context, Image) error { return nil }

func (in inRegistry) explain(ctx context.Context, name string, err error) error {
	return in.Registry.Explain(ctx, name, registry.Write, err)
}

// sharedBase is the base of a cluster.
type sharedBase struct {
	inRegistry

	pool Pool
	mu   sync.Mutex
	have string
}

// EnsureBase names the base. When builders bootstrap it, the first one that is
// asked brings its own to the registry, and that is everybody's from then on.
func (b *sharedBase) EnsureBase(ctx context.Context, out func(line string)) (string, error) {
	if b.Base != "" {
		return b.Base, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have != "" {
		return b.have, nil
	}
	const short = 12
	name := b.Registry.Name("base:" + b.BaseKey[:short])
	_, ok, err := b.Registry.Image(ctx, name, out)
	if err != nil {
		return "", err
	}
	if !ok {
		out("The registry has no base image yet: a builder brings its own there.")
		if err := b.bring(ctx, name, out); err != nil {
			return "", err
		}
	}
	b.have = name
	return name, nil
}

func (b *sharedBase) bring(ctx context.Context, name string, out func(line string)) error {
	def, err := llb.Image(b.Bootstrapped, llb.ResolveModePreferLocal).Marshal(ctx, llb.Platform(platform()))
	if err != nil {
		return fmt.Errorf("name the base image: %w", err)
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{})
	err = b.pool.Use(ctx, name, out, func(ctx context.Context, c *bkclient.Client) error {
		opt := bkclient.SolveOpt{Session: []session.Attachable{b.Registry.BuildKitAuth()}, Exports: []bkclient.ExportEntry{b.push(name)}}
		_, err := c.Solve(ctx, def, opt, nil)
		return err
	})
	if err != nil && ctx.Err() == nil {
		return b.explain(ctx, name, err)
	}
	return err
}

// imports are the caches that a step of a build looks into.
func (b *Builder) imports(req Request) []gateway.CacheOptionsEntry {
	in, ok := b.keeper.(inRegistry)
	if !ok {
		return nil
	}
	if c := in.cache(req); c != nil {
		return []gateway.CacheOptionsEntry{*c}
	}
	return nil
}
