package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// Base makes sure of the image everything is built on and names it.
type Base interface {
	EnsureBase(ctx context.Context, out func(line string)) (string, error)
}

// Pool lends BuildKits: a machine's own, or one of a cluster's builders. Builds
// with the same key should get the same one. say is told what the user should
// know. f may be run again, with another BuildKit, when one goes away.
type Pool interface {
	Use(ctx context.Context, key string, say func(line string), f func(context.Context, *bkclient.Client) error) error
}

// keeper is where finished images are: a machine's own store, or a registry.
type keeper interface {
	name(rev binnacle.Revision, asked string) string
	// find looks for an image by its name.
	find(ctx context.Context, name string) (Image, bool, error)
	// prepare adds to a build where its image goes and who asks for it.
	prepare(req Request, opt *bkclient.SolveOpt)
	// attested says that images carry what they are made of.
	attested() bool
	// built is told of an image that was just put there.
	built(ctx context.Context, img Image) error
	// explain says why putting an image there failed.
	explain(ctx context.Context, name string, err error) error
}

// Builder builds images.
type Builder struct {
	pool    Pool
	keeper  keeper
	base    Base
	version string
	log     *slog.Logger
}

// NewBuilder makes the Builder of one machine. The store is where BuildKit
// exports to; version is ours, for the image's labels.
func NewBuilder(buildkit *bkclient.Client, store images.Store, base Base, version string, log *slog.Logger) *Builder {
	return &Builder{pool: one{buildkit}, keeper: local{store}, base: base, version: version, log: log}
}

// Name is what the image of a revision is called.
func (b *Builder) Name(rev binnacle.Revision, asked string) string { return b.keeper.name(rev, asked) }

// Find looks for the image of a revision that was built before. For an interface
// that a link asks for, the repository's own image will do if it offers that.
func (b *Builder) Find(ctx context.Context, rev binnacle.Revision, asked string) (Image, bool, error) {
	img, ok, err := b.keeper.find(ctx, b.Name(rev, ""))
	if err != nil || asked == "" || ok && slices.Contains(strings.Split(img.interfaces, ","), asked) {
		return img, ok, err
	}
	return b.keeper.find(ctx, b.Name(rev, asked))
}

// Build makes the image and reports steps and their output as events of the
// building phase. Returns build_failed with the file at fault when the
// repository is, canceled or timeout when ctx ends (its cause is kept), limited
// when a step ran out of memory, unavailable when no builder or no registry is there.
func (b *Builder) Build(ctx context.Context, req Request, emit func(binnacle.Event)) (Image, error) {
	if req.Name == "" {
		req.Name = b.Name(req.Revision, req.Recipe.Asked)
	}
	base, err := b.base.EnsureBase(ctx, func(line string) { emit(logLine("Base image", line)) })
	if err != nil {
		return Image{}, err
	}
	tree, err := content(req.Dir, req.Recipe.Ignore)
	if err != nil {
		return Image{}, err
	}
	req.attested = b.keeper.attested()
	// Headers of a containerd namespace in ctx would confuse BuildKit.
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{})
	var img Image
	say := func(line string) { emit(logLine("builder", line)) }
	err = b.pool.Use(ctx, req.Recipe.Environment(), say, func(ctx context.Context, c *bkclient.Client) (err error) {
		img, err = b.buildOn(ctx, work{Request: req, buildkit: c, base: base, tree: tree}, emit)
		return err
	})
	if err != nil {
		return Image{}, err
	}
	return img, b.keeper.built(ctx, img)
}

// work is one build on one BuildKit.
type work struct {
	Request

	buildkit *bkclient.Client
	base     string
	tree     map[string]fsutil.FS
}

func (b *Builder) buildOn(ctx context.Context, w work, emit func(binnacle.Event)) (Image, error) {
	var opt bkclient.SolveOpt
	b.keeper.prepare(w.Request, &opt)
	if dockerfilePath(w.Recipe) != "" {
		// The Dockerfile's context is told from what was sent before by sizes and
		// times: it must have been the same repository's.
		opt.SharedKey = repository(w.Revision.Spec)
	}
	p := newProgress(emit)
	status := make(chan *bkclient.SolveStatus)
	var watch errgroup.Group
	watch.Go(func() error { p.follow(status); return nil })
	res, err := b.solve(ctx, w, opt, status)
	if err = errors.Join(err, watch.Wait()); err != nil {
		if p.exporting() && ctx.Err() == nil {
			err = b.keeper.explain(ctx, w.Name, err)
		}
		return Image{}, p.explain(ctx, w.Request, err)
	}
	if w.Push {
		emit(logLine("push", "Pushing to "+w.Tag))
		if err := b.push(ctx, w, opt); err != nil {
			return Image{}, err
		}
	}
	img := Image{Name: w.Name, Digest: res.ExporterResponse[exptypes.ExporterImageDigestKey], Environment: w.Recipe.Environment(), interfaces: w.interfaces()}
	return img, nil
}

func (b *Builder) solve(ctx context.Context, w work, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) (*bkclient.SolveResponse, error) {
	if w.attested {
		opt.FrontendAttrs = map[string]string{"attest:provenance": "mode=max"}
	}
	if w.Recipe.Dockerfile != "" {
		return b.solveDockerfile(ctx, w, opt, status)
	}
	return b.solveRecipe(ctx, w, opt, status)
}

func (b *Builder) solveRecipe(ctx context.Context, w work, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) (*bkclient.SolveResponse, error) {
	req := w.Request
	opt.LocalMounts = maps.Clone(w.tree)
	if err := addContext(opt.LocalMounts, req); err != nil {
		close(status)
		return nil, err
	}
	return w.buildkit.Build(ctx, opt, "binnacle", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		on := ours(w.base)
		var err error
		if req.Recipe.Base != nil {
			on, err = theirs(ctx, c, req)
		} else {
			on.env, err = environmentOf(ctx, c, w.base)
		}
		if err != nil {
			return nil, err
		}
		req.Recipe = onto(req.Recipe, on.env)
		state, err := graph(on, req.Recipe, commitTime(req.Time))
		if err != nil {
			return nil, err
		}
		def, err := marshal(ctx, state)
		if err != nil {
			return nil, fmt.Errorf("write the build's graph: %w", err)
		}
		cfg, err := json.Marshal(b.config(req, on.env))
		if err != nil {
			return nil, fmt.Errorf("write the image's configuration: %w", err)
		}
		res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true, CacheImports: b.imports(req)})
		if err != nil {
			return nil, err
		}
		res.AddMeta(exptypes.ExporterImageConfigKey, cfg)
		if req.attested {
			return b.attest(ctx, c, req, res)
		}
		return res, nil
	}, status)
}

// config is how a container of the image starts.
func (b *Builder) config(req Request, below []string) ocispec.Image {
	env := environment(req.Recipe, below)
	maps.Copy(env, req.Recipe.LateEnv)
	if req.Recipe.Start != "" && env["R2D_ENTRYPOINT"] == "" {
		env["R2D_ENTRYPOINT"] = recipe.RepoDir + "/" + req.Recipe.Start
	}
	created := commitTime(req.Time)
	return ocispec.Image{
		Created:  &created,
		Platform: platform(),
		Config: ocispec.ImageConfig{
			User: recipe.User, WorkingDir: recipe.RepoDir, Env: sortedEnv(env), ExposedPorts: map[string]struct{}{"8888/tcp": {}},
			Entrypoint: []string{"/usr/local/bin/repo2docker-entrypoint"},
			// Not "jupyter lab": that starts a Python only to start another.
			Cmd:    []string{"jupyter-lab", "--ip", "0.0.0.0"},
			Labels: b.labels(req),
		},
	}
}

func (b *Builder) labels(req Request) map[string]string {
	repo := req.Revision.URL
	if req.Revision.Spec.Provider == binnacle.Dir {
		repo = "local" // as repo2docker: a path of this machine is nobody's business
	}
	return map[string]string{
		LabelRepo: repo, LabelRef: req.Revision.Commit, LabelVersion: "binnacle " + b.version,
		LabelEnvironment: req.Recipe.Environment(), LabelKind: req.Recipe.Kind, LabelInterfaces: req.interfaces(),
	}
}

// interfaces are the names of what a session of the image offers, and of what a
// link asked for: in vain, perhaps, but asking again would not help.
func (r Request) interfaces() string {
	var names []string
	for _, i := range r.Recipe.Interfaces {
		names = append(names, i.Name)
	}
	if r.Asked != "" && !slices.Contains(names, r.Asked) {
		names = append(names, r.Asked)
	}
	return strings.Join(names, ",")
}

func sortedEnv(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// exportAttrs are BuildKit's settings for every image. Nothing in it is younger
// than a fixed time: a layer that an earlier build left in the cache would else
// be told from one that was just made. When the commit was made is a label.
func exportAttrs() map[string]string {
	return map[string]string{
		"compression": "zstd", "oci-mediatypes": "true", "source-date-epoch": strconv.FormatInt(commitTime(0).Unix(), 10),
	}
}

// commitTime is the time of files and image; the year 2000 when there is none.
func commitTime(seconds int64) time.Time {
	const fixed = 946684800
	if seconds <= 0 {
		seconds = fixed
	}
	return time.Unix(seconds, 0).UTC()
}

func platform() ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

func logLine(step, line string) binnacle.Event {
	return binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Step: step, Message: strings.TrimRight(line, "\r\n")}
}
