package image_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestCUDA: what docs/operate.md tells for GPUs, on either processor, for packages of
// conda and of PyPI. Everything stands on NVIDIA's image, and every step sees what
// that one sets. No image of NVIDIA's can be had here, nor a GPU.
func TestCUDA(t *testing.T) {
	const base = "nvidia/cuda:13.0.1-runtime-ubuntu24.04"
	below := []string{"PATH=/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH=/usr/local/cuda/lib64", "NVIDIA_VISIBLE_DEVICES=all"}
	for arch, on := range map[string]llb.ConstraintsOpt{"amd64": llb.LinuxAmd64, "arm64": llb.LinuxArm64} {
		for _, name := range []string{"requirements", "conda", "conda-lock"} {
			t.Run(name+"/"+arch, func(t *testing.T) {
				r, err := recipe.Read(os.DirFS(filepath.Join("../../examples", name)), recipe.Options{BasePython: "3.12", Arch: arch})
				if err != nil {
					t.Fatal(err)
				}
				s, err := image.GraphOn(base, below, r, time.Unix(1, 0))
				if err != nil {
					t.Fatal(err)
				}
				def, err := s.Marshal(t.Context(), on)
				if err != nil {
					t.Fatal(err)
				}
				images, steps := map[string]bool{}, 0
				for _, b := range def.Def {
					op := &pb.Op{}
					if err := op.UnmarshalVT(b); err != nil {
						t.Fatal(err)
					}
					if src := op.GetSource(); src != nil && strings.HasPrefix(src.Identifier, "docker-image://") {
						images[src.Identifier] = true
					}
					if op.GetExec() == nil {
						continue
					}
					if op.Platform.GetArchitecture() != arch {
						t.Errorf("a step is for %s", op.Platform.GetArchitecture())
					}
					if seen(t, op.GetExec().Meta) {
						steps++
					}
				}
				if want := "docker-image://docker.io/" + base; !images[want] || len(images) != 1 {
					t.Errorf("the images are %v", slices.Sorted(maps.Keys(images)))
				}
				if least := len(r.Steps); steps < least {
					t.Errorf("%d of at least %d steps see what the base sets", steps, least)
				}
			})
		}
	}
}

// seen says that a step sees what the base sets, with its own PATH before. Preparing the
// base needs none of it.
func seen(t *testing.T, meta *pb.Meta) bool {
	t.Helper()
	if !slices.Contains(meta.Env, "NVIDIA_VISIBLE_DEVICES=all") {
		return false
	}
	path := slices.IndexFunc(meta.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	if path < 0 || !slices.Contains(meta.Env, "LD_LIBRARY_PATH=/usr/local/cuda/lib64") ||
		!strings.Contains(meta.Env[path], recipe.Prefix+"/bin:") || !strings.HasSuffix(meta.Env[path], ":/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") {
		t.Errorf("a step sees %v", meta.Env)
	}
	return true
}
