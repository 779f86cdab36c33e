package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
)

// ecosystems are examples of what repositories declare; peer says that
// repo2docker can build it from the package registries alone.
func ecosystems() []ecosystem {
	return []ecosystem{
		{name: "requirements.txt", example: "requirements", peer: true}, // the first has the server's layer to build
		{name: "no files", example: "plain", peer: true},
		{name: "apt.txt", example: "apt", peer: true},
		{name: "pyproject.toml", example: "pyproject"},
		{name: "uv.lock", example: "uv-paper"},
		{name: "poetry.lock", example: "poetry-library"},
		{name: "pdm.lock", example: "pdm-workshop"},
		{name: "Pipfile.lock", example: "pipenv-course"},
		{name: "package-lock.json (Deno kernel)", example: "npm"},
		{name: "go.mod (Go kernel)", example: "go"},
		{name: "environment.yml (conda)", example: "conda-course", server: "conda"},
		{name: "install.R", example: "r-install", server: "cran"},
		{name: "Project.toml (Julia)", example: "julia", server: "julia", files: map[string]string{"Project.toml": juliaserver.ExampleProject}},
		{name: "default.nix", example: "nix"},
	}
}

type ecosystem struct {
	name, example string
	peer          bool
	server        string            // of ours, that it needs; or empty
	files         map[string]string // instead of the example's
}

// dir is where its repository's files are; remove ends what was made for it.
func (e ecosystem) dir() (dir string, remove func() error, err error) {
	if e.files == nil {
		return filepath.Join("examples", e.example), func() error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("/tmp", "example"); err != nil {
		return "", nil, err
	}
	for name, text := range e.files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// environments measures builds of one repository of each ecosystem, and of
// repo2docker's for some of them, on the same BuildKit.
func environments(some *regexp.Regexp, missing map[string]string) step {
	return func(ctx context.Context, r *report, h *hub, _ int) error { return h.ecosystems(ctx, r, some, missing) }
}

func (h *hub) ecosystems(ctx context.Context, r *report, some *regexp.Regexp, missing map[string]string) (err error) {
	if err := h.prepare(ctx, "base", "FROM binnacle.local/base\n"); err != nil {
		return err
	}
	theirs, err := newRepo2docker(ctx)
	if err != nil {
		r.Missing = append(r.Missing, "repo2docker: "+err.Error())
	} else {
		defer func() { err = errors.Join(err, theirs.close()) }()
		if err := h.prepare(ctx, "peerbase", standInBase); err != nil {
			return err
		}
	}
	for i, e := range ecosystems() {
		if i > 0 && !some.MatchString(e.name) { // the first builds what all stand on
			continue
		}
		with := "server's layer present"
		if i == 0 {
			with = "base present"
		}
		if why := missing[e.server]; why != "" {
			r.Missing = append(r.Missing, e.name+": "+why)
			continue
		}
		if err := h.ecosystem(ctx, r, theirs, e, with); err != nil {
			return err
		}
	}
	return nil
}

// ecosystem measures one, and repo2docker's build of it. What fails is missing.
func (h *hub) ecosystem(ctx context.Context, r *report, theirs *repo2docker, e ecosystem, with string) error {
	dir, remove, err := e.dir()
	if err != nil {
		return err
	}
	if err := h.builds(ctx, r, e.name, with, "env-"+e.example, dir, "note.md"); err != nil {
		r.Missing = append(r.Missing, e.name+": "+err.Error())
	} else if e.peer && theirs != nil {
		if err := h.peerBuilds(ctx, r, theirs, e, with, dir); err != nil {
			r.Missing = append(r.Missing, "repo2docker, "+e.name+": "+err.Error())
		}
	}
	return remove()
}

func (h *hub) peerBuilds(ctx context.Context, r *report, theirs *repo2docker, e ecosystem, with, dir string) error {
	to, err := os.MkdirTemp("/tmp", "r2d")
	if err != nil {
		return err
	}
	defer os.RemoveAll(to)
	if err := theirs.context(ctx, dir, to); err != nil {
		return err
	}
	return h.builds(ctx, r, "repo2docker "+theirs.version+", "+e.name, with, "r2d-"+e.example, to, "src/note.md") // its context has the repository below src
}

// prepare builds a Dockerfile outside of any measurement.
func (h *hub) prepare(ctx context.Context, name, dockerfile string) error {
	repo, err := h.git.Repo(ctx, name, "")
	if err != nil {
		return err
	}
	if _, err := repo.Commit(ctx, map[string]string{"Dockerfile": dockerfile}); err != nil {
		return err
	}
	if _, _, err := h.launch(ctx, binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true}); err != nil {
		return fmt.Errorf("prepare the %s: %w", name, err)
	}
	return nil
}

// builds measures the first build of the repository in dir, that of a second
// repository with the same files and a note, and the image's size.
func (h *hub) builds(ctx context.Context, r *report, what, with, repo, dir, note string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	first, err := h.git.Repo(ctx, repo, dir)
	if err != nil {
		return err
	}
	_, took, err := h.launch(ctx, binnacle.LaunchRequest{Repo: first.URL, BuildOnly: true})
	if err != nil {
		return err
	}
	r.add(what+": first build", "s", with, took.Seconds())
	second, err := h.git.Repo(ctx, repo+"-2", dir)
	if err != nil {
		return err
	}
	if _, err := second.Commit(ctx, map[string]string{note: "Something else.\n"}); err != nil {
		return err
	}
	if _, took, err = h.launch(ctx, binnacle.LaunchRequest{Repo: second.URL, BuildOnly: true}); err != nil {
		return err
	}
	r.add(what+": a second repository with the same lock", "s", "", took.Seconds())
	size, err := h.pushedSize(ctx, first.URL)
	if err != nil {
		return err
	}
	r.add(what+": image", "MiB", "in a registry: compressed, base included", float64(size)/(1<<20))
	return nil
}

// pushedSize is what the layers of a repository's image take in a registry, in bytes.
func (h *hub) pushedSize(ctx context.Context, repo string) (size int64, err error) {
	dir, err := os.MkdirTemp(h.data, "registry")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	server := httptest.NewServer(registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))))
	defer server.Close()
	tag := strings.TrimPrefix(server.URL, "http://") + "/bench/image:1"
	cmd := exec.CommandContext(ctx, h.bin, "build", repo, "--config", filepath.Join(h.data, "binnacle.yaml"), "--tag", tag, "--push")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("push the image: %w: %.2000s", err, out)
	}
	ref, err := name.ParseReference(tag, name.Insecure)
	if err != nil {
		return 0, err
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return 0, err
	}
	m, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	for _, layer := range m.Layers {
		size += layer.Size
	}
	return size, nil
}
