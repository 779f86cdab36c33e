// Package cluster runs a Kubernetes of several nodes on one machine: the
// control plane as processes beside each other, and each node as a process
// with its own network, mounts and process ids, in which containerd, a kubelet
// and kube-proxy run. When a node's first process ends, the kernel ends and
// removes all that the node has made.
//
//	this machine: etcd, kube-apiserver, controllers, scheduler,
//	              registry, DNS forwarder, load balancer
//	    │ bridge 10.N.0.1
//	    ├── node1 10.N.0.11: containerd, kubelet, kube-proxy ── pods 10.N.129.0/24
//	    └── node2 10.N.0.12: the same                        ── pods 10.N.130.0/24
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Config is what a cluster is to be.
type Config struct {
	Dir   string // for its files; made, and removed in the end
	Bin   string // where the programs are
	Nodes int
	Log   *slog.Logger
}

// cluster is one that starts, runs or stops.
type cluster struct {
	layout
	cfg       Config
	log       *slog.Logger
	begun     time.Time
	processes *processes
	client    kubernetes.Interface
	spoilt    atomic.Value // what is wrong with the registry, a string
}

// Doer does what a user of the cluster asks for: Start or Registry.
type Doer func(word, what string) error

// Run runs a cluster until ctx is done, and then leaves nothing of it. It calls
// ready once pods can be made.
func Run(ctx context.Context, cfg Config, ready func(Info, Doer)) (err error) {
	c := &cluster{cfg: cfg, log: cfg.Log, begun: time.Now(), layout: layout{dir: cfg.Dir, bin: cfg.Bin}}
	for _, d := range []string{"etc", "logs", "registry", "bin"} {
		if err := os.MkdirAll(c.path(d), 0o755); err != nil {
			return fmt.Errorf("make the cluster's directory: %w", err)
		}
	}
	if err := c.claim(); err != nil {
		return err
	}
	// The thread of the processes outlives ctx: they are stopped in order.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	c.processes = newProcesses(life, c.path("logs"))
	defer func() {
		if err != nil && !errors.Is(err, context.Canceled) { // the logs stay for whoever looks into it
			_ = os.RemoveAll(c.dir + "-failed")
			_ = os.Rename(c.path("logs"), c.dir+"-failed")
		}
		err = errors.Join(err, c.clean(life))
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := c.start(ctx, group); err != nil {
			return err
		}
		ready(c.info(), func(word, what string) error {
			if word == Registry {
				return c.spoil(what)
			}
			return c.restartNode(ctx, what)
		})
		return nil
	})
	group.Go(func() error { return c.watch(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start brings everything up, as much as possible at the same time.
func (c *cluster) start(ctx context.Context, group *errgroup.Group) error {
	const patience = 3 * time.Minute // on a machine that compiles beside it
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, patience)
	defer cancel()
	if err := errors.Join(saveSysctls(), c.certificates(), c.writeIdentities(), c.masquerade(), c.writeResolv()); err != nil {
		return err
	}
	etcd, err := c.startEtcd(whole)
	if err != nil {
		return err
	}
	if err := c.startAPI(whole, etcd); err != nil {
		return err
	}
	if err := c.serveNodes(whole, group); err != nil {
		return err
	}
	if err := c.pushBox(ctx); err != nil {
		return err
	}
	for i := 1; i <= c.cfg.Nodes; i++ {
		if err := c.startNode(whole, i); err != nil {
			return err
		}
	}
	if err := c.dial(ctx); err != nil {
		return err
	}
	if err := c.startControllers(whole); err != nil {
		return err
	}
	if err := c.install(ctx); err != nil {
		return err
	}
	group.Go(func() error { return (&balancer{cluster: c}).run(whole) })
	group.Go(func() error { return (&storage{cluster: c}).run(whole) })
	return c.settle(ctx)
}

// serveNodes starts what nodes and pods reach at the host's address, until the
// group's context is done.
func (c *cluster) serveNodes(ctx context.Context, group *errgroup.Group) error {
	var lc net.ListenConfig
	registry, err := lc.Listen(ctx, "tcp", c.registry())
	if err != nil {
		return fmt.Errorf("listen for the registry: %w", err)
	}
	group.Go(func() error { return c.serveRegistry(ctx, registry) })
	at := net.JoinHostPort(c.host().String(), "53")
	udp, err := lc.ListenPacket(ctx, "udp", at)
	if err != nil {
		return fmt.Errorf("listen for DNS: %w", err)
	}
	tcp, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for DNS: %w", err), udp.Close())
	}
	group.Go(func() error { return c.serveDNS(ctx, udp, tcp) })
	return nil
}

// settle waits until a pod would run on every node and find its services.
func (c *cluster) settle(ctx context.Context) error {
	for i := 1; i <= c.cfg.Nodes; i++ {
		err := c.until(ctx, nodeName(i)+"-kubelet", nodeName(i), func(ctx context.Context) error {
			node, err := c.client.CoreV1().Nodes().Get(ctx, nodeName(i), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(node.Status.Conditions, func(cond corev1.NodeCondition) bool {
				return cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue
			}) {
				return errors.New("kubelet does not say that it is ready")
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = c.until(ctx, nodeName(i)+"-network", "network policies of "+nodeName(i), func(context.Context) error {
			_, err := os.Stat(c.path(nodeName(i), "run", networkReady))
			return err
		})
		if err != nil {
			return err
		}
	}
	err := c.until(ctx, "kube-controller-manager", "the service account of pods", func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return c.until(ctx, "node1-kubelet", "DNS", func(ctx context.Context) error {
		d, err := c.client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas < 1 {
			err = errors.New("no pod of it is ready")
		}
		return err
	})
}

// watch starts programs of the control plane again when they end, as a node's
// kubelet would. A node that ends stays so until somebody starts it.
func (c *cluster) watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-c.processes.ended:
			c.log.WarnContext(ctx, "a program has ended", "program", p.name, "error", p.err)
			if p.cmd.Stdin != nil { // a node
				if err := c.reroute(); err != nil {
					return err
				}
				continue
			}
			const pause = time.Second
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			if err := c.processes.start(ctx, p.name, exec.Command(p.cmd.Path, p.cmd.Args[1:]...)); err != nil {
				return err
			}
		}
	}
}

// clean ends everything and removes it. Nodes need no farewell: the kernel ends
// all processes of a node with its first.
func (c *cluster) clean(ctx context.Context) error {
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, p := range c.processes.list() {
		_ = p.cmd.Process.Kill()
	}
	for _, p := range c.processes.list() {
		<-p.done
	}
	errs := []error{c.disconnect(), restoreSysctls()}
	for i := 1; i <= c.cfg.Nodes; i++ {
		errs = append(errs, removeCgroup(ctx, c.cgroup(i)))
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

func (c *cluster) writeResolv() error {
	return os.WriteFile(c.path("etc", "resolv.conf"), []byte("nameserver "+c.host().String()+"\n"), 0o644)
}

func randomToken() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func goarch() string { return runtime.GOARCH }
