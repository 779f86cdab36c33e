// Package leader agrees with the other replicas of a hub on one that leads, by a
// Lease of Kubernetes.
package leader

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Config says which Lease, and who wants it.
type Config struct {
	// Namespace and Name are the Lease's. It is made when it is not there.
	Namespace, Name string
	// Replica is this process's name among the replicas.
	Replica string
	// Duration is how long a Lease is believed that is not renewed: that long at
	// most nobody leads after a leader died. 0 is DefaultDuration.
	Duration time.Duration
}

// DefaultDuration is Kubernetes' own for its controllers.
const DefaultDuration = 15 * time.Second

// Leader is one replica's part in the election. Its zero value never leads; make
// one with [New].
type Leader struct {
	cfg     Config
	client  kubernetes.Interface
	log     *slog.Logger
	current atomic.Pointer[leaderelection.LeaderElector] // nil while not in the election
}

// New returns a Leader that does nothing before Run.
func New(cfg Config, client kubernetes.Interface, log *slog.Logger) *Leader {
	if cfg.Duration == 0 {
		cfg.Duration = DefaultDuration
	}
	return &Leader{cfg: cfg, client: client, log: log}
}

// Leads says whether this replica leads now. One that cannot renew its Lease
// stops leading before another one begins to.
func (l *Leader) Leads() bool {
	e := l.current.Load()
	return e != nil && e.IsLeader()
}

// Run takes part until ctx ends; a Lease it has is given back then, so that
// another replica leads at once.
func (l *Leader) Run(ctx context.Context) error {
	// The library writes to the logger of its context; each try is nothing to tell.
	ctx = klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: l.cfg.Namespace, Name: l.cfg.Name},
				Client:     l.client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: l.cfg.Replica},
			},
			LeaseDuration: l.cfg.Duration, RenewDeadline: l.cfg.Duration * 2 / 3, RetryPeriod: l.cfg.Duration * 2 / 15, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) { l.log.InfoContext(ctx, "this replica leads", "replica", l.cfg.Replica) },
				OnStoppedLeading: func() {},
				OnNewLeader: func(name string) {
					if name != l.cfg.Replica {
						l.log.InfoContext(ctx, "another replica leads", "replica", name)
					}
				},
			},
			Name: l.cfg.Name,
		})
		if err != nil {
			return err
		}
		l.current.Store(e)
		e.Run(ctx) // until ctx ends or the Lease cannot be renewed
		l.current.Store(nil)
		if ctx.Err() == nil {
			l.log.WarnContext(ctx, "this replica leads no more: its lease could not be renewed", "replica", l.cfg.Replica)
		}
	}
	return nil
}
