package e2e_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/juliaserver"
	"github.com/binnacle-hub/binnacle/test/olddebian"
)

// lateServer is a server whose address is known before what it serves is made.
type lateServer struct {
	*httptest.Server
	mux *http.ServeMux
}

func startLate(l net.Listener) *lateServer {
	s := &lateServer{mux: http.NewServeMux()}
	s.Server = httptest.NewUnstartedServer(s.mux)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	return s
}

// serveJulia offers a real Julia, the last that Debian had, with packages of ours.
func serveJulia(t *testing.T) {
	t.Helper()
	s, err := juliaserver.Example(t.Context())
	if errors.Is(err, olddebian.ErrNone) {
		t.Skip(err) // Debian takes old releases away
	}
	if err != nil {
		t.Fatal(err)
	}
	the.late.mux.Handle("/", s)
}

func juliaNotebook(code string) string {
	return `{"cells": [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": null, "source": "` + code + `"}],
"metadata": {"kernelspec": {"display_name": "Julia 1.5", "language": "julia", "name": "julia-1.5"}}, "nbformat": 4, "nbformat_minor": 5}`
}

// TestJulia builds with a real Julia from a server of our own and runs a cell in it.
func TestJulia(t *testing.T) {
	serveJulia(t)
	const project = juliaserver.ExampleProject
	launchFiles := func(t *testing.T, files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		repo, err := the.git.Repo(t.Context(), strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), dir)
		if err != nil {
			t.Fatal(err)
		}
		return repo.URL
	}
	t.Run("project", func(t *testing.T) {
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: launchFiles(t, map[string]string{
			"binder/Project.toml": project, "binder/postBuild": "#!/bin/bash\nset -e\njulia -e 'using Knots; write(\"speed.txt\", string(Knots.speed()))'\n",
			"index.ipynb": juliaNotebook(`using Knots; @assert Knots.speed() == 12; @assert VERSION == v\"1.5.3\"; @assert read(\"speed.txt\", String) == \"12\"; @assert dirname(Base.active_project()) == \"/home/jovyan/binder\"`),
		})})
		stopAfter(t, l)
		if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
		cell(t, server, `
import os, subprocess
print(os.path.exists("/usr/local/share/binnacle/lock/Manifest.toml"), "Knots" in open("/home/jovyan/binder/Manifest.toml").read(), end=" ")
said = subprocess.run(["julia", "-e", "using Knots, IJulia"], capture_output=True, text=True, env={**os.environ, "JULIA_DEBUG": "loading"})
print("nothing to compile" if "Precompiling" not in said.stderr else said.stderr)`, "True True nothing to compile")
	})
	t.Run("julia-package", func(t *testing.T) { // its notebook is of another Julia, as notebooks are
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: the.exampleWith(t, "julia-package", map[string]string{
			"index.ipynb":  strings.ReplaceAll(read(t, "../../examples/julia-package/index.ipynb"), "julia-1.10", "julia-1.5"),
			"Project.toml": strings.Replace(read(t, "../../examples/julia-package/Project.toml"), `julia = "1"`, `julia = "~1.5"`, 1), // the newest of the server is none
		}).URL})
		stopAfter(t, l)
		if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
	})
	t.Run("manifest of another Julia", func(t *testing.T) {
		manifest := "julia_version = \"1.10.4\"\nmanifest_format = \"2.0\"\n\n[deps]\n"
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: launchFiles(t, map[string]string{"Project.toml": "[deps]\n", "Manifest.toml": manifest})})
		if l.Error == nil || l.Error.File != "Manifest.toml" || l.Error.Line != 1 || !strings.Contains(l.Error.Message, "no build of Julia 1.10.4") || !strings.Contains(l.Error.Hint, "]resolve") {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
	t.Run("no such package", func(t *testing.T) {
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: launchFiles(t, map[string]string{"Project.toml": strings.Replace(project, "[compat]", "Nosuch = \"aaaaaaaa-0000-4000-8000-000000000000\"\n[compat]", 1)})})
		if l.Error == nil || l.Error.File != "Project.toml" || l.Error.Line != 4 || !strings.Contains(l.Error.Message, "Nosuch") {
			t.Errorf("ended as %s with %+v", l.Phase, l.Error)
		}
	})
}
