// Package engine is the private containerd and BuildKit of one machine, both
// inside this process. Everything they keep is below one data directory and no
// part of the machine's own container software is used or touched.
//
// Containers are kept alive by shims, which are processes of their own: when
// this process ends, however it ends, sessions run on and the next [Start] on
// the same directory finds them again. Build steps are different: nobody waits
// for them any more, so Start ends what an earlier process left running.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/client"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/network"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine/runtime"
)

// Namespace is containerd's name for everything that is ours.
const Namespace = "binnacle"

// Snapshotter stores the layers.
const Snapshotter = "overlayfs"

// Config of the engine.
type Config struct {
	// Dir is the data directory; the engine uses containerd/, buildkit/, shim/
	// and bin/ below it. At most 36 characters, because unix sockets live there.
	Dir string
	// Base is how the image that everything is built on comes to be.
	Base Base
	// Env is given to every build step, never stored in a layer or a cache key:
	// proxies, package indexes.
	Env map[string]string
	// CABundle is the file with the certificate authorities that build steps
	// trust; empty is the machine's own bundle, "none" leaves the image's.
	CABundle string
	// BuildLimits bound one build step. Zero fields are unlimited.
	BuildLimits binnacle.Limits
	// Parallel is how many build steps run at once; 0 is unlimited.
	Parallel int
	// Mirrors lists registry mirrors by registry host, tried in order.
	Mirrors map[string][]string
	// Registry is the site's own, which images are pushed to.
	Registry Registry
	// CacheBudget is how much build cache is kept, in bytes; 0 leaves it to [Engine.Prune].
	CacheBudget int64
	// CheckAddress refuses addresses that images, ADD and FROM may not be
	// fetched from ("203.0.113.7:443"); nil allows all.
	CheckAddress func(ctx context.Context, address string) error
	// Network makes the network of a build step; nil gives it none.
	Network network.Provider
	// Nameserver is the resolver of build steps; empty is the machine's.
	Nameserver string
}

// Registry is a registry that is reached whatever [Config].CheckAddress says.
type Registry struct {
	// Host is "registry.example.org" or "host:port"; empty is none.
	Host string
	// Insecure speaks http with it.
	Insecure bool
}

// Engine is a running containerd and BuildKit.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	paths   runtime.Paths
	lock    *os.File
	ctd     *containerdServer
	client  *client.Client
	builder *buildkit
	baseMu  sync.Mutex // one bootstrap at a time
	pushes  sync.Map   // of *push, under way
}

// Start takes the data directory and starts both. Returns conflict when another
// process has the directory, invalid for a path that is too long.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Engine, error) {
	e := &Engine{cfg: cfg, log: log}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context) error {
	if err := checkDir(e.cfg.Dir); err != nil {
		return err
	}
	// 0711: the user of a mapped root must be able to pass through.
	if err := os.MkdirAll(e.cfg.Dir, 0o711); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	var err error
	if e.lock, err = takeLock(filepath.Join(e.cfg.Dir, "lock")); err != nil {
		return err
	}
	if e.paths, err = runtime.Install(filepath.Join(e.cfg.Dir, "bin")); err != nil {
		return err
	}
	if err := e.sweep(ctx); err != nil {
		return err
	}
	if err := e.sweepSnapshots(ctx); err != nil {
		return err
	}
	if e.ctd, err = startContainerd(ctx, e.cfg.Dir); err != nil {
		return err
	}
	if e.client, err = client.New(e.ctd.address, client.WithDefaultNamespace(Namespace)); err != nil {
		return fmt.Errorf("connect to our containerd: %w", err)
	}
	if e.builder, err = startBuildkit(ctx, e); err != nil {
		return err
	}
	return nil
}

// Containerd is the client of the private containerd; its default namespace is [Namespace].
func (e *Engine) Containerd() *client.Client { return e.client }

// BuildKit is the client of the BuildKit inside.
func (e *Engine) BuildKit() *bkclient.Client { return e.builder.client }

// Runtime says where runc and the shim are.
func (e *Engine) Runtime() runtime.Paths { return e.paths }

// Close stops both; containers of sessions go on. It may be called on an engine
// that did not start, and twice.
func (e *Engine) Close() error {
	var errs []error
	if e.builder != nil {
		errs = append(errs, e.builder.close(), e.groups().release(), e.sweepMounts())
		_, err := unmountBelow(e.buildDir()) // of a step that ended too slowly
		errs = append(errs, err)
		e.builder = nil
	}
	if e.client != nil {
		errs = append(errs, e.client.Close())
		e.client = nil
	}
	if e.ctd != nil {
		e.ctd.close()
		e.ctd = nil
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
		e.lock = nil
	}
	return errors.Join(errs...)
}

const maxDir = 36

func checkDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return binnacle.Errorf(binnacle.CodeInvalid, "The data directory must be an absolute path, not %q.", dir)
	}
	if len(dir) > maxDir {
		return &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "engine.start",
			Message: fmt.Sprintf("The data directory's path is %d characters long; unix sockets below it allow %d.", len(dir), maxDir),
			Hint:    "Choose a shorter one with --data, such as /var/lib/binnacle.",
		}
	}
	return nil
}

// dialer is how this process itself fetches what a repository names.
func (e *Engine) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil || e.cfg.CheckAddress == nil {
			return conn, err
		}
		// Checked on what was really dialled: names can change between look-ups.
		if err := e.cfg.CheckAddress(ctx, conn.RemoteAddr().String()); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
}
