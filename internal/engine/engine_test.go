package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine"
)

// dir is a short directory: unix sockets live below it.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/tmp", "bn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

func start(t *testing.T, cfg engine.Config) *engine.Engine {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a containerd")
	}
	e, err := engine.Start(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// solve runs the state and returns what its steps printed.
func solve(t *testing.T, e *engine.Engine, s llb.State) (string, error) {
	t.Helper()
	def, err := s.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	status := make(chan *bkclient.SolveStatus)
	var g errgroup.Group
	g.Go(func() error {
		for st := range status {
			for _, l := range st.Logs {
				out.Write(l.Data)
			}
		}
		return nil
	})
	_, err = e.BuildKit().Solve(engine.Clean(t.Context()), def, bkclient.SolveOpt{}, status)
	return out.String(), errors.Join(err, g.Wait())
}

func TestBaseAndSteps(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(bundle, []byte("authorities\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir(t), "base.tar")
	e := start(t, engine.Config{
		Dir: dir(t), Base: engine.Base{Packages: []string{"ca-certificates"}, Archive: archive}, CABundle: bundle,
		Env: map[string]string{"PIP_INDEX_URL": "http://index.example.org"}, BuildLimits: binnacle.Limits{Memory: 64 << 20, PIDs: 32, Disk: 512 << 20},
	})
	name, err := e.EnsureBase(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.EnsureBase(t.Context(), func(line string) { t.Errorf("bootstrapped twice: %s", line) }); err != nil {
		t.Fatal(err)
	}
	base := llb.Image(name, llb.ResolveModePreferLocal)

	t.Run("every package of the base has its hash", func(t *testing.T) {
		const count = `sh -c 'dpkg-query -W | wc -l; grep -cE "^[0-9a-f]{64} [a-z0-9+.-]+=" /usr/local/share/binnacle/sums/apt.sha256; ls /var/lib/apt/lists /var/cache/apt'`
		out, err := solve(t, e, base.Run(llb.Shlex(count), llb.IgnoreCache).Root())
		if lines := strings.Split(out, "\n"); err != nil || len(lines) < 2 || lines[0] != lines[1] || strings.Contains(out, ".bin") {
			t.Errorf("%v: packages, hashes, what is left of apt: %s", err, out)
		}
	})
	t.Run("what belongs to the machine is there but not kept", func(t *testing.T) {
		one := base.Run(llb.Shlex(`sh -c 'cat "$SSL_CERT_FILE"; echo index $PIP_INDEX_URL'`), llb.IgnoreCache).Root()
		out, err := solve(t, e, one)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "authorities") || !strings.Contains(out, "index http://index.example.org") {
			t.Errorf("the step saw %q", out)
		}
		out, err = solve(t, e, base.File(llb.Copy(one, "/run", "/kept")).Run(llb.Shlex(`sh -c 'find /kept /run -type f; env'`), llb.IgnoreCache).Root())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ReplaceAll(out, "SSL_CERT_FILE=/run/binnacle/ca.crt", ""), "/kept/binnacle/ca.crt") {
			t.Errorf("the bundle stayed in a layer: %q", out)
		}
	})
	t.Run("a step has no network of the host", func(t *testing.T) {
		out, err := solve(t, e, base.Run(llb.Shlex(`sh -c 'cat /proc/net/dev | grep -c :'`), llb.IgnoreCache).Root())
		if err != nil || strings.TrimSpace(out) != "1" {
			t.Errorf("interfaces: %q, %v; want only the loopback", out, err)
		}
	})
	t.Run("limits", func(t *testing.T) {
		_, err := solve(t, e, base.Run(llb.Args([]string{"sh", "-c", `x=$(head -c 200000000 /dev/zero | tr '\0' x); echo ${#x}`}), llb.IgnoreCache).Root())
		if err == nil {
			t.Error("a step took more memory than it may")
		}
		out, err := solve(t, e, base.Run(llb.Args([]string{"sh", "-c", `for i in $(seq 100); do sleep 60 & done; wait`}), llb.IgnoreCache).Root())
		if err == nil {
			t.Errorf("a step started more processes than it may: %s", out)
		}
		out, err = solve(t, e, base.Run(llb.Args([]string{"sh", "-c", `for i in $(seq 30); do head -c 200000000 /dev/zero > /f$i; sleep 0.2; done`}), llb.IgnoreCache).Root())
		if err == nil || !strings.Contains(out, "No space left on device") {
			t.Errorf("a step wrote more than it may: %v %s", err, out)
		}
	})
	t.Run("what others write is not a step's", func(t *testing.T) {
		cache := llb.AddMount("/both", llb.Scratch(), llb.AsPersistentCacheDir("both", llb.CacheMountShared))
		var g errgroup.Group
		for _, script := range []string{
			`touch /both/began; until [ -e /both/written ]; do sleep 0.1; done; head -c 100000000 /dev/zero > /f; sleep 2`, // which is four looks
			`until [ -e /both/began ]; do sleep 0.1; done; head -c 480000000 /dev/zero > /f; touch /both/written`,
		} {
			g.Go(func() error {
				out, err := solve(t, e, base.Run(llb.Args([]string{"sh", "-c", script}), llb.IgnoreCache, cache).Root())
				if err != nil {
					return fmt.Errorf("%w\n%s", err, out)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("in a user namespace", func(t *testing.T) { inUserNamespace(t, archive) })
}

func TestOneProcessPerDirectory(t *testing.T) {
	d := dir(t)
	start(t, engine.Config{Dir: d})
	_, err := engine.Start(t.Context(), engine.Config{Dir: d}, slog.New(slog.DiscardHandler))
	if binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("a second start: %v, want a conflict", err)
	}
}

func TestStartTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a containerd")
	}
	d := dir(t)
	for range 3 {
		e, err := engine.Start(t.Context(), engine.Config{Dir: d}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.BuildKit().ListWorkers(engine.Clean(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadDirectory(t *testing.T) {
	for _, d := range []string{"relative", "/tmp/" + strings.Repeat("x", 40)} {
		_, err := engine.Start(t.Context(), engine.Config{Dir: d}, slog.New(slog.DiscardHandler))
		if binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("Start(%q) = %v, want invalid", d, err)
		}
	}
}

// TestCutOffLayer has what a kill between making a layer's directory and writing
// it down leaves.
func TestCutOffLayer(t *testing.T) {
	d := dir(t)
	e := start(t, engine.Config{Dir: d})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(d, "containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots/1")
	if err := os.MkdirAll(filepath.Join(left, "fs"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, engine.Config{Dir: d})
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the directory that no layer has is still there: %v", err)
	}
}

// TestCutOffMount has what a kill leaves while BuildKit looks into a layer.
func TestCutOffMount(t *testing.T) {
	d := dir(t)
	e := start(t, engine.Config{Dir: d})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	var lower []string
	for _, name := range []string{"one", "two"} {
		layer := filepath.Join(d, name)
		if err := os.Mkdir(layer, 0o700); err != nil {
			t.Fatal(err)
		}
		lower = append(lower, layer)
	}
	points := map[string]bool{} // and whether it shall stay
	for name, stays := range map[string]bool{"buildkit-mount": false, "other": true} {
		at, err := os.MkdirTemp("", name)
		if err != nil {
			t.Fatal(err)
		}
		points[at] = stays
		if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = unix.Unmount(at, unix.MNT_DETACH) // unless it is gone
			_ = os.Remove(at)
		})
	}
	// A step that is cut off leaves its root and its caches.
	left := func(name string) {
		at := filepath.Join(d, "buildkit", name)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // unless it is gone
	}
	left("exec/step/rootfs")
	left("containerd-overlayfs/cachemounts/buildkit1")
	e = start(t, engine.Config{Dir: d})
	for at, stays := range points {
		if _, err := os.Stat(at); os.IsNotExist(err) == stays {
			t.Errorf("%s: %v; stays is %v", at, err, stays)
		}
	}
	noMounts(t, d)
	left("containerd-overlayfs/cachemounts/buildkit2")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	noMounts(t, d)
}

func noMounts(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if point := strings.Fields(line)[1]; strings.HasPrefix(point, dir+"/buildkit/") {
			t.Errorf("left behind: %s", point)
		}
	}
}
