package e2e_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/githost"
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
			repo := the.example(t, name)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), notebook); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("poetry.lock from git", poetryFromGit)
	t.Run("version from git", versionFromGit)
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

// poetryFromGit installs what a poetry.lock names by a commit that is not the newest
// of its branch.
// versionFromGit: packages whose version is git's business are installed without it, by
// each of the tools that ask git.
func versionFromGit(t *testing.T) {
	const setuptools = "[build-system]\nrequires = [\"setuptools>=80\", \"setuptools-scm>=8\"]\nbuild-backend = \"setuptools.build_meta\"\n[tool.setuptools_scm]\n"
	const hatch = "[build-system]\nrequires = [\"hatchling\", \"hatch-vcs\"]\nbuild-backend = \"hatchling.build\"\n[tool.hatch.version]\nsource = \"vcs\"\n"
	for name, build := range map[string]string{"setuptools-scm": setuptools, "hatch-vcs": hatch} {
		t.Run(name, func(t *testing.T) {
			repo, err := the.git.Repo(t.Context(), "versioned-"+name, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Commit(t.Context(), map[string]string{
				"pyproject.toml": build + "[project]\nname = \"tide-tables\"\ndynamic = [\"version\"]\n", "src/tide_tables/__init__.py": "high = 7\n",
			}); err != nil {
				t.Fatal(err)
			}
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			cell(t, server, "import tide_tables, importlib.metadata as m; print(tide_tables.high, m.version('tide-tables'))", "7 0.0")
		})
	}
}

func poetryFromGit(t *testing.T) {
	port, err := the.far.Listen()
	if err != nil {
		t.Fatal(err)
	}
	host, err := githost.Behind(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	knots, err := host.Repo(t.Context(), "knots", "")
	if err != nil {
		t.Fatal(err)
	}
	commit, err := knots.Commit(t.Context(), map[string]string{
		"pyproject.toml": "[build-system]\nrequires = [\"poetry-core\"]\nbuild-backend = \"poetry.core.masonry.api\"\n[tool.poetry]\nname = \"knots\"\nversion = \"1.0\"\ndescription = \"\"\nauthors = []\n",
		"knots.py":       "speed = 12\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := knots.Commit(t.Context(), map[string]string{"knots.py": "speed = 20\n"}); err != nil {
		t.Fatal(err)
	}
	repo, err := the.git.Repo(t.Context(), "poetry-from-git", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{
		"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = \">=3.11\"\nknots = {git = \"" + knots.URL + "\", branch = \"main\"}\n",
		"poetry.lock": "[[package]]\nname = \"knots\"\nversion = \"1.0\"\ndescription = \"\"\noptional = false\npython-versions = \"*\"\ngroups = [\"main\"]\nfiles = []\ndevelop = false\n\n" +
			"[package.source]\ntype = \"git\"\nurl = \"" + knots.URL + "\"\nreference = \"main\"\nresolved_reference = \"" + commit + "\"\n\n" +
			"[metadata]\nlock-version = \"2.1\"\npython-versions = \">=3.11\"\ncontent-hash = \"0\"\n",
	}); err != nil {
		t.Fatal(err)
	}
	l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, l)
	cell(t, server, `import knots; print(knots.speed, "`+commit+`" in open("/usr/local/share/binnacle/lock/requirements.txt").read())`, "12 True")
}
