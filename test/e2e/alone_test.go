package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
)

func goarch(t *testing.T) string {
	t.Helper()
	return runtime.GOARCH
}

// ownShell has a data directory of its own, where no hub runs: each command runs
// one for itself. It is another machine as far as builds go.
func ownShell(t *testing.T) (shell, string) {
	t.Helper()
	room(t)
	data, err := os.MkdirTemp("/tmp", "bo")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o711); err != nil {
		t.Fatal(err)
	}
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(data, "binnacle.yaml")
	text := fmt.Sprintf("data: %s\nlisten: %s\nbase: {archive: %s}\nsource: {allow: [127.0.0.0/8]}\n", data, addr, filepath.Join(os.TempDir(), "binnacle-test-base.tar"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	return shell{config: config}, data
}

// nothingOf looks for what a hub with that data directory left on the machine.
func nothingOf(t *testing.T, data string) {
	t.Helper()
	// Network and control groups are named after their directory: see engine.
	sum := sha256.Sum256([]byte(data))
	bridge, group := "bn"+hex.EncodeToString(sum[:3]), "/binnacle/"+hex.EncodeToString(sum[:4])
	for _, c := range [][]string{{"mount"}, {"ps", "-eo", "args"}, {"ip", "-o", "link"}, {"ip", "netns"}, {"nft", "list", "tables"}, {"find", "/sys/fs/cgroup", "-type", "d", "-path", "*/binnacle/*"}} {
		out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).Output()
		if err != nil {
			t.Fatalf("%q: %v", c, err)
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			if strings.Contains(line, data) || strings.Contains(line, bridge) || strings.Contains(line, group) {
				t.Errorf("%s: left behind: %s", c[0], line)
			}
		}
	}
}

// dropNetwork takes away what a hub that served leaves to its sessions, when there are
// none any more.
func dropNetwork(t *testing.T, data string) {
	t.Helper()
	sum := sha256.Sum256([]byte(data))
	bridge := "bn" + hex.EncodeToString(sum[:3])
	for _, c := range [][]string{{"ip", "link", "delete", bridge}, {"nft", "delete", "table", "inet", "binnacle_" + bridge}} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", c, err, out)
		}
	}
}

// TestAlone: no hub runs. launch starts one, Ctrl-C ends it with the session, and
// the machine is as before.
func TestAlone(t *testing.T) {
	sh, data := ownShell(t)
	dir := plainDir(t, map[string]string{"a.txt": "one"})
	if code := sh.interrupt(t, `"token":`, "launch", dir, "--json"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	nothingOf(t, data)
	building := plainDir(t, map[string]string{"postBuild": "#!/bin/sh\necho slow step runs\nexec sleep 525252\n"})
	if code := sh.interrupt(t, "slow step runs", "launch", building, "--json"); code != cli.ExitCanceled {
		t.Errorf("during the build: exit code %d; want %d", code, cli.ExitCanceled)
	}
	nothingOf(t, data)
	if running(t, "sleep 525252") {
		t.Error("the build's step goes on")
	}

	var use struct {
		Total int64
		Parts []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(sh.must(t, "clean", "--dry-run", "--json")), &use); err != nil || use.Total < 100<<20 || len(use.Parts) == 0 {
		t.Errorf("clean --dry-run: %+v, %v", use, err)
	}
	after := use
	half := use.Total / 2
	sh.must(t, "clean", "--budget", strconv.FormatInt(half, 10))
	if err := json.Unmarshal([]byte(sh.must(t, "clean", "--dry-run", "--json")), &after); err != nil || after.Total > half {
		t.Errorf("%d bytes after clean --budget %d, %v", after.Total, half, err)
	}
	sh.must(t, "clean", "--all", "--json")
	if err := json.Unmarshal([]byte(sh.must(t, "clean", "--dry-run", "--json")), &after); err != nil || after.Total >= half {
		t.Errorf("%d bytes after clean --all, %v", after.Total, err)
	}
	nothingOf(t, data)
}

// TestTwoMachines: the same revision, built by two engines that know nothing of
// each other, is the same image, byte for byte. They share the base, which is as
// new as Debian was when it was made.
func TestTwoMachines(t *testing.T) {
	repo := the.example(t, "requirements")
	one := archive(t, hubShell(), repo.URL)
	sh, data := ownShell(t)
	other := archive(t, sh, repo.URL)
	if diff := cmp.Diff(one, other); diff != "" {
		t.Error(diff)
	}
	nothingOf(t, data)

	// What was resolved can be committed: freezing twice changes nothing.
	dir := plainDir(t, map[string]string{"requirements.txt": "humanize\n"})
	hubShell().must(t, "freeze", dir)
	lock := read(t, filepath.Join(dir, "requirements.txt"))
	if loose := read(t, filepath.Join(dir, "requirements.in")); loose != "humanize\n" || !strings.Contains(lock, "humanize==") || !strings.Contains(lock, "--hash=sha256:") {
		t.Errorf("frozen %q, kept %q", lock, loose)
	}
	hubShell().must(t, "freeze", dir)
	if again := read(t, filepath.Join(dir, "requirements.txt")); again != lock {
		t.Errorf("frozen again: %s", cmp.Diff(lock, again))
	}
	modules := plainDir(t, map[string]string{"binder/package.json": "{\n  \"dependencies\": {\"dayjs\": \"~1.11.0\"}\n}\n"})
	hubShell().must(t, "freeze", modules)
	lock = read(t, filepath.Join(modules, "binder/package-lock.json"))
	if !strings.Contains(lock, `"node_modules/dayjs"`) || !strings.Contains(lock, `"integrity": "sha512-`) {
		t.Errorf("frozen %s", lock)
	}
	hubShell().must(t, "freeze", modules)
	if again := read(t, filepath.Join(modules, "binder/package-lock.json")); again != lock {
		t.Errorf("frozen again: %s", cmp.Diff(lock, again))
	}
	if why := hubShell().must(t, "why", "humanize", dir); !strings.Contains(why, "requirements.txt:3") {
		t.Errorf("why says %s", why)
	}
}

// archive builds and returns the image's layers, configuration and digest.
func archive(t *testing.T, sh shell, address string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	sh.must(t, "build", address, "--output", file)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", file, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) == 0 {
		t.Fatal(errors.Join(err, binnacle.Errorf(binnacle.CodeInternal, "the archive is empty")))
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{string(config), m.Manifests[0].Digest.String()}
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d.String())
	}
	return out
}
