// Package kube gives tests a real Kubernetes: etcd, the API server,
// controllers, scheduler, two nodes with kubelet and containerd, kube-proxy,
// CoreDNS, a load balancer and a registry, compiled from their Go modules, on
// this machine alone.
//
//	func TestPods(t *testing.T) {
//		cluster := kube.Shared(t)
//		pods := cluster.Client.CoreV1().Pods(cluster.Namespace(t))
//
// One cluster serves all tests of a machine, and stays for half a minute after
// the last; `make kube` lets it stay until `make kube-down`.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

// DefaultDir is where the cluster is that tests and `make kube` share. Sockets
// below it have to have short paths.
const DefaultDir = "/var/tmp/binnacle-kube"

// Cluster is a Kubernetes that runs.
type Cluster struct {
	// Kubeconfig is the path of a file for kubectl, Helm and client-go.
	Kubeconfig string
	// Config reaches the API server as an administrator.
	Config *rest.Config
	// Client is made from Config.
	Client kubernetes.Interface
	// Registry is the host:port of an OCI registry without TLS and without
	// credentials, the same for this process, the nodes and pods.
	Registry string
	// Box is an image in that registry with nothing in it but the program /box,
	// which serves, dials, looks names up, eats memory and fills disks.
	Box string
	// Dir has the cluster's files: logs, and a directory for each node.
	Dir string

	conn net.Conn
}

// Options are what a cluster of one's own may differ in.
type Options struct {
	Dir    string        // DefaultDir if empty
	Nodes  int           // 2 if 0
	Keep   bool          // stay after Close, until Stop
	Linger time.Duration // how long to stay after the last Close; 0 is 30 seconds
}

// Start joins the cluster in a directory, or starts it. It stays until Close.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Linger == 0 {
		o.Linger = 30 * time.Second
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a Kubernetes for tests needs root, for namespaces, mounts and control groups")
	}
	const patience = 5 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var server *exec.Cmd
	var ended chan error
	for {
		c, err := join(ctx, o)
		if err == nil || !errors.Is(err, errNobody) {
			return c, err
		}
		if server == nil {
			if server, err = serve(o); err != nil {
				return nil, err
			}
			ended = make(chan error, 1)
			go func() { ended <- server.Wait() }()
		}
		const pause = 100 * time.Millisecond
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the cluster: %w", context.Cause(ctx))
		case err := <-ended:
			// Another process was first, or it is about to end: ask again.
			if err != nil && server.ProcessState.ExitCode() != cluster.ExitRuns {
				return nil, fmt.Errorf("the cluster did not start (%w):\n%s", err, tail(o.Dir+".log"))
			}
			server = nil
		case <-time.After(pause):
		}
	}
}

// errNobody says that nobody listens.
var errNobody = errors.New("no cluster runs")

func join(ctx context.Context, o Options) (*Cluster, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", cluster.Socket(o.Dir))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	word := cluster.Join
	if o.Keep {
		word = cluster.Keep
	}
	var info cluster.Info
	_, err = io.WriteString(conn, word+"\n")
	if err == nil {
		err = json.NewDecoder(conn).Decode(&info)
	}
	if err != nil { // it was about to stop
		return nil, errors.Join(fmt.Errorf("%w: %w", errNobody, err), conn.Close())
	}
	if info.Error != "" {
		return nil, errors.Join(fmt.Errorf("the cluster did not start: %s", info.Error), conn.Close())
	}
	c := &Cluster{Kubeconfig: info.Kubeconfig, Registry: info.Registry, Box: info.Box, Dir: info.Dir, conn: conn}
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return nil, errors.Join(fmt.Errorf("read the cluster's kubeconfig: %w", err), conn.Close())
	}
	c.Config.QPS, c.Config.Burst = 200, 400
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), conn.Close())
	}
	return c, nil
}

// serve starts the process that is the cluster. It outlives us: others may use
// the cluster when we have ended.
func serve(o Options) (*exec.Cmd, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(root, ".tools", "kube", "bin", "kube")
	log, err := os.OpenFile(o.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, "serve", "-dir", o.Dir, "-nodes", strconv.Itoa(o.Nodes), "-linger", o.Linger.String())
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a cluster (`make kube-programs` compiles it): %w", err)
	}
	return cmd, nil
}

// Close ends our use of the cluster; it may go on for others.
func (c *Cluster) Close() error { return c.conn.Close() }

// Stop ends the cluster in a directory for everybody, and waits until nothing
// is left of it. One that does not run is no error.
func Stop(ctx context.Context, dir string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", cluster.Socket(dir))
	if err != nil {
		return nil // nobody listens
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, cluster.Stop+"\n"); err != nil {
		return fmt.Errorf("tell the cluster to stop: %w", err)
	}
	const pause = 50 * time.Millisecond
	for {
		lock, err := cluster.Own(dir)
		if err == nil {
			return errors.Join(os.Remove(dir+".lock"), lock.Close())
		}
		if !errors.Is(err, cluster.ErrRuns) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the cluster to stop: %w", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// StartNode starts a node again that was killed.
func (c *Cluster) StartNode(ctx context.Context, node string) error {
	if err := c.ask(ctx, cluster.Start, node); err != nil {
		return fmt.Errorf("start %s: %w", node, err)
	}
	return nil
}

// ask lets the cluster's process do something and waits until it has.
func (c *Cluster) ask(ctx context.Context, word, what string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", cluster.Socket(c.Dir))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var answer cluster.Info
	if _, err := fmt.Fprintf(conn, "%s %s\n", word, what); err != nil {
		return err
	}
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// Root is the directory of this module.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/binnacle-hub/binnacle\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("this does not run inside the checkout, where the cluster's programs are")
		}
		dir = parent
	}
}

func tail(path string) string {
	const most = 3000
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}
