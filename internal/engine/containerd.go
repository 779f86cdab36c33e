package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus" //nolint:depguard // containerd and BuildKit log through it; we only turn it down
)

type containerdServer struct {
	address string
	server  *server.Server
}

// startContainerd runs containerd in this process, below dir.
func startContainerd(ctx context.Context, dir string) (*containerdServer, error) {
	quiet()
	socket := filepath.Join(dir, "containerd.sock")
	cfg := &srvconfig.Config{
		Version: version.ConfigVersion,
		Root:    filepath.Join(dir, "containerd", "root"),
		State:   filepath.Join(dir, "containerd", "state"),
		// Collectors of the whole process, registered again at every start.
		DisabledPlugins: []string{"io.containerd.metrics.v1.grpc-prometheus", "io.containerd.metrics.v1.grpc-otel"},
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc":          map[string]any{"address": socket},
			"io.containerd.server.v1.ttrpc":         map[string]any{"address": socket + ".ttrpc"},
			"io.containerd.shim.v1.manager":         map[string]any{"socket_dir": filepath.Join(dir, "shim")},
			"io.containerd.gc.v1.scheduler":         map[string]any{"startup_delay": "10s", "schedule_delay": "100ms"},
			"io.containerd.monitor.task.v1.cgroups": map[string]any{"no_prometheus": true},
		},
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return nil, fmt.Errorf("make containerd's directories: %w", err)
	}
	tmp := filepath.Join(cfg.Root, "tmpmounts")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return nil, fmt.Errorf("make containerd's directories: %w", err)
	}
	if err := mount.SetTempMountLocation(tmp); err != nil {
		return nil, fmt.Errorf("prepare containerd's mounts: %w", err)
	}
	if _, err := mount.CleanupTempMounts(0); err != nil {
		return nil, fmt.Errorf("unmount what an earlier containerd left: %w", err)
	}
	// containerd's plugins keep this context for as long as they live.
	srv, err := server.New(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, fmt.Errorf("start our containerd: %w", err)
	}
	if err := srv.Start(context.WithoutCancel(ctx)); err != nil {
		srv.Stop()
		return nil, fmt.Errorf("start our containerd: %w", err)
	}
	srv.Wait()
	return &containerdServer{address: socket, server: srv}, nil
}

func tempDir(dir string) string { return filepath.Join(dir, "tmp") }

func (s *containerdServer) close() { s.server.Stop() }

// quiet keeps the libraries' own logging out of ours: what matters of it comes
// back as errors.
func quiet() {
	log.L.Logger.SetOutput(io.Discard)
	logrus.SetOutput(io.Discard)
}
