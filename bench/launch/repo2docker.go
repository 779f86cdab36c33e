package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed repo2docker.py
var contextScript string

// repo2docker writes Dockerfiles; the hub's own BuildKit builds them, which is
// the engine that docker build has. What it takes from hosts that a machine
// without the open internet can't reach has a stand-in:
//
//   - its base image buildpack-deps is our base with python3-venv, made before
//     the clock runs (smaller than theirs);
//   - its conda environment is a venv with the same packages from PyPI (their
//     wheels are fewer and smaller than conda's packages).
//
// Both are in its favour.
type repo2docker struct {
	dir     string // a venv with jupyter-repo2docker
	version string
}

func newRepo2docker(ctx context.Context) (*repo2docker, error) {
	dir, err := venv(ctx, "jupyter-repo2docker")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r := &repo2docker{dir: dir}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "bin/jupyter-repo2docker"), "--version").Output()
	r.version = strings.TrimSpace(string(out))
	return r, errors.Join(err, os.WriteFile(filepath.Join(dir, "context.py"), []byte(contextScript), 0o600))
}

func (r *repo2docker) close() error { return os.RemoveAll(r.dir) }

// standInBase is what is below every image of repo2docker here.
const standInBase = "FROM binnacle.local/base\nRUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends python3-venv > /dev/null\n"

// standInServer installs the packages of its conda environment (environment.yml of its
// version 2026.4), by their names on PyPI.
const standInServer = `#!/bin/bash
set -e
unset HOME
python3 -m venv "$NB_PYTHON_PREFIX"
"$NB_PYTHON_PREFIX/bin/pip" install -q --no-cache-dir 'ipywidgets==8.*' 'jupyter-offlinenotebook==0.3.*' \
    'jupyter-resource-usage==1.*' 'jupyter_server==2.*' 'jupyterhub==5.*' 'jupyterlab==4.*' 'notebook==7.*'
chown -R "$NB_USER:$NB_USER" "$CONDA_DIR"
`

// context writes what repo2docker would build from the repository in from, with
// the stand-ins, to the directory to.
func (r *repo2docker) context(ctx context.Context, from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.dir, "bin/python"), filepath.Join(r.dir, "context.py"), from, to)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("repo2docker: %w: %.2000s", err, out)
	}
	dockerfile := filepath.Join(to, "Dockerfile")
	b, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	text := regexp.MustCompile(`(?m)^FROM .*\n`).ReplaceAllLiteralString(string(b), standInBase)
	text = strings.ReplaceAll(text, "ARG NB_USER\n", "ARG NB_USER=jovyan\n")
	text = strings.ReplaceAll(text, "ARG NB_UID\n", "ARG NB_UID=1000\n")
	scripts, err := filepath.Glob(filepath.Join(to, "build_script_files", "*install-2dbase-2denv-2ebash*"))
	if err != nil || len(scripts) != 1 {
		return errors.Join(fmt.Errorf("repo2docker %s has %d scripts that install its environment", r.version, len(scripts)), err)
	}
	return errors.Join(os.WriteFile(dockerfile, []byte(text), 0o600), os.WriteFile(scripts[0], []byte(standInServer), 0o700))
}
