package recipe_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// machine runs scripts of steps with their places moved below a directory.
type machine struct {
	dir, python string
	env         []string
}

func newMachine(t *testing.T, tools ...string) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("installs packages from an index")
	}
	for _, name := range []string{"python3", "bash"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
				t.Fatalf("%s is not installed", name)
			}
			t.Skipf("%s is not installed", name)
		}
	}
	out, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys._base_executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{dir: t.TempDir(), python: strings.TrimSpace(string(out))}
	for _, d := range []string{"srv/envs", "run/in", "run/cache", "run/tools", "home", "tmp", "store"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range tools {
		at := filepath.Join(m.dir, "run/tools", tool)
		lock, err := filepath.Abs("../image/tools/" + tool + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		m.must(t, "", m.python, "-m", "venv", at)
		m.must(t, "", at+"/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes", "-r", lock)
		if tool == "uv" {
			if err := os.Symlink("bin/uv", at+"/uv"); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func (m *machine) command(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), append([]string{"HOME=" + m.dir + "/home", "TMPDIR=" + m.dir + "/tmp", "VIRTUAL_ENV="}, m.env...)...)
	err := cmd.Run()
	return out.String(), err
}

func (m *machine) must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := m.command(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// step runs one, with the repository in the home directory.
func (m *machine) step(t *testing.T, s recipe.Step) (string, error) {
	t.Helper()
	for _, made := range []struct {
		lock *recipe.Lock
		at   string
	}{{s.Build, "run/build"}, {s.Lock, "run/lock"}} {
		if made.lock == nil {
			continue
		}
		out, at := filepath.Join(m.dir, "run/lock"), filepath.Join(m.dir, made.at)
		if err := errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o755)); err != nil {
			t.Fatal(err)
		}
		if text, err := m.script(t, made.lock.Name, made.lock.Script, made.lock.Inputs); err != nil {
			return text, err
		}
		if at != out {
			if err := errors.Join(os.RemoveAll(at), os.Rename(out, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.Stage == recipe.StageOutline { // its home is empty, and thrown away
		home, aside := m.dir+"/home", m.dir+"/home.aside"
		if err := errors.Join(os.Rename(home, aside), os.Mkdir(home, 0o755)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(os.RemoveAll(home), os.Rename(aside, home)); err != nil {
				t.Error(err)
			}
		}()
	}
	return m.script(t, s.Name, s.Script, s.Inputs)
}

func (m *machine) script(t *testing.T, name, script string, inputs []recipe.Input) (string, error) {
	t.Helper()
	in := filepath.Join(m.dir, "run/in")
	if err := os.RemoveAll(in); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer(
		recipe.InputDir, in, recipe.ToolDir, m.dir+"/run/tools", recipe.OutDir, m.dir+"/run/lock", recipe.LockDir, m.dir+"/run/lock", recipe.BuildDir, m.dir+"/run/build", recipe.LockStore, m.dir+"/store", recipe.SumStore, m.dir+"/store",
		"/run/binnacle/cache", m.dir+"/run/cache", "/srv/conda", m.dir+"/srv", "/srv/julia", m.dir+"/julia", "/srv/cargo", m.dir+"/cargo", "/srv/deno", m.dir+"/deno",
		recipe.Home, m.dir+"/home", "/tmp", m.dir+"/tmp", "/usr/bin/python3", m.python,
		`jupyter="jupyterlab notebook ipykernel ipywidgets jupyterhub pip"`, `jupyter="ipykernel jupyter-server"`)
	for _, input := range inputs {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(in, input.Name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, input.Name), input.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script = here.Replace("touch -d '2 seconds ago' /tmp/.begin\n" + script)
	begin := time.Now()
	out, err := m.command(t, m.dir+"/home", "bash", "-euo", "pipefail", "-c", script)
	t.Logf("%s: %v, %v\n%s", name, time.Since(begin).Round(time.Millisecond), err, out)
	return out, err
}

func (m *machine) steps(t *testing.T, r recipe.Recipe) {
	t.Helper()
	for _, s := range r.Steps {
		if out, err := m.step(t, s); err != nil {
			t.Fatalf("%s: %v\n%s", s.Name, err, out)
		}
	}
}

// environment is where the steps installed.
func (m *machine) environment() string { return filepath.Join(m.dir, "srv/envs/notebook") }

func (m *machine) exec(t *testing.T, code string) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, "", m.environment()+"/bin/python", "-c", code))
}

// TestPythonSteps runs the scripts of a Python repository for real.
func TestPythonSteps(t *testing.T) {
	m := newMachine(t, "uv")
	files := map[string]string{
		"requirements.txt": "--pre\nhumanize==4.12.3 # a wheel\ndocopt==0.6.2 # only a source\n-c constraints.txt\nidna\n", "constraints.txt": "idna==3.10\n",
		"pyproject.toml": "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n[project]\nname = \"knots\"\nversion = \"1\"\n",
		"knots.py":       "speed = 20\n",
		"postBuild":      "#!/bin/bash\nset -e\npython -c 'import knots, docopt; print(knots.speed)' > built.txt\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(m.dir, "home", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{"PATH=" + m.environment() + "/bin:" + os.Getenv("PATH")}
	m.steps(t, read(t, files))
	if got := m.exec(t, "import docopt, humanize, idna, jupyterlab, pip, sys; print(humanize.__version__, idna.__version__, docopt.__version__)"); got != "4.12.3 3.10 0.6.2" {
		t.Errorf("installed %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(m.dir, "home/built.txt")); err != nil || string(b) != "20\n" {
		t.Errorf("postBuild wrote %q, %v", b, err)
	}
	if got := m.exec(t, "import importlib.util, os; print(os.path.exists(importlib.util.find_spec('knots').cached))"); got != "True" {
		t.Errorf("the repository's own package is compiled: %s", got)
	}
	flags := m.exec(t, `
import collections, docopt, glob, os, site
root = os.path.dirname(docopt.__file__)
print(dict(collections.Counter(int.from_bytes(open(p, "rb").read(8)[4:], "little") for p in glob.glob(root + "/**/*.pyc", recursive=True))).keys())`)
	if flags != "dict_keys([1])" {
		t.Errorf(".pyc files of the kinds %s; want only unchecked-hash", flags)
	}
	for _, litter := range []string{"home/.cache"} {
		if found, err := filepath.Glob(filepath.Join(m.dir, litter)); err != nil || len(found) > 0 {
			t.Errorf("left behind: %v, %v", found, err)
		}
	}

	t.Run("as of the commit's day", func(t *testing.T) {
		for name, c := range map[string]struct {
			date, text string
			want       string // the version; empty is one of today
		}{
			"loose":          {"2025-06-15", "humanize\n", "4.12.3"},
			"before Python":  {"2019-01-01", "humanize\n", "4.12.2"}, // nothing of that day runs on it
			"newer is asked": {"2025-06-15", "humanize>=4.13\n", ""},
		} {
			date, err := time.Parse(time.DateOnly, c.date)
			if err != nil {
				t.Fatal(err)
			}
			r, err := recipe.Read(fstest.MapFS{"requirements.txt": {Data: []byte(c.text)}}, recipe.Options{Date: date, BasePython: "3.13"})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := m.step(t, r.Steps[1]); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			lock, err := os.ReadFile(filepath.Join(m.dir, "run/lock/requirements.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if has := strings.HasPrefix(string(lock), "humanize=="+c.want+" \\\n    --hash=sha256:"); has != (c.want != "") {
				t.Errorf("%s: %s", name, lock)
			}
			if _, err := os.Stat(filepath.Join(m.dir, "run/lock/dated.txt")); err == nil {
				t.Errorf("%s: what is locked depends on the date", name)
			}
		}
	})

	t.Run("failing", func(t *testing.T) {
		r := read(t, map[string]string{"requirements.txt": "humanize==4.12.3\nthis-package-does-not-exist-anywhere\n"})
		if _, err := m.step(t, r.Steps[1]); err != nil {
			t.Errorf("the step of the wheels failed: %v", err)
		}
		out, err := m.step(t, r.Steps[2])
		if err == nil {
			t.Fatal("a package that does not exist was installed")
		}
		if e := recipe.Explain(r, r.Steps[2].Name, strings.Split(out, "\n")); e.File != "requirements.txt" || e.Line != 2 || !strings.Contains(e.Message, "no package called") {
			t.Errorf("%+v", e)
		}
	})
}
