package containerd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/binnacle-hub/binnacle/internal/engine/network"
	"github.com/binnacle-hub/binnacle/internal/engine/runtime"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/containerd"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

const (
	testImage = "example.org/sessions/test:1"
	bareImage = "example.org/sessions/bare:1" // as root, with another command
)

// machine is a containerd of our own and a network, in this process.
type machine struct {
	dir    string
	server *server.Server
	client *client.Client
	net    *network.Network
	paths  runtime.Paths
}

var (
	once   sync.Once
	shared *machine
)

// theMachine is one machine for all tests.
func theMachine(t testing.TB) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("needs containers")
	}
	if os.Getuid() != 0 {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	once.Do(func() {
		dir, err := os.MkdirTemp("", "bn")
		must(t, err)
		must(t, os.Chmod(dir, 0o711))
		programs := filepath.Join(dir, "bin")
		m, err := startMachine(t.Context(), dir, programs, true)
		must(t, err)
		shared = m
	})
	if shared == nil {
		t.Fatal("containerd did not start")
	}
	return shared
}

func startMachine(ctx context.Context, dir, programs string, withImages bool) (*machine, error) {
	m := &machine{dir: dir}
	var err error
	if m.paths, err = install(programs); err != nil {
		return nil, err
	}
	log.L.Logger.SetOutput(io.Discard)
	cfg := &srvconfig.Config{
		Version: version.ConfigVersion, Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc":  map[string]any{"address": filepath.Join(dir, "ctd.sock")},
			"io.containerd.server.v1.ttrpc": map[string]any{"address": filepath.Join(dir, "ctd.sock.ttrpc")},
			"io.containerd.shim.v1.manager": map[string]any{"socket_dir": filepath.Join(dir, "shim")},
		},
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return nil, err
	}
	tmp := filepath.Join(cfg.Root, "tmpmounts")
	if err := errors.Join(os.MkdirAll(tmp, 0o700), mount.SetTempMountLocation(tmp)); err != nil {
		return nil, err
	}
	if _, err := mount.CleanupTempMounts(0); err != nil { // of an unpacking that was killed
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if m.server, err = server.New(ctx, cfg); err != nil {
		return nil, err
	}
	if err := m.server.Start(ctx); err != nil {
		return nil, err
	}
	m.server.Wait()
	if m.client, err = client.New(filepath.Join(dir, "ctd.sock"), client.WithDefaultNamespace("binnacle")); err != nil {
		return nil, err
	}
	if m.net, err = network.New(ctx, network.Config{Dir: dir, Outbound: true}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if withImages {
		return m, m.importImages(ctx, programs)
	}
	return m, nil
}

// install finds runc and the shim, and compiles the shim where it is missing.
func install(dir string) (runtime.Paths, error) {
	if paths, err := runtime.Install(dir); err == nil {
		return paths, nil
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return runtime.Paths{}, err
	}
	shim := filepath.Join(dir, runtime.Shim)
	if _, err := os.Stat(shim); err == nil {
		return runtime.Paths{Runc: runc, Shim: shim}, nil
	}
	return runtime.Paths{Runc: runc, Shim: shim}, compile(shim, "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2")
}

func compile(out, pkg string) error {
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", pkg, err, b)
	}
	return nil
}

// importImages makes images of one file and imports them: no registry.
func (m *machine) importImages(ctx context.Context, dir string) error {
	server, err := sessiontest.Compile(ctx, dir)
	if err != nil {
		return err
	}
	for ref, cfg := range map[string]v1.Config{
		testImage: {Cmd: []string{"jupyter-lab"}, WorkingDir: "/home/jovyan", Env: []string{"FROM_IMAGE=yes"}, Labels: map[string]string{"dev.binnacle.kind": "python"}},
		bareImage: {User: "root", Cmd: []string{"/bin/sh"}},
	} {
		img, err := sessiontest.BuildImage(server, cfg)
		if err != nil {
			return err
		}
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		var archive bytes.Buffer
		if err := tarball.Write(tag, img, &archive); err != nil {
			return err
		}
		if _, err := m.client.Import(ctx, &archive); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) close() {
	ctx := context.Background()
	if err := m.net.Remove(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "remove the network:", err)
	}
	m.client.Close()
	m.server.Stop()
	for _, dir := range m.mounts() {
		fmt.Fprintln(os.Stderr, "still mounted:", dir)
	}
	os.RemoveAll(m.dir)
}

func (m *machine) mounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], m.dir+"/") {
			points = append(points, f[4])
		}
	}
	return points
}

// open makes a spawner without sessions.
func (m *machine) open(t testing.TB) *containerd.Spawner {
	t.Helper()
	cfg := containerd.Config{Dir: filepath.Join(m.dir, "sessions"), Runc: m.paths.Runc, Shim: m.paths.Shim, Grace: 2 * time.Second, LogSize: 64 << 10}
	s, err := containerd.New(cfg, m.client, m.net.Sessions(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	must(t, s.Reconcile(t.Context()))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// run is open with its Run running.
func (m *machine) run(t testing.TB) *containerd.Spawner {
	t.Helper()
	s := m.open(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (m *machine) residue(t testing.TB) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var left []string
	containers, err := m.client.ContainerService().List(ctx)
	must(t, err)
	for _, c := range containers {
		left = append(left, "container "+c.ID)
	}
	must(t, m.client.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind != snapshots.KindCommitted {
			left = append(left, "snapshot "+i.Name)
		}
		return nil
	}))
	leases, err := m.client.LeasesService().List(ctx)
	must(t, err)
	for _, l := range leases {
		left = append(left, "lease "+l.ID)
	}
	for _, ns := range m.net.List() {
		left = append(left, "network "+ns.ID)
	}
	for _, pattern := range []string{m.dir + "/sessions/*", m.dir + "/state/io.containerd.runtime.v2.task/binnacle/*", "/sys/fs/cgroup/*/binnacle/*/sessions/*/", "/sys/fs/cgroup/binnacle/*/sessions/*/"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		left = append(left, files...)
	}
	for _, p := range m.mounts() {
		if strings.Contains(p, "/rootfs") {
			left = append(left, "mount "+p)
		}
	}
	slices.Sort(left)
	return left
}

func begin(t testing.TB, s session.Spawner, spec session.Spec) {
	t.Helper()
	_, err := s.Start(t.Context(), spec)
	must(t, err)
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context()), spec.ID); err != nil {
			t.Error(err)
		}
	})
}

func fetch(t testing.TB, s session.Spawner, spec session.Spec, path string) string {
	t.Helper()
	body, err := sessiontest.Fetch(t.Context(), s, spec, path)
	if err != nil {
		t.Fatalf("ask for %s: %v", path, err)
	}
	return body
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
