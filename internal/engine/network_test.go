package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
)

func TestBuildNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a containerd")
	}
	d := dir(t)
	cfg := network.DefaultConfig()
	cfg.Dir = d
	n, err := network.New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var serving errgroup.Group
	serving.Go(func() error { return n.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := serving.Wait(); err != nil {
			t.Error(err)
		}
		if err := n.Remove(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	e := start(t, engine.Config{
		Dir: d, Base: engine.Base{Packages: []string{"ca-certificates"}}, Network: n.Provider(), Nameserver: n.Gateway().String(),
	})
	name, err := e.EnsureBase(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	base := llb.Image(name, llb.ResolveModePreferLocal)

	t.Run("package sources are reached", func(t *testing.T) {
		out, err := solve(t, e, base.Run(llb.Args([]string{"sh", "-c", "apt-get update 2>&1; apt-cache policy hello | grep -c Candidate"}), llb.IgnoreCache).Root())
		if err != nil || !strings.Contains(out, "\n1") {
			t.Errorf("apt-get update in a build: %v\n%s", err, out)
		}
	})
	t.Run("this machine is not reached", func(t *testing.T) {
		var listening net.ListenConfig
		l, err := listening.Listen(t.Context(), "tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		var accepted atomic.Int64
		var accepting errgroup.Group
		accepting.Go(func() error {
			for {
				c, err := l.Accept()
				if err != nil {
					return nil //nolint:nilerr // closed at the end
				}
				accepted.Add(1)
				_ = c.Close()
			}
		})
		port := l.Addr().(*net.TCPAddr).Port
		script := fmt.Sprintf(`for a in %s 127.0.0.1; do timeout 2 bash -c "exec 3<>/dev/tcp/$a/%d" && echo reached $a; done; true`, n.Gateway(), port)
		out, err := solve(t, e, base.Run(llb.Args([]string{"bash", "-c", script}), llb.IgnoreCache).Root())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := accepting.Wait(); err != nil {
			t.Error(err)
		}
		if strings.Contains(out, "reached") || accepted.Load() != 0 {
			t.Errorf("a build step reached this machine %d times:\n%s", accepted.Load(), out)
		}
	})
}
