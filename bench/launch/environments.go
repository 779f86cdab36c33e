package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/binnacle-hub/binnacle"
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
		{name: "environment.yml (conda)", example: "conda"},
		{name: "install.R", example: "r-install"},
		{name: "Project.toml (Julia)", example: "julia"},
		{name: "default.nix", example: "nix"},
	}
}

type ecosystem struct {
	name, example string
	peer          bool
}

// environments measures builds of one repository of each ecosystem, and of
// repo2docker's for some of them, on the same BuildKit.
func environments(ctx context.Context, r *report, h *hub, _ int) (err error) {
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
		with := "server's layer present"
		if i == 0 {
			with = "base present"
		}
		dir := filepath.Join("examples", e.example)
		if err := h.builds(ctx, r, e.name, with, e.example, dir, "note.md"); err != nil {
			r.Missing = append(r.Missing, e.name+": "+err.Error())
			continue
		}
		if !e.peer || theirs == nil {
			continue
		}
		if err := h.peerBuilds(ctx, r, theirs, e, with, dir); err != nil {
			r.Missing = append(r.Missing, "repo2docker, "+e.name+": "+err.Error())
		}
	}
	return nil
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
func (h *hub) builds(ctx context.Context, r *report, what, with, name, dir, note string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	first, err := h.git.Repo(ctx, name, dir)
	if err != nil {
		return err
	}
	_, took, err := h.launch(ctx, binnacle.LaunchRequest{Repo: first.URL, BuildOnly: true})
	if err != nil {
		return err
	}
	r.add(what+": first build", "s", with, took.Seconds())
	second, err := h.git.Repo(ctx, name+"-2", dir)
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
	archive := filepath.Join(h.data, "image.tar")
	defer os.Remove(archive)
	cmd := exec.CommandContext(ctx, h.bin, "build", first.URL, "--config", filepath.Join(h.data, "binnacle.yaml"), "--output", archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write the image: %w: %.2000s", err, out)
	}
	fi, err := os.Stat(archive)
	if err != nil {
		return err
	}
	r.add(what+": image", "MiB", "compressed, base included", float64(fi.Size())/(1<<20))
	return nil
}
