package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// The names under which a build sends what the Dockerfile of a base is built with.
const (
	baseContext    = "context"
	baseDockerfile = "dockerfile"
)

// addContext adds the directories that the base of a recipe is built with.
func addContext(mounts map[string]fsutil.FS, req Request) error {
	base := req.Recipe.Base
	if base == nil || base.Dockerfile == "" {
		return nil
	}
	root, err := filepath.EvalSymlinks(req.Dir)
	if err != nil {
		return fmt.Errorf("read the repository's files: %w", err)
	}
	for name, dir := range map[string]string{baseContext: base.Context, baseDockerfile: "."} {
		at, err := filepath.EvalSymlinks(filepath.Join(root, filepath.FromSlash(dir)))
		if err != nil || (at != root && !strings.HasPrefix(at, root+string(filepath.Separator))) {
			return fmt.Errorf("the build context %q is not in the repository: %w", dir, err)
		}
		if mounts[name], err = fsutil.NewFS(at); err != nil {
			return fmt.Errorf("read the repository's files: %w", err)
		}
	}
	return nil
}

// theirs is the base that the recipe names: an image, or what its Dockerfile
// makes. BuildKit's own frontend reads both.
func theirs(ctx context.Context, c gateway.Client, req Request) (foundation, error) {
	base := req.Recipe.Base
	solve := gateway.SolveRequest{Frontend: "dockerfile.v0"}
	if base.Dockerfile == "" {
		const name = "Dockerfile"
		def, err := marshal(ctx, inputs([]recipe.Input{{Name: name, Content: []byte("FROM " + base.Image + "\n")}}))
		if err != nil {
			return foundation{}, fmt.Errorf("name the image: %w", err)
		}
		solve.FrontendOpt = dockerfileAttrs(req, name)
		solve.FrontendInputs = map[string]*pb.Definition{baseDockerfile: def.ToPB(), baseContext: def.ToPB()}
	} else {
		solve.FrontendOpt = dockerfileAttrs(req, base.Dockerfile)
		if base.Target != "" {
			solve.FrontendOpt["target"] = base.Target
		}
		for name, value := range base.Args {
			solve.FrontendOpt["build-arg:"+name] = value
		}
	}
	res, err := c.Solve(ctx, solve)
	if err != nil {
		return foundation{}, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return foundation{}, fmt.Errorf("the image under the environment: %w", err)
	}
	state := llb.Scratch()
	if ref != nil {
		if state, err = ref.ToState(); err != nil {
			return foundation{}, fmt.Errorf("the image under the environment: %w", err)
		}
	}
	var config ocispec.Image
	if err := json.Unmarshal(res.Metadata[exptypes.ExporterImageConfigKey], &config); err != nil {
		return foundation{}, fmt.Errorf("the configuration of the image under the environment: %w", err)
	}
	return foundation{state: state, env: config.Config.Env, foreign: true}, nil
}

// environmentOf is what the configuration of the hub's base sets: an operator's
// own image may need it, as those for CUDA do. The base we bootstrap sets nothing.
func environmentOf(ctx context.Context, c gateway.Client, base string) ([]string, error) {
	if strings.HasPrefix(base, host) {
		return nil, nil
	}
	on := platform()
	_, _, b, err := c.ResolveImageConfig(ctx, base, sourceresolver.Opt{
		LogName: baseStep, ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &on, ResolveMode: llb.ResolveModePreferLocal.String()},
	})
	if err != nil {
		return nil, fmt.Errorf("look at the base image %s: %w", base, err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, fmt.Errorf("the configuration of the base image %s: %w", base, err)
	}
	return config.Config.Env, nil
}

// onto is the recipe with the PATH of the image under it behind its own.
func onto(r recipe.Recipe, env []string) recipe.Recipe {
	for _, s := range env {
		path, ok := strings.CutPrefix(s, "PATH=")
		if !ok {
			continue
		}
		for _, vars := range []*map[string]string{&r.Env, &r.LateEnv} {
			if have := (*vars)["PATH"]; strings.Contains(have, systemPath) {
				*vars = maps.Clone(*vars)
				(*vars)["PATH"] = strings.Replace(have, systemPath, path, 1)
			}
		}
	}
	return r
}
