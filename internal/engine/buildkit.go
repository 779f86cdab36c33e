package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/moby/buildkit/cache/remotecache"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	bkclient "github.com/moby/buildkit/client"
	bkconfig "github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/pb"
	httpsource "github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	ctdworker "github.com/moby/buildkit/worker/containerd"
	"github.com/moby/sys/userns"
	bolt "go.etcd.io/bbolt"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
)

// buildkit is a BuildKit inside this process, reached over a pipe in memory.
type buildkit struct {
	client     *bkclient.Client
	controller *control.Controller
	server     *grpc.Server
	serving    *errgroup.Group
	stop       context.CancelFunc
}

func startBuildkit(ctx context.Context, e *Engine) (*buildkit, error) {
	// The controller keeps this context for as long as it lives; close ends it.
	ctx, stop := context.WithCancel(namespaces.WithNamespace(context.WithoutCancel(ctx), Namespace))
	b := &buildkit{stop: stop}
	root := e.buildDir()
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, errors.Join(fmt.Errorf("make BuildKit's directory: %w", err), b.close())
	}
	w, err := newWorker(ctx, e, root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start BuildKit: %w", err), b.close())
	}
	if b.controller, err = newController(ctx, root, w, e.registryHosts(e.transport())); err != nil {
		return nil, errors.Join(fmt.Errorf("start BuildKit: %w", err), b.close())
	}
	if err := b.serve(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start BuildKit: %w", err), b.close())
	}
	return b, nil
}

// newWorker is BuildKit's worker on our containerd, with runc driven directly:
// a step starts in half the time it takes through a shim, and nothing of a
// build has to outlive this process.
func newWorker(ctx context.Context, e *Engine, root string) (*base.Worker, error) {
	var sem *semaphore.Weighted
	if e.cfg.Parallel > 0 {
		sem = semaphore.NewWeighted(int64(e.cfg.Parallel))
	}
	opt, err := ctdworker.NewWorkerOpt(ctdworker.WorkerOptions{
		Root:            root,
		Address:         e.ctd.address,
		SnapshotterName: Snapshotter,
		Namespace:       Namespace,
		ParallelismSem:  sem,
		NetworkOpt:      netproviders.Opt{Mode: "host"}, // replaced below
	})
	if err != nil {
		return nil, err
	}
	if e.cfg.CacheBudget > 0 {
		opt.GCPolicy = []bkclient.PruneInfo{{All: true, MaxUsedSpace: e.cfg.CacheBudget}}
	}
	none, ok := opt.NetworkProviders[pb.NetMode_NONE]
	if !ok {
		return nil, errors.New("BuildKit has no empty network")
	}
	outside := e.cfg.Network
	if outside == nil {
		outside = none
	}
	// The host's network is not among them: no build step can ask for it.
	opt.NetworkProviders = map[pb.NetMode]network.Provider{pb.NetMode_UNSET: outside, pb.NetMode_NONE: none}
	var dns *oci.DNSConfig
	if e.cfg.Nameserver != "" {
		dns = &oci.DNSConfig{Nameservers: []string{e.cfg.Nameserver}}
	}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, err
	}
	executorOpt := runcexecutor.Opt{
		Root:              e.execDir(),
		CommandCandidates: []string{e.paths.Runc},
		ProcessMode:       oci.ProcessSandbox,
		DNS:               dns,
		ResourceMonitor:   monitor,
	}
	grouped := e.grouped(ctx)
	if !grouped {
		executorOpt.Rootless, executorOpt.OOMScoreAdj = true, new(stepOOMScore)
	}
	runc, err := runcexecutor.New(executorOpt, opt.NetworkProviders)
	if err != nil {
		return nil, err
	}
	if opt.Executor, err = newStepExecutor(runc, e, grouped); err != nil {
		return nil, err
	}
	transport := e.transport()
	opt.RegistryHosts = e.registryHosts(transport)
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, err
	}
	source, err := httpsource.NewSource(httpsource.Opt{CacheAccessor: w.CacheMgr, Transport: transport})
	if err != nil {
		return nil, err
	}
	w.SourceManager.Register(source)
	return w, nil
}

// stepOOMScore makes a build step without a group of its own the first to go when
// the memory of all is used up, before the builder itself.
const stepOOMScore = 500

// grouped tells whether steps have control groups of their own, and with them
// limits. It is false in a user namespace that may make none; elsewhere what is
// wrong with groups is an error of each step.
func (e *Engine) grouped(ctx context.Context) bool {
	if !userns.RunningInUserNS() {
		return true
	}
	err := e.groups().probe()
	if err != nil {
		e.log.WarnContext(ctx, "build steps have no limits of memory and CPU of their own: this user namespace may not make control groups", "error", err)
	}
	return err == nil
}

// execDir is where BuildKit mounts the root of a running step.
func (e *Engine) execDir() string { return filepath.Join(e.buildDir(), "exec") }

// buildDir is BuildKit's.
func (e *Engine) buildDir() string { return filepath.Join(e.cfg.Dir, "buildkit") }

func (e *Engine) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forbidigo // cloned for its defaults only
	t.DialContext = e.dialer()
	return t
}

func (e *Engine) registryHosts(t *http.Transport) docker.RegistryHosts {
	open := http.DefaultTransport //nolint:forbidigo // to addresses that the operator chose
	foreign := docker.ConfigureDefaultRegistries(docker.WithClient(&http.Client{Transport: outlet{t, open, &e.pushes}}), docker.WithPlainHTTP(docker.MatchLocalhost))
	own := docker.ConfigureDefaultRegistries(docker.WithClient(&http.Client{Transport: open}),
		docker.WithPlainHTTP(func(host string) (bool, error) {
			local, err := docker.MatchLocalhost(host)
			return local || e.cfg.Registry.Insecure, err
		}))
	direct := func(host string) ([]docker.RegistryHost, error) {
		if host == e.cfg.Registry.Host {
			return own(host)
		}
		return foreign(host)
	}
	return docker.Registries(func(host string) ([]docker.RegistryHost, error) {
		var hosts []docker.RegistryHost
		for _, mirror := range e.cfg.Mirrors[host] {
			more, err := direct(mirror)
			if err != nil {
				return nil, fmt.Errorf("registry mirror %s: %w", mirror, err)
			}
			for i := range more {
				more[i].Capabilities &^= docker.HostCapabilityPush
			}
			hosts = append(hosts, more...)
		}
		more, err := direct(host)
		return append(hosts, more...), err
	})
}

func newController(ctx context.Context, root string, w *base.Worker, hosts docker.RegistryHosts) (*control.Controller, error) {
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(root, "cache.db"))
	if err != nil {
		return nil, err
	}
	history, err := boltutil.SafeOpen(filepath.Join(root, "history.db"), 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	return control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		// Only the Dockerfile frontend that is compiled in: a "# syntax=" line
		// can't bring a program of its own into the builder.
		Frontends:                 map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)},
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{"registry": registrycache.ResolveCacheExporterFunc(sessions, hosts)},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{"registry": registrycache.ResolveCacheImporterFunc(sessions, w.ContentStore(), hosts)},

		CacheManager:   solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers)),
		MeterProvider:  noop.NewMeterProvider(),
		HistoryDB:      history,
		CacheStore:     cache,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		HistoryConfig:  &bkconfig.HistoryConfig{MaxEntries: new(int64(1))},
		GarbageCollect: w.GarbageCollect,
		GracefulStop:   ctx.Done(),
	})
}

func (b *buildkit) serve(ctx context.Context) error {
	b.server = grpc.NewServer(serverOptions()...)
	b.controller.Register(b.server)
	const pipe = 1 << 20 // bytes in flight
	listener := bufconn.Listen(pipe)
	b.serving = &errgroup.Group{}
	b.serving.Go(func() error { return b.server.Serve(listener) })
	c, err := bkclient.New(ctx, "passthrough:///buildkit",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		bkclient.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		bkclient.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20))),
	)
	if err != nil {
		return err
	}
	b.client = c
	return nil
}

func serverOptions() []grpc.ServerOption {
	// BuildKit's own containerd calls need the namespace in their context.
	inNamespace := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(namespaces.WithNamespace(ctx, Namespace), req)
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(inNamespace, grpcerrors.UnaryServerInterceptor),
		grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(64 << 20), grpc.MaxSendMsgSize(64 << 20),
	}
}

// close stops the controller before the server: it still answers its own clients.
func (b *buildkit) close() error {
	var errs []error
	b.stop()
	if b.client != nil {
		errs = append(errs, b.client.Close())
	}
	if b.controller != nil {
		errs = append(errs, b.controller.Close())
	}
	if b.server != nil {
		b.server.Stop()
		errs = append(errs, b.serving.Wait())
	}
	return errors.Join(errs...)
}

// Clean is a context BuildKit can be called with: without the headers that a
// containerd namespace leaves in it, which BuildKit would take for its own.
func Clean(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.MD{})
}
