package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/engine/network"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/proxy"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/containerd"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// server is a whole hub: every part, wired.
type server struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	url     string // without a slash at its end

	network *network.Network // nil on a cluster
	engine  *engine.Engine   // nil on a cluster
	store   *store.Store
	replica string        // this process among the hub's replicas; empty: the only one
	leader  launch.Leader // nil: this process leads
	source  *source.Source
	builder *image.Builder
	images  *registry.Registry // nil on one machine
	spawner session.Spawner
	proxy   *proxy.Proxy
	service *launch.Service
	hub     *hub.Hub

	public net.Listener
	plain  net.Listener // leads to public, which speaks HTTPS; nil: nobody listens there
	socket net.Listener
	below  []func(context.Context) error // run as long as anything else does
	more   []hub.Check                   // what else /health asks
	meters []hub.Metric                  // what /metrics tells of the cluster
	closes []func() error                // in the order of opening; see close

	leaving leaving // the public listener's last seconds on a cluster

	// fleeting removes the network at the end unless a session uses it: this
	// hub serves one command.
	fleeting bool
}

// newServer opens everything but serves nothing yet. The caller runs it, or
// closes it.
func newServer(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (_ *server, err error) {
	s := &server{cfg: cfg, version: version, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	machine := []func(context.Context) error{s.openData, s.openListeners, s.openEngine, s.openStore, s.openTLS, s.openSource, s.openSessions, s.openHub}
	cluster := []func(context.Context) error{s.openCluster, s.openData, s.openListeners, s.openStore, s.openTLS, s.openSource, s.openHub}
	parts := machine
	if cfg.Kubernetes.Enabled {
		parts = cluster
	}
	for _, open := range parts {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run serves until ctx ends or a part fails, then shuts down in this order:
//
//  1. on a cluster, connections are asked to go elsewhere, while all still works;
//     the listeners close and running requests get a few seconds: nobody is told
//     half of something;
//  2. the launch service stops: builds are canceled, to be continued by the next
//     hub; sessions go on;
//  3. the hub and the proxy end their own connections;
//  4. what watches over sessions and answers their DNS stops;
//  5. the database closes, BuildKit and containerd stop, the lock is released.
//
// ready is called once requests are answered.
func (s *server) run(ctx context.Context, ready func()) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	var lower errgroup.Group
	for _, part := range s.below {
		lower.Go(func() error { return ignoreCanceled(part(below)) })
	}

	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	group, serving := errgroup.WithContext(serving)
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-serving.Done():
			return nil
		}
		if s.cfg.Kubernetes.Enabled {
			const last = 2 * time.Second
			s.leaving.begin(serving, last)
		}
		stop(context.Cause(ctx))
		return nil
	})
	group.Go(func() error { return ignoreCanceled(s.service.Run(serving)) })
	s.serve(serving, group)
	group.Go(func() error {
		// A part below that fails ends everything.
		done := make(chan error, 1)
		go func() { done <- lower.Wait() }()
		select {
		case <-serving.Done():
			return nil
		case err := <-done:
			return cmp.Or(err, errors.New("a part of the hub stopped by itself"))
		}
	})
	ready()
	err := group.Wait()
	s.hub.Close()
	err = errors.Join(err, s.proxy.Close())
	stopBelow()
	err = errors.Join(err, lower.Wait())
	if s.fleeting {
		err = errors.Join(err, s.removeNetwork(context.WithoutCancel(ctx)))
	}
	return errors.Join(err, s.close())
}

func (s *server) removeNetwork(ctx context.Context) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if left, err := s.spawner.List(ctx); err != nil || len(left) > 0 {
		return err
	}
	return s.network.Remove(ctx)
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve answers on both listeners until ctx ends.
func (s *server) serve(ctx context.Context, group *errgroup.Group) {
	const grace = 5 * time.Second
	public := s.httpServer(s.leaving.tell(s.route(s.hub.Handler())))
	trusted := s.httpServer(s.route(s.operator(s.hub.TrustedHandler())))
	listeners := map[*http.Server]net.Listener{public: s.public, trusted: s.socket}
	if s.plain != nil {
		listeners[s.httpServer(http.HandlerFunc(s.toHTTPS))] = s.plain
	}
	for srv, l := range listeners {
		group.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if err := srv.Shutdown(stop); err != nil {
				return srv.Close() // streams and WebSockets do not end by themselves
			}
			return nil
		})
	}
}

func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// route gives the proxy what is for sessions before a mux cleans its path.
func (s *server) route(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.proxy.Handles(r) {
			s.proxy.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// close undoes the opening, last first. It may be called twice.
func (s *server) close() error {
	var errs []error
	for _, f := range slices.Backward(s.closes) {
		errs = append(errs, f())
	}
	s.closes = nil
	return errors.Join(errs...)
}

func (s *server) onClose(f func() error) { s.closes = append(s.closes, f) }

// openData makes the data directory and makes sure that nobody else has it,
// before anything of the machine is changed. The engine takes the lock for good.
func (s *server) openData(context.Context) error {
	if s.cfg.Kubernetes.Enabled {
		return takeData(s.cfg)
	}
	return errors.Join(asRoot(), takeData(s.cfg))
}

// asRoot refuses to begin what only root can end.
func asRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &binnacle.Error{
		Code: binnacle.CodeForbidden, Op: "serve.root", Message: "Sessions need root: network namespaces, mounts and control groups.",
		Hint: "sudo binnacle …",
	}
}

func takeData(cfg config.Config) error {
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil { //nolint:gosec // the mapped root of a session passes through
		return fmt.Errorf("make the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(cfg.Data, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock of the data directory: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "serve.lock", Message: "Another Binnacle runs on " + cfg.Data + ".",
			Hint: "Stop it, or choose another directory with --data.", Err: err,
		}
	}
	return nil
}

func (s *server) openListeners(ctx context.Context) error {
	var lc net.ListenConfig
	var err error
	if s.public, err = s.listen(ctx, s.cfg.Listen, "--listen"); err != nil {
		return err
	}
	scheme := "http"
	if https(s.cfg) {
		scheme = "https"
	}
	s.url = strings.TrimSuffix(cmp.Or(s.cfg.URL, s.ownURL(scheme)), "/")

	path := socketPath(s.cfg)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier hub: %w", err)
	}
	old := unix.Umask(0o177) // never open to others, not even for a moment
	s.socket, err = lc.Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("listen on the hub's socket: %w", err)
	}
	s.onClose(func() error { return ignoreClosed(s.socket.Close()) })
	return nil
}

// listen opens an address, until the hub ends.
func (s *server) listen(ctx context.Context, address, setting string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "serve.listen", Message: fmt.Sprintf("The hub can't listen on %s: %v.", address, errors.Unwrap(err)),
			Hint: "Choose another address with " + setting + ", such as 127.0.0.1:0 for a free port.", Err: err,
		}
	}
	s.onClose(func() error { return ignoreClosed(l.Close()) })
	return l, nil
}

// ownURL is how a browser on this machine reaches the listener.
func (s *server) ownURL(scheme string) string {
	addr, err := netip.ParseAddrPort(s.public.Addr().String())
	if err != nil {
		return scheme + "://" + s.public.Addr().String()
	}
	if s.cfg.TLS.ACME.Domain != "" {
		if addr.Port() == 443 {
			return scheme + "://" + s.cfg.TLS.ACME.Domain
		}
		return fmt.Sprintf("%s://%s:%d", scheme, s.cfg.TLS.ACME.Domain, addr.Port())
	}
	if addr.Addr().IsUnspecified() {
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	}
	return scheme + "://" + addr.String()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func socketPath(cfg config.Config) string { return filepath.Join(cfg.Data, "hub.sock") }

func (s *server) openEngine(ctx context.Context) (err error) {
	if s.network, err = network.New(ctx, s.cfg.Network, s.log); err != nil {
		return err
	}
	s.onClose(s.network.Close)
	if s.engine, err = engine.Start(ctx, engineConfig(s.cfg, s.network), s.log); err != nil {
		return err
	}
	s.onClose(s.engine.Close)
	s.below = append(s.below, s.network.Run)
	s.builder = image.NewBuilder(s.engine.BuildKit(), s.engine.Containerd().ImageService(), s.engine, s.version, s.log)
	return nil
}

func (s *server) openStore(ctx context.Context) (err error) {
	if url := s.cfg.Kubernetes.Database; s.cfg.Kubernetes.Enabled && url != "" {
		s.store, err = store.OpenPostgres(ctx, string(url))
	} else {
		s.store, err = store.Open(ctx, filepath.Join(s.cfg.Data, "binnacle.db"))
	}
	if err != nil {
		return err
	}
	s.onClose(s.store.Close)
	return nil
}

func (s *server) openSource(context.Context) (err error) {
	s.source, err = source.New(s.cfg.Source, s.log)
	return err
}

func (s *server) openSessions(ctx context.Context) error {
	cfg := containerd.Config{
		Dir: filepath.Join(s.cfg.Data, "sessions"), Runc: s.engine.Runtime().Runc, Shim: s.engine.Runtime().Shim,
		Namespace: engine.Namespace, Snapshotter: engine.Snapshotter,
		Grace: s.cfg.Session.Grace, LogSize: s.cfg.Session.LogSize, CABundle: s.cfg.Session.CABundle,
	}
	spawner, err := containerd.New(cfg, s.engine.Containerd(), s.network.Sessions(), s.log)
	if err != nil {
		return err
	}
	s.onClose(spawner.Close)
	s.spawner, s.below = spawner, append(s.below, spawner.Run)
	if err := spawner.Reconcile(ctx); err != nil {
		return fmt.Errorf("find the sessions of an earlier hub: %w", err)
	}
	return nil
}

func (s *server) openHub(ctx context.Context) (err error) {
	s.proxy = proxy.New(s.cfg.Proxy, s.spawner, s.log)
	deps := launch.Deps{
		Source: s.source, Recipe: func(tree fs.FS, date time.Time, asked string) (recipe.Recipe, error) {
			return recipe.Read(tree, recipeOptions(s.cfg, date, asked))
		}, Builder: s.builder,
		ImageName: func(rev binnacle.Revision, r recipe.Recipe) string { return s.builder.Name(rev, r.Asked) },
		Spawner:   s.spawner, Activity: s.proxy, Store: s.store, Disk: disk{s},
		SessionURL: s.sessionURL, Log: s.log,
	}
	if s.replica != "" {
		deps.Replica, deps.Shared, deps.Leader = s.replica, s.store, s.leader
	}
	if s.images != nil {
		deps.Images = s.images
	}
	if s.service, err = launch.New(s.cfg.Launch, deps); err != nil {
		return err
	}
	cfg := s.cfg.Hub
	cfg.Version, cfg.MetricsToken = s.version, string(s.cfg.MetricsToken)
	const secretSize = 32
	if cfg.Secret, err = s.store.Secret(ctx, "hub", secretSize); err != nil {
		return err
	}
	s.hub, err = hub.New(ctx, cfg, hub.Deps{
		Service: service{s.service}, Proxy: s.proxy, Parse: parseTarget, Checks: s.checks(), Janitor: janitor{s}, Log: s.log,
		Quota: s.quota, Rate: s.service.Rate, Metrics: s.metrics(),
	})
	if err != nil {
		return err
	}
	s.proxy.SetReasons(s.service)
	return nil
}

// metrics are those of other parts than the hub.
func (s *server) metrics() []hub.Metric {
	if s.images == nil {
		return nil
	}
	return append(s.meters,
		hub.Metric{Name: "binnacle_images_removed_total", Help: "Old images removed from the registry.", Value: func() float64 {
			n, _ := s.service.Removals()
			return float64(n)
		}},
		hub.Metric{Name: "binnacle_images_not_removed_total", Help: "Old images that could not be removed from the registry.", Value: func() float64 {
			_, n := s.service.Removals()
			return float64(n)
		}},
	)
}

// quota is what federations ask before they send somebody here.
func (s *server) quota(ctx context.Context) (hub.Quota, error) {
	builds, sessions, limit, err := s.service.Load(ctx)
	if err == nil && limit == 0 {
		limit = builds + sessions + 1 // there is room as long as there is memory
	}
	return hub.Quota{Builds: builds, Sessions: sessions, Limit: limit}, err
}

func parseTarget(input string) (hub.Target, error) {
	t, err := source.Parse(input)
	return hub.Target(t), err
}

// sessionURL is where a browser finds a session.
func (s *server) sessionURL(id string) string {
	path := "/user/" + id + "/"
	if s.cfg.SessionDomain == "" {
		return s.url + path
	}
	scheme, _, _ := strings.Cut(s.url, "://")
	return scheme + "://" + id + "." + s.cfg.SessionDomain + path
}
