package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/test/condachannel"
)

// wheels fetches some from the Python package index.
func wheels(t *testing.T, names ...string) []string {
	t.Helper()
	found, err := condachannel.Wheels(t.Context(), t.TempDir(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestConda launches repositories whose environment conda makes, from a channel of
// our own on a host of our own, and runs their notebooks.
func TestConda(t *testing.T) {
	old, err := condachannel.Python2(t.Context())
	if err != nil && runtime.GOARCH == "amd64" { // what it stands on was not built for others
		t.Fatal(err)
	}
	numpy, err := condachannel.FromWheel(wheels(t, "numpy==2.3.5")[0])
	if err != nil {
		t.Fatal(err)
	}
	channel, err := condachannel.Course(t.Context(), append(old, numpy)...)
	if err != nil {
		t.Fatal(err)
	}
	subdir := condachannel.Subdir()
	the.late.mux.Handle("/conda/", http.StripPrefix("/conda", condachannel.Serve(channel)))
	run := func(test, name string, files map[string]string) {
		t.Run(test, func(t *testing.T) {
			repo := the.exampleWith(t, name, files)
			l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			if l.Session == nil {
				t.Fatalf("ended as %s: %+v\n%s", l.Phase, l.Error, logOf(events))
			}
			server := server(l)
			stopAfter(t, l)
			for lock := range files {
				if !slices.ContainsFunc(events, func(e binnacle.Event) bool { return strings.HasSuffix(e.Step, ": "+lock) }) {
					t.Errorf("no step follows %s", lock)
				}
			}
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
			}
			cell(t, server, `import os; print(os.environ["TABULATED"])`, "1  2")
			cell(t, server, `print(open("`+recipe.LockStore+`/conda.txt").read().count("/conda-forge/"))`, "3")
			if p := resolved(t, l, "pip", "humanize"); p.Version != "4.12.3" || len(p.Sums) == 0 {
				t.Errorf("the image says of what pip installed that %+v", p)
			}
			if p := resolved(t, l, "conda", "python"); !slices.Contains(p.By, "tabulate") || len(p.Sums) != 1 {
				t.Errorf("the image says of Python that %+v", p)
			}
		})
	}
	t.Run("conda", func(t *testing.T) {
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: the.example(t, "conda").URL})
		stopAfter(t, l)
		if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
	})
	humanize := wheels(t, "humanize==4.12.3")[0]
	run("conda-course", "conda-course", nil)
	t.Run("freeze", func(t *testing.T) {
		dir := plainDir(t, map[string]string{"environment.yml": "channels: [conda-forge]\ndependencies: [python>=3.10, tabulate=0.9, pip]\n"})
		if why := hubShell().must(t, "why", "python", dir); !strings.Contains(why, "environment.yml:2 asks for (python>=3.10)") {
			t.Errorf("why says %s", why)
		}
		hubShell().must(t, "freeze", dir)
		lock := read(t, filepath.Join(dir, "conda-"+subdir+".lock"))
		if !strings.Contains(lock, "@EXPLICIT\n") || strings.Count(lock, "/conda-forge/") != 3 || !regexp.MustCompile(`/tabulate-0\.9\.0-\S+#[0-9a-f]{64}\n`).MatchString(lock) {
			t.Errorf("frozen %s", lock)
		}
	})
	run("pixi", "pixi", map[string]string{"pixi.lock": pixiLock(t, channel, subdir, humanize)})
	run("conda-lock", "conda-course", map[string]string{"binder/conda-lock.yml": condaLock(t, channel, subdir, humanize)})
	if len(old) > 0 {
		t.Run("python2", python2)
	}
	t.Run("failing-conda", func(t *testing.T) {
		repo := the.example(t, "failing-conda")
		l, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		if l.Error == nil || l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != "environment.yml" || l.Error.Line != 5 || !strings.Contains(l.Error.Message, "like tabulate") || !strings.Contains(l.Error.Hint, "some that are like it") || len(l.Error.Excerpt) == 0 {
			t.Fatalf("ended as %s with %+v", l.Phase, l.Error)
		}
		t.Log(l.Error.Message, l.Error.Hint)
	})
}

// python2 is repositories with a real Python 2.7.
func python2(t *testing.T) {
	t.Run("runtime.txt", func(t *testing.T) {
		_, s := ready(t, the.public(), launchOf(the.example(t, "python2").URL))
		if err := s.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
		cell(t, s, "import sys; print sys.version_info[0]", "2") // a new notebook
		k, err := s.StartKernel(t.Context(), "python3")
		if err != nil {
			t.Fatal(err)
		}
		runCell(t, k, "import sys; print(sys.prefix)", recipe.Prefix) // Jupyter's own
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("environment.yml", func(t *testing.T) {
		repo := the.exampleWith(t, "python2", map[string]string{
			"environment.yml":  "dependencies:\n- python=2.7\n- pip:\n  - tabulate==0.8.10\n  - -e .\n",
			"setup.py":         "from setuptools import setup\nsetup(name='tides', version='1.0', py_modules=['tides'])\n",
			"tides.py":         "range = lambda: 5 / 2\n",
			"requirements.txt": "absent\n",
			"postBuild":        "#!/bin/bash\n$KERNEL_PYTHON_PREFIX/bin/python -c 'import tides; print tides.range()' > range.txt\n",
		})
		person := the.public()
		l, s := ready(t, person, launchOf(repo.URL))
		if err := s.RunNotebook(t.Context(), "index.ipynb"); err != nil {
			t.Error(err)
		}
		cell(t, s, "import tides; print tides.range(), open('range.txt').read()", "2 2")
		list, err := person.Resolved(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]string{}
		for _, r := range list {
			names[r.Name] = r.Content
		}
		if !strings.Contains(names["python.txt"], "tabulate==0.8.10") || !strings.Contains(names["jupyter.txt"], "jupyterlab==") || !strings.Contains(names["conda.txt"], "/python-2.7.18-0.conda#") {
			t.Errorf("what was resolved: %v", names)
		}
	})
}

// pixiLock is what pixi would write for the example and our channel, with a wheel
// of the Python package index.
func pixiLock(t *testing.T, channel *condachannel.Channel, subdir, wheel string) string {
	t.Helper()
	pypi, sum := indexed(t, wheel)
	var used, described strings.Builder
	for _, p := range channelPackages(subdir) {
		address, hash, _ := strings.Cut(channel.URL(the.condaURL(), p[0], p[1], p[2]), "#")
		fmt.Fprintf(&used, "      - conda: %s\n", address)
		fmt.Fprintf(&described, "- conda: %s\n  sha256: %s\n", address, hash)
	}
	fmt.Fprintf(&used, "      - pypi: %s\n      - pypi: ./package\n", pypi)
	fmt.Fprintf(&described, "- pypi: %s\n  name: humanize\n  version: 4.12.3\n  sha256: %s\n- pypi: ./package\n  name: voyage\n  version: 0.1.0\n  editable: true\n", pypi, sum)
	return "version: 6\nenvironments:\n  binder:\n    channels:\n    - url: " + the.condaURL() + "/conda-forge/\n    packages:\n      " + subdir + ":\n" + used.String() + "packages:\n" + described.String()
}

// condaLock is what conda-lock would write, in its own format.
func condaLock(t *testing.T, channel *condachannel.Channel, subdir, wheel string) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "version: 1\nmetadata:\n  channels:\n  - url: conda-forge\n    used_env_vars: []\n  platforms:\n  - %s\n  sources:\n  - environment.yml\npackage:\n", subdir)
	add := func(name, version, manager, url, hash, category string) {
		fmt.Fprintf(&out, "- name: %s\n  version: %s\n  manager: %s\n  platform: %s\n  dependencies: {}\n  url: %s\n  hash:\n    sha256: %s\n  category: %s\n  optional: false\n", name, version, manager, subdir, url, hash, category)
	}
	for _, p := range channelPackages(subdir) {
		address, hash, _ := strings.Cut(channel.URL(the.condaURL(), p[0], p[1], p[2]), "#")
		add(p[1], p[2], "conda", address, hash, "main")
	}
	pypi, sum := indexed(t, wheel)
	add("humanize", "4.12.3", "pip", pypi, sum, "main")
	add("pytest", "99", "pip", pypi, sum, "dev") // is for developers
	return out.String()
}

// channelPackages are those that our channel has: subdirectory, name and version.
func channelPackages(subdir string) [][3]string {
	return [][3]string{{subdir, "python", "3.13.0"}, {"noarch", "pip", condachannel.PipVersion}, {"noarch", "tabulate", "0.9.0"}}
}

// indexed is the address that a wheel has in a lock, and its SHA-256. The address
// has the layout of an index's; only the name and the hash are used.
func indexed(t *testing.T, wheel string) (address, sum string) {
	t.Helper()
	b, err := os.ReadFile(wheel)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(b)
	return fmt.Sprintf("https://files.example.org/packages/%02x/%02x/%060x/%s", 1, 2, 3, filepath.Base(wheel)), hex.EncodeToString(hash[:])
}

// condaURL is where the hub looks for channels that have no address.
func (w *world) condaURL() string { return w.late.URL + "/conda" }
