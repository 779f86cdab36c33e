// Package tryout makes images that stand in for those with which the chart tries a hub
// out, registry:3 and postgres:18, where these can't be fetched. In them run the same
// programs, as Debian has them on this machine, older by a version; how they are told
// what to do is the images' own: user ids that are not root's, PGDATA and POSTGRES_…
// of the one, REGISTRY_… and /var/lib/registry of the other, ports, entrypoints.
package tryout

import (
	"archive/tar"
	"bytes"
	_ "embed"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/binnacle-hub/binnacle/test/postgres"
)

//go:embed postgres.sh
var entrypoint string

//go:embed registry.yml
var settings string

// Registry is an image that does what registry:3 does.
func Registry(t testing.TB) v1.Image {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		missing(t, "docker-registry")
	}
	layers := []v1.Layer{
		programs(t, program),
		files(t, file{"etc/distribution/config.yml", settings, 0o644}, link("bin/registry", program), directory("var/lib/registry", 0o755)),
	}
	return image(t, layers, v1.Config{
		Entrypoint: []string{"registry", "serve"}, Cmd: []string{"/etc/distribution/config.yml"}, Env: []string{"PATH=/usr/bin:/bin"},
	})
}

// Postgres is an image that does what postgres:18 does.
func Postgres(t testing.TB) v1.Image {
	t.Helper()
	bin := postgres.Programs()
	if bin == "" {
		missing(t, "postgresql")
	}
	version := filepath.Base(filepath.Dir(bin))
	paths := []string{filepath.Join(filepath.Dir(bin), "lib"), "/usr/share/postgresql/" + version, "/usr/share/zoneinfo/Etc", "/usr/share/zoneinfo/UTC", "/usr/lib/locale/C.utf8"}
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "pg_isready", "psql"} {
		paths = append(paths, filepath.Join(bin, name))
	}
	for _, name := range []string{"bash", "sh", "cat", "chmod", "mkdir"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	layers := []v1.Layer{programs(t, paths...), files(t,
		file{"usr/local/bin/docker-entrypoint.sh", entrypoint, 0o755}, file{"etc/passwd", "root:x:0:0::/root:/bin/bash\npostgres:x:999:999::/var/lib/postgresql:/bin/bash\n", 0o644},
		link("bin/sh", "/usr/bin/sh"), link("bin/bash", "/usr/bin/bash"), directory("tmp", 0o1777), directory("var/run/postgresql", 0o3777),
	)}
	return image(t, layers, v1.Config{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, StopSignal: "SIGINT",
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:" + bin, "PGDATA=/var/lib/postgresql/18/docker", "LANG=C.UTF-8"},
	})
}

func missing(t testing.TB, name string) {
	t.Helper()
	if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
		t.Fatalf("%s is not installed (tools/setup.sh test), and BINNACLE_TEST_REQUIRE=all", name)
	}
	t.Skipf("%s is not installed; tools/setup.sh test installs it", name)
}

// programs is a layer of files and directories of this machine, and of the libraries that
// they load.
func programs(t testing.TB, paths ...string) v1.Layer {
	t.Helper()
	all := map[string]bool{}
	for _, path := range paths {
		all[path] = true
		loads := []string{path}
		if more, err := filepath.Glob(path + "/*.so"); err == nil && len(more) > 0 {
			loads = slices.DeleteFunc(more, func(p string) bool { return strings.Contains(p, "llvmjit") })
		}
		for _, p := range loads {
			out, _ := exec.CommandContext(t.Context(), "ldd", p).Output() // what is no program loads nothing
			for _, m := range regexp.MustCompile(`(?m)(/\S+) \(0x`).FindAllSubmatch(out, -1) {
				all[string(m[1])] = true
			}
		}
	}
	archive := filepath.Join(t.TempDir(), "programs.tar")
	args := []string{"-C", "/", "--dereference", "--hard-dereference", "--exclude=bitcode", "--exclude=llvmjit*", "--owner=0", "--group=0", "--numeric-owner", "-cf", archive}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		args = append(args, strings.TrimPrefix(path, "/"))
	}
	if out, err := exec.CommandContext(t.Context(), "tar", args...).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	layer, err := tarball.LayerFromFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// file is one of an image; one without a text is a directory, or a link by its target.
type file struct {
	name, text string
	mode       int64
}

const isLink = -1

func link(name, target string) file          { return file{name, target, isLink} }
func directory(name string, mode int64) file { return file{name + "/", "", mode} }
func (f file) header() *tar.Header {
	switch {
	case f.mode == isLink:
		return &tar.Header{Name: f.name, Linkname: f.text, Typeflag: tar.TypeSymlink, Mode: 0o777}
	case strings.HasSuffix(f.name, "/"):
		return &tar.Header{Name: f.name, Typeflag: tar.TypeDir, Mode: f.mode}
	}
	return &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text))}
}

// files is a layer of files of an image's own.
func files(t testing.TB, list ...file) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range list {
		h := f.header()
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, f.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func image(t testing.TB, layers []v1.Layer, config v1.Config) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	told, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	told = told.DeepCopy()
	told.OS, told.Architecture, told.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, told); err != nil {
		t.Fatal(err)
	}
	return img
}
