package image_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// TestRepo2dockerContract: images have repo2docker's user, directory, variables and
// labels, which scripts of repositories and JupyterHub count on.
func TestRepo2dockerContract(t *testing.T) {
	const prefix = "/srv/conda/envs/notebook"
	common := map[string]string{
		"APP_BASE": "/srv", "CONDA_DIR": "/srv/conda", "HOME": "/home/jovyan", "KERNEL_PYTHON_PREFIX": prefix, "LANG": "en_US.UTF-8", "LANGUAGE": "en_US.UTF-8", "LC_ALL": "en_US.UTF-8",
		"NB_PYTHON_PREFIX": prefix, "NB_UID": "1000", "NB_USER": "jovyan", "NPM_CONFIG_GLOBALCONFIG": "/srv/npm/npmrc", "NPM_DIR": "/srv/npm", "PYTHONUNBUFFERED": "1",
		"REPO_DIR": "/home/jovyan", "SHELL": "/bin/bash", "USER": "jovyan",
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		more  map[string]string
		path  string // how PATH begins
	}{
		"Python": {fstest.MapFS{"requirements.txt": {Data: []byte("six\n")}}, nil, "/home/jovyan/.local/bin:" + prefix + "/bin:/srv/conda/bin:/srv/npm/bin:"},
		"start":  {fstest.MapFS{"binder/start": {Data: []byte("#!/bin/bash\nexec \"$@\"\n")}}, map[string]string{"R2D_ENTRYPOINT": "/home/jovyan/binder/start"}, "/home/jovyan/.local/bin:" + prefix + "/bin:"},
		"conda":  {fstest.MapFS{"environment.yml": {Data: []byte("dependencies: [numpy]\nvariables: {TIDE: high}\n")}}, map[string]string{"CONDA_DEFAULT_ENV": prefix, "TIDE": "high"}, "/home/jovyan/.local/bin:" + prefix + "/bin:"},
		"R":      {fstest.MapFS{"runtime.txt": {Data: []byte("r-4.4-2025-01-01")}}, map[string]string{"R_LIBS_USER": "/srv/rlibs", "R_HOME": "/opt/R/4.4.2/lib/R", "LD_LIBRARY_PATH": "/opt/R/4.4.2/lib/R/lib"}, "/home/jovyan/.local/bin:" + prefix + "/bin:/srv/conda/bin:/srv/npm/bin:/opt/R/4.4.2/bin:/usr/lib/rstudio-server/bin:"},
		"Julia":  {fstest.MapFS{"binder/Project.toml": {}}, map[string]string{"JULIA_PROJECT": "/home/jovyan/binder", "JULIA_DEPOT_PATH": "/srv/julia/pkg"}, "/home/jovyan/.local/bin:" + prefix + "/bin:/srv/conda/bin:/srv/npm/bin:/srv/julia/bin:"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := recipe.Read(c.files, recipe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			cfg := image.Config(image.Request{Recipe: r, Revision: binnacle.Revision{URL: "https://git.example.org/a", Commit: "0123"}}).Config
			if cfg.User != "jovyan" || cfg.WorkingDir != "/home/jovyan" || cfg.Labels["repo2docker.repo"] != "https://git.example.org/a" || cfg.Labels["repo2docker.ref"] != "0123" || !strings.HasPrefix(cfg.Labels["repo2docker.version"], "binnacle ") {
				t.Errorf("%q %q %v", cfg.User, cfg.WorkingDir, cfg.Labels)
			}
			if _, ok := cfg.ExposedPorts["8888/tcp"]; !ok {
				t.Errorf("exposes %v", cfg.ExposedPorts)
			}
			have := map[string]string{}
			for _, s := range cfg.Env {
				name, value, _ := strings.Cut(s, "=")
				have[name] = value
			}
			for _, vars := range []map[string]string{common, c.more} {
				for name, want := range vars {
					if have[name] != want {
						t.Errorf("%s is %q, want %q", name, have[name], want)
					}
				}
			}
			if !strings.HasPrefix(have["PATH"], c.path) {
				t.Errorf("PATH is %s, want it to begin with %s", have["PATH"], c.path)
			}
		})
	}
}

// TestLocalLabel: a directory of this machine is called local, as repo2docker does.
func TestLocalLabel(t *testing.T) {
	spec := binnacle.Spec{Provider: binnacle.Dir, Repo: "/home/ada/tides"}
	labels := image.Config(image.Request{Revision: binnacle.Revision{Spec: spec, URL: "/home/ada/tides"}}).Config.Labels
	if labels["repo2docker.repo"] != "local" {
		t.Errorf("the labels are %v", labels)
	}
}

// TestLines: a line of output ends with a line feed or a carriage return, and the last
// may have no end.
func TestLines(t *testing.T) {
	for _, c := range []struct{ pieces, want []string }{
		{[]string{"a\nb\rc"}, []string{"a", "b", "c"}},
		{[]string{"a", "b\n", "\r\n", "c\r\nd"}, []string{"ab", "c", "d"}},
		{[]string{"10%\r20%", "\r100%\n"}, []string{"10%", "20%", "100%"}},
		{nil, nil},
	} {
		if diff := cmp.Diff(c.want, image.Lines(c.pieces...)); diff != "" {
			t.Errorf("%q: %s", c.pieces, diff)
		}
	}
}

// TestProfile runs the real one: a login shell keeps the PATH that it was started with.
func TestProfile(t *testing.T) {
	_, text, ok := strings.Cut(image.Preparation, "<<'PROFILE'\n")
	text, _, end := strings.Cut(text, "PROFILE\n")
	if !ok || !end {
		t.Fatal("there is no profile")
	}
	file := filepath.Join(t.TempDir(), "binnacle.sh")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ env, want string }{
		"with one": {"PATH=/srv/a tide/bin:" + os.Getenv("PATH"), "/srv/a tide/bin:" + os.Getenv("PATH")},
		"none":     {"OLDPATH=/srv/bin", "/usr/bin:/bin"},
	} {
		for _, shell := range []string{"bash", "sh"} {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "-c", `PATH=/usr/bin:/bin; . "$1"; echo "$PATH $path"`, shell, file)
			cmd.Env = []string{c.env}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != c.want+" \n" {
				t.Errorf("%s, %s: %q %v, want %q", name, shell, out, err, c.want)
			}
		}
	}
}

// TestEntrypoint runs the real one: the command becomes the process itself, through
// the start script if there is one, so that signals reach it, and its status is ours.
func TestEntrypoint(t *testing.T) {
	_, text, ok := strings.Cut(image.Preparation, "<<'ENTRYPOINT'\n")
	text, _, end := strings.Cut(text, "ENTRYPOINT\n")
	if !ok || !end {
		t.Fatal("there is no entrypoint")
	}
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	entrypoint := write("repo2docker-entrypoint", text, 0o755)
	write("prefix/etc/conda/activate.d/a.sh", "export ACTIVATED=yes\n", 0o644)
	const server = `trap 'echo stopped; exit 7' TERM; echo "up $TEST_START_VAR $ACTIVATED $$"; while :; do sleep 0.05; done`
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"alone":              {nil, "up  "},
		"start":              {[]string{"R2D_ENTRYPOINT=" + write("start", "#!/bin/bash\nexport TEST_START_VAR=set\nexec \"$@\"\n", 0o755)}, "up set "},
		"start, not allowed": {[]string{"R2D_ENTRYPOINT=" + write("start644", "export TEST_START_VAR=set\nexec \"$@\"\n", 0o644)}, "up set "},
		"conda":              {[]string{"CONDA_PREFIX=" + filepath.Join(dir, "prefix")}, "up  yes "},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), entrypoint, "bash", "-c", server)
			cmd.Env, cmd.Stderr = append(slices.Clone(c.env), "PATH="+os.Getenv("PATH")), t.Output()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var all bytes.Buffer
			for line := make([]byte, 256); !strings.HasSuffix(all.String(), "\n"); {
				n, err := out.Read(line)
				if all.Write(line[:n]); err != nil {
					t.Fatal(err, all.String())
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if _, err := all.ReadFrom(out); err != nil {
				t.Error(err)
			}
			err = cmd.Wait()
			first, rest, _ := strings.Cut(all.String(), "\n")
			if cmd.ProcessState.ExitCode() != 7 || !strings.HasPrefix(first, c.says) || rest != "stopped\n" {
				t.Errorf("%v: %q", err, all.String())
			}
			if pid := strings.Fields(first); pid[len(pid)-1] != strconv.Itoa(cmd.Process.Pid) {
				t.Errorf("the server is %s, the process is %d", pid[len(pid)-1], cmd.Process.Pid)
			}
		})
	}
	// What it ends with is what the command ended with.
	err := exec.CommandContext(t.Context(), entrypoint, "bash", "-c", "exit 3").Run()
	if diff := cmp.Diff("exit status 3", err.Error()); diff != "" {
		t.Error(diff)
	}
}
