package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle/test/kube/policy"
)

// metadata is where clouds tell a machine its secrets. Every node has such a
// service, so that a test sees whether a pod can reach it.
const metadata = "169.254.169.254"

// networkReady is a file below a node's /run that says that policies are in force.
const networkReady = "network-ready"

// Network is a program of each node: it enforces network policies and is the
// metadata service.
func Network(ctx context.Context, kubeconfig, node string, log *slog.Logger) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	l, err := listenMetadata(ctx)
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.InfoContext(r.Context(), "metadata asked for", "by", r.RemoteAddr, "path", r.URL.Path)
		_, _ = fmt.Fprintln(w, "the metadata of", node)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	agent := &policy.Agent{Client: client, Results: "/var/lib/cni/results", Log: log, Ready: func() error {
		return os.WriteFile("/run/"+networkReady, nil, 0o600)
	}}
	err = agent.Run(ctx)
	return errors.Join(err, srv.Close(), ignoreClosed(<-served))
}

func listenMetadata(ctx context.Context) (net.Listener, error) {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.AddrReplace(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(metadata).To4(), Mask: net.CIDRMask(32, 32)}})
	}
	if err != nil {
		return nil, fmt.Errorf("take the metadata address: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(metadata, "80"))
	if err != nil {
		return nil, fmt.Errorf("listen for metadata: %w", err)
	}
	return l, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
