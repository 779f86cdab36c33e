package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
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

// Builder builds images with one BuildKit.
type Builder struct {
	buildkit *bkclient.Client
	store    images.Store
	base     Base
	version  string
	log      *slog.Logger
}

// NewBuilder makes a Builder. The store is where BuildKit exports to; version
// is ours, for the image's labels.
func NewBuilder(buildkit *bkclient.Client, store images.Store, base Base, version string, log *slog.Logger) *Builder {
	return &Builder{buildkit: buildkit, store: store, base: base, version: version, log: log}
}

// Find looks for the image of a revision that was built before. For an interface
// that a link asks for, the repository's own image will do if it offers that.
func (b *Builder) Find(ctx context.Context, rev binnacle.Revision, asked string) (Image, bool, error) {
	img, ok, err := b.named(ctx, Name(rev, ""))
	if err != nil || asked == "" || ok && slices.Contains(strings.Split(img.interfaces, ","), asked) {
		return img, ok, err
	}
	return b.named(ctx, Name(rev, asked))
}

func (b *Builder) named(ctx context.Context, name string) (Image, bool, error) {
	img, err := b.store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return Image{}, false, nil
	}
	if err != nil {
		return Image{}, false, fmt.Errorf("look for the image: %w", err)
	}
	return Image{
		Name: img.Name, Digest: img.Target.Digest.String(), Environment: img.Labels[LabelEnvironment], interfaces: img.Labels[LabelInterfaces],
	}, true, nil
}

// Build makes the image and reports steps and their output as events of the
// building phase. Returns build_failed with the file at fault when the
// repository is, canceled or timeout when ctx ends (its cause is kept), limited
// when a step ran out of memory.
func (b *Builder) Build(ctx context.Context, req Request, emit func(binnacle.Event)) (Image, error) {
	if req.Name == "" {
		req.Name = Name(req.Revision, req.Recipe.Asked)
	}
	base, err := b.base.EnsureBase(ctx, func(line string) { emit(logLine("Base image", line)) })
	if err != nil {
		return Image{}, err
	}
	tree, err := content(req.Dir, req.Recipe.Ignore)
	if err != nil {
		return Image{}, err
	}
	opt := bkclient.SolveOpt{
		Exports: exports(req),
		Session: []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
			AuthConfigProvider: authprovider.LoadAuthConfig(config.LoadDefaultConfigFile(io.Discard)),
		})},
	}
	if dockerfilePath(req.Recipe) != "" {
		// The Dockerfile's context is told from what was sent before by sizes and
		// times: it must have been the same repository's.
		opt.SharedKey = string(req.Revision.Spec.Provider) + "/" + req.Revision.Spec.Repo
	}
	p := newProgress(emit)
	status := make(chan *bkclient.SolveStatus)
	var watch errgroup.Group
	watch.Go(func() error { p.follow(status); return nil })
	solve := b.solveRecipe
	if req.Recipe.Dockerfile != "" {
		solve = b.solveDockerfile
	}
	// Headers of a containerd namespace in ctx would confuse BuildKit.
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{})
	res, err := solve(ctx, req, base, tree, opt, status)
	if err = errors.Join(err, watch.Wait()); err != nil {
		return Image{}, p.explain(ctx, req, err)
	}
	if req.Push {
		emit(logLine("push", "Pushing to "+req.Tag))
		if err := b.push(ctx, req, opt, func(ctx context.Context, req Request, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) error {
			_, err := solve(ctx, req, base, tree, opt, status)
			return err
		}); err != nil {
			return Image{}, err
		}
	}
	img := Image{Name: req.Name, Digest: res.ExporterResponse[exptypes.ExporterImageDigestKey], Environment: req.Recipe.Environment(), interfaces: interfaces(req.Recipe)}
	if req.Asked != "" {
		img.interfaces += "," + req.Asked // in vain, perhaps: asking again would not help
	}
	return img, b.label(ctx, img)
}

// label keeps with the image what Find must know.
func (b *Builder) label(ctx context.Context, img Image) error {
	have, err := b.store.Get(ctx, img.Name)
	if err != nil {
		return fmt.Errorf("the image that was just built: %w", err)
	}
	have.Labels = maps.Clone(have.Labels)
	if have.Labels == nil {
		have.Labels = map[string]string{}
	}
	have.Labels[LabelEnvironment], have.Labels[LabelInterfaces] = img.Environment, img.interfaces
	if _, err := b.store.Update(ctx, have, "labels"); err != nil {
		return fmt.Errorf("label the image: %w", err)
	}
	return nil
}

func (b *Builder) solveRecipe(ctx context.Context, req Request, base string, tree map[string]fsutil.FS, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) (*bkclient.SolveResponse, error) {
	opt.LocalMounts = tree
	if err := addContext(opt.LocalMounts, req); err != nil {
		close(status)
		return nil, err
	}
	return b.buildkit.Build(ctx, opt, "binnacle", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		on := ours(base)
		var err error
		if req.Recipe.Base != nil {
			on, err = theirs(ctx, c, req)
		} else {
			on.env, err = environmentOf(ctx, c, base)
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
		res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
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
		LabelEnvironment: req.Recipe.Environment(), LabelKind: req.Recipe.Kind, LabelInterfaces: interfaces(req.Recipe),
	}
}

// interfaces are the names of what a session of the image offers.
func interfaces(r recipe.Recipe) string {
	var names []string
	for _, i := range r.Interfaces {
		names = append(names, i.Name)
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

// exports are where the image goes: always into the runtime's own store,
// unpacked, which is why a session can start from it without pull or copy.
func exports(req Request) []bkclient.ExportEntry {
	entry := func(kind string, more map[string]string) bkclient.ExportEntry {
		all := exportAttrs()
		maps.Copy(all, more)
		return bkclient.ExportEntry{Type: kind, Attrs: all}
	}
	out := []bkclient.ExportEntry{entry(bkclient.ExporterImage, map[string]string{"name": req.Name, "unpack": "true"})}
	if req.Tag != "" && !req.Push {
		out = append(out, entry(bkclient.ExporterImage, map[string]string{"name": req.Tag}))
	}
	if req.Output != "" {
		name := req.Tag
		if name == "" {
			name = req.Name
		}
		e := entry(bkclient.ExporterOCI, map[string]string{"name": name, "tar": "true"})
		e.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(req.Output) }
		out = append(out, e)
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
