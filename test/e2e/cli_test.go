package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
)

// shell runs the binary as a person does.
type shell struct {
	config string
	env    []string
}

// hubShell talks to the hub of all tests.
func hubShell() shell { return shell{config: filepath.Join(the.data, "binnacle.yaml")} }

func (s shell) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), the.bin, append([]string{"--config", s.config}, args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// run returns what a command printed and its exit code.
func (s shell) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := s.command(t, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed:
		code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return out.String(), errOut.String(), code
}

// must is run of what has to succeed.
func (s shell) must(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := s.run(t, args...)
	if code != 0 {
		t.Fatalf("binnacle %q: exit code %d\n%s\n%s", args, code, out, errOut)
	}
	return out
}

// session reads the session that `launch --json` prints last.
func session(t *testing.T, out string) binnacle.Session {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var s binnacle.Session
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil || s.Token == "" {
		t.Fatalf("the last line is no session: %v\n%s", err, out)
	}
	return s
}

// plainDir is a directory to launch, with files in it.
func plainDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "bx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSessionCommands: launch, ps, logs and stop against the hub that runs.
func TestSessionCommands(t *testing.T) {
	sh := hubShell()
	dir := plainDir(t, map[string]string{"a.txt": "one"})
	s := session(t, sh.must(t, "launch", dir, "--json", "--detach", "--env", "KNOTS=20", "--memory", "512MiB", "--urlpath", "lab/tree/a.txt"))
	l := binnacle.Launch{Session: &s}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			sh.run(t, "stop", s.ID)
		}
	})
	if s.Path != "lab/tree/a.txt" {
		t.Errorf("it opens %q", s.Path)
	}
	cell(t, server(l), "import os; print(os.environ['KNOTS'], open('a.txt').read())", "20 one")
	var list []binnacle.Session
	if err := json.Unmarshal([]byte(sh.must(t, "ps", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, other := range list {
		found = found || other.ID == s.ID && other.State == "running"
	}
	if text := sh.must(t, "ps"); !found || !strings.Contains(text, s.ID) || strings.Contains(text, s.Token) {
		t.Errorf("ps: %+v\n%s", list, text)
	}
	limited(t, s.ID, 512<<20)
	followed(t, sh, l)
	if text := sh.must(t, "logs", s.ID); !strings.Contains(text, "jupyter") && !strings.Contains(text, "ServerApp") {
		t.Errorf("the log is %q", text)
	}
	sh.must(t, "stop", s.ID)
	stopped = true
	if text := sh.must(t, "ps"); strings.Contains(text, s.ID) {
		t.Errorf("still there: %s", text)
	}
	if _, text, code := sh.run(t, "stop", s.ID); code != cli.ExitRefused || !strings.Contains(text, "try:") {
		t.Errorf("stopping it again: %d %s", code, text)
	}
}

// limited checks the kernel's own word on a session's memory.
func limited(t *testing.T, id string, want int64) {
	t.Helper()
	group := "/binnacle/*/sessions/" + id
	var files []string
	for _, pattern := range []string{"/sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes", "/sys/fs/cgroup" + group + "/memory.max"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) != 1 {
		t.Fatalf("control groups of %s: %q", id, files)
	}
	if got := strings.TrimSpace(read(t, files[0])); got != strconv.FormatInt(want, 10) {
		t.Errorf("the session may have %s bytes of memory, want %d", got, want)
	}
}

// followed checks that logs -f shows what is written while it looks.
func followed(t *testing.T, sh shell, l binnacle.Launch) {
	t.Helper()
	cmd := sh.command(t, "logs", "-f", l.Session.ID)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // Ctrl-C ended it
	defer func() { _ = cmd.Process.Signal(syscall.SIGINT) }()
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first {
			cell(t, server(l), "print(open('/proc/1/fd/2', 'w').write('sheet bend\\n'))", "11")
		}
		if lines.Text() == "sheet bend" {
			return
		}
	}
	t.Error("logs -f ended before it showed what the session wrote")
}

// TestRef: the version that --ref names is launched, a branch with a slash too.
func TestRef(t *testing.T) {
	sh := hubShell()
	repo, err := the.git.Repo(t.Context(), "test-ref", plainDir(t, map[string]string{"a.txt": "one"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Branch(t.Context(), "topic/two", map[string]string{"a.txt": "two"}); err != nil {
		t.Fatal(err)
	}
	s := session(t, sh.must(t, "launch", repo.URL, "--ref", "topic/two", "--json", "--detach"))
	defer sh.run(t, "stop", s.ID)
	cell(t, server(binnacle.Launch{Session: &s}), "print(open('a.txt').read())", "two")
	if _, text, code := sh.run(t, "launch", repo.URL, "--ref", "topic/three", "--detach"); code != cli.ExitRefused || !strings.Contains(text, "topic/three") {
		t.Errorf("a ref that is not there: %d %s", code, text)
	}
}

// TestEditable: the directory itself is in the session, both ways.
func TestEditable(t *testing.T) {
	sh := hubShell()
	dir := plainDir(t, map[string]string{"a.txt": "one"})
	s := session(t, sh.must(t, "launch", dir, "--json", "--detach", "--editable"))
	defer sh.run(t, "stop", s.ID)
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := server(binnacle.Launch{Session: &s})
	cell(t, srv, "print(open('a.txt').read())", "two")
	cell(t, srv, "print(open('b.txt', 'w').write('three'))", "5")
	if got := read(t, filepath.Join(dir, "b.txt")); got != "three" {
		t.Errorf("what the session wrote reads %q", got)
	}
	var st, of syscall.Stat_t
	if err := errors.Join(syscall.Stat(filepath.Join(dir, "b.txt"), &st), syscall.Stat(dir, &of)); err != nil || st.Uid != of.Uid {
		t.Errorf("it belongs to %d, the directory to %d, %v", st.Uid, of.Uid, err)
	}
}

// interrupt starts a command, waits for text in what it prints, presses Ctrl-C
// and returns the exit code.
func (s shell) interrupt(t *testing.T, text string, args ...string) int {
	t.Helper()
	cmd := s.command(t, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- errors.Join(cmd.Wait(), w.Close()) }()
	var seen strings.Builder
	buf := make([]byte, 32<<10)
	for !strings.Contains(seen.String(), text) {
		n, err := r.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("it ended before it said %q:\n%s", text, seen.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&seen, r); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](<-done)
	t.Logf("%q after Ctrl-C: %s", args, seen.String()[max(0, seen.Len()-400):])
	if !ok {
		return 0
	}
	return exit.ExitCode()
}

// TestInterrupt: Ctrl-C stops what was launched and leaves nothing.
func TestInterrupt(t *testing.T) {
	sh := hubShell()
	before := sh.must(t, "ps", "--json")
	ready := plainDir(t, map[string]string{"a.txt": "one"})
	if code := sh.interrupt(t, `"token":`, "launch", ready, "--json"); code != 0 {
		t.Errorf("after the session was ready: exit code %d", code)
	}
	building := plainDir(t, map[string]string{"postBuild": "#!/bin/sh\necho slow step runs\nexec sleep 515151\n"})
	if code := sh.interrupt(t, "slow step runs", "launch", building, "--json"); code != cli.ExitCanceled {
		t.Errorf("during the build: exit code %d; want %d", code, cli.ExitCanceled)
	}
	// The step is killed when the build has ended, a moment after the command.
	for deadline := time.After(30 * time.Second); running(t, "sleep 515151"); {
		select {
		case <-deadline:
			t.Fatal("the step goes on")
		case <-time.After(100 * time.Millisecond):
		}
	}
	if after := sh.must(t, "ps", "--json"); after != before {
		t.Errorf("sessions before:\n%s\nand after:\n%s", before, after)
	}
}

// TestExitCodes are those of docs/reference/cli.md.
func TestExitCodes(t *testing.T) {
	sh := hubShell()
	failing := plainDir(t, map[string]string{"apt.txt": "Not A Package\n"})
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such flag":     {[]string{"launch", "--colour"}, cli.ExitUsage, "--colour"},
		"no repository":    {[]string{"launch"}, cli.ExitUsage, "arg"},
		"bad memory":       {[]string{"launch", ".", "--memory", "much"}, cli.ExitUsage, "4GiB"},
		"push to nowhere":  {[]string{"build", ".", "--push"}, cli.ExitUsage, "--tag"},
		"wrong file":       {[]string{"recipe", failing}, cli.ExitRefused, "apt.txt"},
		"build fails":      {[]string{"build", failing}, cli.ExitRefused, "apt.txt"},
		"no such session":  {[]string{"stop", "nobody-aaaaaaaa"}, cli.ExitRefused, "nobody"},
		"no such package":  {[]string{"why", "no-such-package", filepath.Join("../../examples/plain")}, cli.ExitRefused, "no-such-package"},
		"no such setting":  {[]string{"--set", "colour=red", "ps"}, cli.ExitUsage, "colour"},
		"freeze to where?": {[]string{"freeze", "gh/owner/name"}, cli.ExitUsage, "--output"},
	} {
		_, text, code := sh.run(t, c.args...)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, c.code, text)
		}
	}
	var report struct {
		Environment string
		Recipe      struct{ Kind string }
	}
	if err := json.Unmarshal([]byte(sh.must(t, "recipe", "../../examples/requirements", "--json")), &report); err != nil || report.Recipe.Kind != "python" || report.Environment == "" {
		t.Errorf("recipe --json: %+v, %v", report, err)
	}
	var checks []struct{ Name, State string }
	out, _, _ := sh.run(t, "doctor", "--json")
	if err := json.Unmarshal([]byte(out), &checks); err != nil || len(checks) < 10 {
		t.Errorf("doctor --json: %v\n%s", err, out)
	}
	if out := sh.must(t, "completion", "bash"); !strings.Contains(out, "__start_binnacle") {
		t.Error("completion bash prints no completion")
	}
}

// TestExport: images leave the machine, to a registry and as an archive.
func TestExport(t *testing.T) {
	sh := hubShell()
	reg := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))))
	defer reg.Close()
	tag := strings.TrimPrefix(reg.URL, "http://") + "/team/image:1"
	example := func(name string) string {
		b, err := os.ReadFile(filepath.Join("../../examples/npm", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	dir := plainDir(t, map[string]string{"a.txt": "one", "package.json": example("package.json"), "package-lock.json": example("package-lock.json")})
	out := sh.must(t, "build", dir, "--tag", tag, "--push")
	if !strings.Contains(out, tag) {
		t.Errorf("build --push says %s", out)
	}
	ref, err := name.ParseReference(tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch(t)}))
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, true)
	checkAttestations(t, ref, "pkg:deb/debian/bash@", "pkg:pypi/jupyterlab@", "pkg:npm/dayjs@1.11.13")

	archive := filepath.Join(dir, "image.tar")
	sh.must(t, "build", dir, "--output", archive)
	unpacked := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", unpacked).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("the archive's index: %+v, %v", manifest, err)
	}
	if img, err = index.Image(manifest.Manifests[0].Digest); err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, false)
}

// checkAttestations: what was pushed says what is in it, packages among that, and how it
// was made.
func checkAttestations(t *testing.T, ref name.Reference, packages ...string) {
	t.Helper()
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, d := range m.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		am, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range am.Layers {
			layer, err := img.LayerByDigest(l.Digest)
			if err != nil {
				t.Fatal(err)
			}
			r, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			said[l.Annotations["in-toto.io/predicate-type"]] = string(b)
		}
	}
	list := said["https://spdx.dev/Document"]
	for _, want := range append(packages, "SPDX-2.3") {
		if !strings.Contains(list, want) {
			t.Errorf("the list of packages has no %s: %.300s", want, list)
		}
	}
	if p := said["https://slsa.dev/provenance/v1"] + said["https://slsa.dev/provenance/v0.2"]; !strings.Contains(p, "Python and Jupyter") && !strings.Contains(p, "buildDefinition") && !strings.Contains(p, "buildType") {
		t.Errorf("the provenance is %.300s", p)
	}
}

// checkImage looks at an image as another tool would.
func checkImage(t *testing.T, img v1.Image, zstd bool) {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Config.User != "jovyan" || cfg.Config.Labels["repo2docker.repo"] != "local" || cfg.Config.WorkingDir != "/home/jovyan" {
		t.Errorf("the configuration is %+v", cfg.Config)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range m.Layers {
		if zstd && l.MediaType != types.OCILayerZStd {
			t.Errorf("layer %d is %s", i, l.MediaType)
		}
	}
	if len(m.Layers) < 4 {
		t.Errorf("%d layers", len(m.Layers))
	}
}

// TestPrivateRegistry: a password of the docker configuration opens a registry
// and shows nowhere. Its address is private, where a Dockerfile may not look, also while
// an image is pushed there. It needs a hub of its own, which has that configuration.
func TestPrivateRegistry(t *testing.T) {
	const user, password = "sailor", "hunter2-of-the-sea"
	inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="ships"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer reg.Close()
	host := strings.TrimPrefix(reg.URL, "http://")
	sh, data := ownShell(t)
	const allow = "source: {allow: [127.0.0.0/8]}\n"
	guarded := strings.Replace(read(t, sh.config), allow, "", 1)
	if err := os.WriteFile(sh.config, []byte(guarded), 0o600); err != nil || strings.Contains(guarded, "allow") {
		t.Fatal(err, guarded)
	}
	docker := t.TempDir()
	auth := fmt.Sprintf(`{"auths": {%q: {"username": %q, "password": %q}}}`, host, user, password)
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := plainDir(t, map[string]string{"a.txt": "one"})
	if _, text, code := sh.run(t, "build", dir, "--tag", host+"/team/image:1", "--push"); code == 0 || !strings.Contains(text, "401") && !strings.Contains(text, "authoriz") {
		t.Errorf("without a password: %d %s", code, text)
	}
	sh.env = []string{"DOCKER_CONFIG=" + docker}
	out, text, code := sh.run(t, "build", dir, "--tag", host+"/team/image:1", "--push")
	if code != 0 || strings.Contains(out+text, password) {
		t.Errorf("with it: %d %s %s", code, out, text)
	}
	curious := plainDir(t, map[string]string{"Dockerfile": "FROM " + host + "/team/other:1\n"})
	if _, text, code := sh.run(t, "build", curious, "--tag", host+"/team/image:2", "--push"); code == 0 || !strings.Contains(text, "private network") {
		t.Errorf("a Dockerfile that wants another image of that registry: %d %s", code, text)
	}
	nothingOf(t, data)
}
