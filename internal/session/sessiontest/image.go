package sessiontest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Compile compiles sessiontest/cmd/server into a directory, and returns the
// program for BuildImage.
func Compile(ctx context.Context, dir string) ([]byte, error) {
	out := filepath.Join(dir, "jupyter-lab")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "github.com/binnacle-hub/binnacle/internal/session/sessiontest/cmd/server")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile the server of sessions: %w\n%s", err, b)
	}
	return os.ReadFile(out)
}

// BuildImage makes an image of little but the program, as jupyter-lab.
func BuildImage(program []byte, cfg v1.Config) (v1.Image, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "home/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "home/jovyan/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 1000, Gid: 1000},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/bin/jupyter-lab", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
		{Name: "usr/bin/jupyter", Typeflag: tar.TypeLink, Mode: 0o755, Linkname: "usr/bin/jupyter-lab"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	f, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	f = f.DeepCopy()
	f.OS, f.Architecture, f.Config = "linux", runtime.GOARCH, cfg
	return mutate.ConfigFile(img, f)
}
