package image

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	bkclient "github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/fsutil"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// solveDockerfile builds the repository's own Dockerfile with BuildKit's
// frontend, the one compiled into this program: a "# syntax=" line is read as
// a comment, because it would run somebody's program inside the builder.
func (b *Builder) solveDockerfile(ctx context.Context, w work, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) (*bkclient.SolveResponse, error) {
	req := w.Request
	root, err := filepath.EvalSymlinks(req.Dir)
	if err != nil {
		close(status)
		return nil, fmt.Errorf("read the repository's files: %w", err)
	}
	files, err := fsutil.NewFS(root)
	if err != nil {
		close(status)
		return nil, fmt.Errorf("read the repository's files: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(root, filepath.FromSlash(req.Recipe.Dockerfile))); err != nil {
		close(status)
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	opt.LocalMounts = map[string]fsutil.FS{"context": files, "dockerfile": files}
	attrs := dockerfileAttrs(req, req.Recipe.Dockerfile)
	for name, value := range b.labels(req) {
		attrs["label:"+name] = value
	}
	if !req.attested {
		opt.Frontend, opt.FrontendAttrs = "dockerfile.v0", attrs
		return w.buildkit.Solve(ctx, nil, opt, status)
	}
	return w.buildkit.Build(ctx, opt, "binnacle", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: attrs})
		if err != nil {
			return nil, err
		}
		return b.attest(ctx, c, req, res)
	}, status)
}

func dockerfileAttrs(req Request, file string) map[string]string {
	return map[string]string{
		"filename":           path.Clean(file),
		"cmdline":            "dockerfile.v0", // set: the frontend does not look for a syntax line
		"image-resolve-mode": "local",
		// repo2docker gives these two, so Dockerfiles in the wild use them.
		"build-arg:NB_USER": recipe.User,
		"build-arg:NB_UID":  strconv.Itoa(recipe.UID),
		// One repository's cache mounts are not another's.
		"build-arg:BUILDKIT_CACHE_MOUNT_NS": slug(repository(req.Revision.Spec), 100),
	}
}
