// Package containerd runs sessions as containers of a containerd on this
// machine. Containers are kept by their shims, so sessions outlive this process;
// all that must be known about one is in its container's labels, its directory
// and its network namespace, so that a new Spawner finds it again.
package containerd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// Defaults of Config.
const (
	DefaultNamespace   = "binnacle"
	DefaultSnapshotter = "overlayfs"
	DefaultGrace       = 10 * time.Second
	DefaultLogSize     = 8 << 20
)

// Config of the spawner.
type Config struct {
	// Namespace of containerd; empty is DefaultNamespace.
	Namespace string
	// Dir holds a directory for each session: its socket, its log. Its path has
	// at most 40 characters, because unix sockets live below it.
	Dir string
	// Runc is the path of runc; empty takes the one on PATH.
	Runc string
	// Shim is the path of containerd-shim-runc-v2; empty takes the one on PATH.
	Shim string
	// Snapshotter holds the images; empty is DefaultSnapshotter.
	Snapshotter string
	// Grace is how long a session may take to end by itself; 0 is DefaultGrace.
	Grace time.Duration
	// CABundle is a file with the certificate authorities that sessions trust;
	// empty leaves the image's.
	CABundle string
	// LogSize in bytes is what is kept of a session's output; 0 is DefaultLogSize.
	LogSize int64
}

// Validate reports every problem.
func (c Config) Validate() error {
	const longest = 40
	var errs []error
	if !filepath.IsAbs(c.Dir) || len(c.Dir) > longest {
		errs = append(errs, fmt.Errorf("dir: must be an absolute path of at most %d characters, not %q", longest, c.Dir))
	}
	if c.Grace < 0 || c.LogSize < 0 {
		errs = append(errs, errors.New("grace, log_size: must not be negative"))
	}
	return errors.Join(errs...)
}

// Network makes the network namespaces of sessions.
type Network interface {
	Attach(ctx context.Context, id string) (path string, addr netip.Addr, err error)
	Detach(ctx context.Context, id string) error
	Sweep(ctx context.Context, keep func(id string) bool) error
	ResolvConf() string
}

// Spawner implements session.Spawner. Run must be running for limits on disk and
// log to hold.
type Spawner struct {
	cfg    Config
	client *client.Client
	net    Network
	log    *slog.Logger
	dirs   *watcher
	claims session.Claims
}

var _ session.Spawner = (*Spawner)(nil)

// New makes a spawner; call Reconcile before anything else and Close at the end.
// Returns invalid for a wrong cfg.
func New(cfg Config, c *client.Client, network Network, log *slog.Logger) (*Spawner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "session.new", Message: "The configuration of sessions is wrong.", Err: err}
	}
	cfg.Namespace = cmp.Or(cfg.Namespace, DefaultNamespace)
	cfg.Snapshotter = cmp.Or(cfg.Snapshotter, DefaultSnapshotter)
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	cfg.LogSize = cmp.Or(cfg.LogSize, DefaultLogSize)
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil { //nolint:gosec // a mapped root must be able to pass
		return nil, fmt.Errorf("make the directory of sessions: %w", err)
	}
	dirs, err := newWatcher()
	if err != nil {
		return nil, err
	}
	return &Spawner{cfg: cfg, client: c, net: network, log: log, dirs: dirs}, nil
}

// Close lets go of this process's own means. Sessions go on.
func (s *Spawner) Close() error {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, _ := filepath.Glob(pattern + s.cgroup()) // the pattern is well formed
		for _, group := range groups {
			_ = os.Remove(group) // stays while it has sessions
			_ = os.Remove(filepath.Dir(group))
		}
	}
	return s.dirs.close()
}

// The labels of a container. Those of the hub follow labelOwn.
const (
	labelSession = "dev.binnacle.session" // its id: the container is ours
	labelBaseURL = "dev.binnacle.base-url"
	labelToken   = "dev.binnacle.token" //nolint:gosec // the name of the label, not a token
	labelLimits  = "dev.binnacle.limits"
	labelExit    = "dev.binnacle.exit"
	labelOwn     = "dev.binnacle.l/"
)

func labels(spec session.Spec) (map[string]string, error) {
	limits, err := json.Marshal(spec.Limits)
	if err != nil {
		return nil, fmt.Errorf("write the limits: %w", err)
	}
	l := map[string]string{labelSession: spec.ID, labelBaseURL: spec.BaseURL, labelToken: spec.Token, labelLimits: string(limits)}
	for k, v := range spec.Labels {
		l[labelOwn+k] = v
	}
	const most = 4096 // containerd's limit
	for k, v := range l {
		if len(k)+len(v) > most {
			return nil, binnacle.Errorf(binnacle.CodeInvalid, "The label %q of a session is longer than %d characters.", k, most)
		}
	}
	return l, nil
}

func (s *Spawner) dir(id string) string     { return filepath.Join(s.cfg.Dir, id) }
func (s *Spawner) runDir(id string) string  { return filepath.Join(s.cfg.Dir, id, "run") }
func (s *Spawner) logFile(id string) string { return filepath.Join(s.cfg.Dir, id, "log") }

// marker is the file that tells a session that started from one whose start was
// cut off.
func (s *Spawner) marker(id string) string { return filepath.Join(s.cfg.Dir, id, "started") }

func (s *Spawner) with(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.cfg.Namespace)
}

// Get implements session.Spawner.
func (s *Spawner) Get(ctx context.Context, id string) (session.Status, error) {
	ctx = s.with(ctx)
	if !session.ValidID(id) {
		return session.Status{}, session.NotThere(id)
	}
	c, err := s.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && c.Labels[labelSession] != id {
		return session.Status{}, session.NotThere(id)
	}
	if err != nil {
		return session.Status{}, away("look for the session", err)
	}
	res, err := s.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return session.Status{}, away("look for the session's process", err)
	}
	return s.status(c, res.GetProcess()), nil
}

// List implements session.Spawner.
func (s *Spawner) List(ctx context.Context) ([]session.Status, error) {
	ctx = s.with(ctx)
	all, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	res, err := s.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, away("list the sessions' processes", errgrpc.ToNative(err))
	}
	procs := map[string]*tasktypes.Process{}
	for _, p := range res.Tasks {
		procs[p.ID] = p
	}
	list := make([]session.Status, 0, len(all))
	for _, c := range all {
		list = append(list, s.status(c, procs[c.ID]))
	}
	slices.SortFunc(list, func(a, b session.Status) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (s *Spawner) containers(ctx context.Context) ([]containers.Container, error) {
	all, err := s.client.ContainerService().List(ctx, `labels."`+labelSession+`"`)
	if err != nil {
		return nil, away("list the sessions", err)
	}
	return all, nil
}

func (s *Spawner) status(c containers.Container, p *tasktypes.Process) session.Status {
	st := session.Status{
		ID: c.ID, Image: c.Image, BaseURL: c.Labels[labelBaseURL], Token: c.Labels[labelToken],
		Labels: map[string]string{}, Started: c.CreatedAt,
	}
	for k, v := range c.Labels {
		if own, ok := strings.CutPrefix(k, labelOwn); ok {
			st.Labels[own] = v
		}
	}
	switch {
	case p != nil && (p.Status == tasktypes.Status_RUNNING || p.Status == tasktypes.Status_PAUSED || p.Status == tasktypes.Status_PAUSING):
		st.State = session.Running
	case p != nil && p.Status == tasktypes.Status_STOPPED:
		st.State, st.Exit = session.Exited, cmp.Or(c.Labels[labelExit], s.exitReason(c, p.ExitStatus))
	case p == nil && s.started(c.ID):
		st.State, st.Exit = session.Exited, cmp.Or(c.Labels[labelExit], "The machine it ran on was restarted.")
	default:
		st.State = session.Starting
	}
	return st
}

func (s *Spawner) started(id string) bool {
	_, err := os.Lstat(s.marker(id))
	return err == nil
}

// away is an error of containerd; one of the context stays what it is.
func away(doing string, err error) error {
	if c := binnacle.CodeOf(err); c == binnacle.CodeCanceled || c == binnacle.CodeTimeout {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "session.containerd",
		Message: "The container engine did not do what was asked.", Hint: "Try again in a few minutes.", Err: fmt.Errorf("%s: %w", doing, err),
	}
}
