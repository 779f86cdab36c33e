package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/olddebian"
	"github.com/binnacle-hub/binnacle/test/uvpython"
)

// TestPythonFiles launches repositories with each of Python's files, and runs
// their notebooks.
func TestPythonFiles(t *testing.T) {
	for name, notebook := range map[string]string{
		"pipenv-course": "index.ipynb", "pipenv-loose": "index.ipynb", "uv-paper": "index.ipynb", "uv-workspace": "notebooks/index.ipynb",
		"poetry-library": "index.ipynb", "pdm-workshop": "index.ipynb", "pylock-binder": "index.ipynb", "dependency-groups": "index.ipynb",
		"inline-metadata": "index.ipynb", "requirements-utf16": "index.ipynb", "requirements-in": "index.ipynb", "requirements-constraints": "index.ipynb", "src-layout": "notebooks/kepler.ipynb",
	} {
		t.Run(name, func(t *testing.T) {
			var more map[string]string
			if name == "poetry-library" {
				more = withGit(t)
			}
			repo := the.exampleWith(t, name, more)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), notebook); err != nil {
				t.Error(err)
			}
			if name == "poetry-library" {
				cell(t, server, `import harbour; print(harbour.depth)`, "6")
			}
		})
	}
	t.Run("another version", func(t *testing.T) {
		builds, err := uvpython.Handler(t.Context())
		if errors.Is(err, olddebian.ErrNone) {
			t.Skip(err) // Debian takes old releases away
		}
		if err != nil {
			t.Fatal(err)
		}
		the.late.mux.Handle("/python/", http.StripPrefix("/python", builds))
		repo := the.exampleWith(t, "requirements", map[string]string{"runtime.txt": "python-" + uvpython.Version + "\n"})
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
		cell(t, server, `import ssl, sqlite3, sys; print(sys.version_info[:2], sys.base_prefix.startswith("/srv/conda/python/"))`, "(3, 11) True")
	})
	t.Run("failing-hash", func(t *testing.T) {
		repo := the.example(t, "failing-hash")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "Pipfile.lock" || l.Error.Line != 11 || !strings.Contains(l.Error.Message, "humanize") || !strings.Contains(l.Error.Hint, "Renew the hashes") || len(l.Error.Excerpt) == 0 {
			t.Fatalf("ended as %s with %+v", l.Phase, l.Error)
		}
		t.Log(l.Error.Message, l.Error.Hint)
	})
}

// withGit is the example of Poetry with a dependency from a git host that builds
// reach: the lock names the commit, and the branch has gone on since.
func withGit(t *testing.T) map[string]string {
	t.Helper()
	repo, err := the.git.Repo(t.Context(), "harbour", "")
	if err != nil {
		t.Fatal(err)
	}
	home, err := url.Parse(the.git.URL)
	if err != nil {
		t.Fatal(err)
	}
	// Builds don't reach this machine, where our git host is, but the far host.
	the.late.mux.Handle("/git/", http.StripPrefix("/git", httputil.NewSingleHostReverseProxy(home)))
	address := the.late.URL + "/git" + strings.TrimPrefix(repo.URL, the.git.URL)
	locked, err := repo.Commit(t.Context(), map[string]string{
		"pyproject.toml": "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n[project]\nname = \"harbour\"\nversion = \"1\"\n",
		"harbour.py":     "depth = 6\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{"harbour.py": "depth = 2\n"}); err != nil {
		t.Fatal(err)
	}
	more := map[string]string{}
	for name, c := range map[string][2]string{
		"pyproject.toml": {"humanize = \"^4.9\"\n", fmt.Sprintf("harbour = {git = %q, branch = \"main\"}\n", address)},
		"poetry.lock":    {"\n[extras]\n", fmt.Sprintf("\n[[package]]\nname = \"harbour\"\nversion = \"1\"\ndescription = \"\"\noptional = false\npython-versions = \"*\"\ngroups = [\"main\"]\nfiles = []\ndevelop = false\n\n[package.source]\ntype = \"git\"\nurl = %q\nreference = \"main\"\nresolved_reference = %q\n", address, locked)},
	} {
		text, err := os.ReadFile(filepath.Join("../../examples/poetry-library", name))
		if err != nil || !strings.Contains(string(text), c[0]) {
			t.Fatalf("the example has changed: %v", err)
		}
		more[name] = strings.Replace(string(text), c[0], c[1]+c[0], 1)
	}
	return more
}
