package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// identity is somebody whom the API server knows by a token.
type identity struct {
	user, group, token string
}

// identities makes the tokens. Those of the cluster's own parts have the rights
// that Kubernetes gives to these names, and no more.
func (c *cluster) identities() []identity {
	list := []identity{
		{user: "admin", group: "system:masters"},
		{user: "binnacle:network", group: "system:masters"},
		{user: "system:kube-controller-manager"},
		{user: "system:kube-scheduler"},
		{user: "system:kube-proxy"},
	}
	for i := 1; i <= c.cfg.Nodes; i++ {
		list = append(list, identity{user: "system:node:" + nodeName(i), group: "system:nodes"})
	}
	return list
}

// kubeconfig is the file for a user.
func (c *cluster) kubeconfig(user string) string {
	if user == "admin" {
		return c.path("kubeconfig")
	}
	return c.path("etc", strings.ReplaceAll(user, ":", "-")+".kubeconfig")
}

// writeIdentities writes the list of tokens and a kubeconfig for each user.
func (c *cluster) writeIdentities() error {
	ca, err := os.ReadFile(c.path("etc", "ca.crt"))
	if err != nil {
		return err
	}
	var csv strings.Builder
	for _, id := range c.identities() {
		id.token = randomToken()
		fmt.Fprintf(&csv, "%s,%s,%s,%q\n", id.token, id.user, id.user, id.group)
		cfg := api.Config{
			Clusters:       map[string]*api.Cluster{"binnacle": {Server: c.server(), CertificateAuthorityData: ca}},
			AuthInfos:      map[string]*api.AuthInfo{"user": {Token: id.token}},
			Contexts:       map[string]*api.Context{"binnacle": {Cluster: "binnacle", AuthInfo: "user"}},
			CurrentContext: "binnacle",
		}
		if err := clientcmd.WriteToFile(cfg, c.kubeconfig(id.user)); err != nil {
			return fmt.Errorf("write the kubeconfig of %s: %w", id.user, err)
		}
	}
	return os.WriteFile(c.path("etc", "tokens.csv"), []byte(csv.String()), 0o600)
}

// certificates are made anew for each cluster.
func (c *cluster) certificates() error {
	ca, err := newAuthority(c.path("etc"))
	if err != nil {
		return err
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	if err := ca.serving("apiserver", names, []net.IP{c.host().AsSlice(), c.apiService().AsSlice(), net.IPv4(127, 0, 0, 1)}); err != nil {
		return err
	}
	for i := 1; i <= c.cfg.Nodes; i++ {
		if err := ca.serving(nodeName(i), []string{nodeName(i)}, []net.IP{c.node(i).AsSlice()}); err != nil {
			return err
		}
	}
	if err := ca.client("front-proxy", frontProxy, frontProxy); err != nil {
		return err
	}
	return ca.client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
}

// frontProxy is the API server where it asks another one, such as the metrics
// server, in somebody's name.
const frontProxy = "front-proxy-client"

func (c *cluster) kubernetes(args ...string) *exec.Cmd {
	return exec.Command(c.program("kubernetes"), args...)
}

// startEtcd starts etcd on loopback. Its data is worth nothing after the
// cluster, so it does not wait for the disk.
func (c *cluster) startEtcd(ctx context.Context) (url string, err error) {
	client, err := freePort()
	if err != nil {
		return "", err
	}
	peer, err := freePort()
	if err != nil {
		return "", err
	}
	url, peerURL := "http://127.0.0.1:"+client, "http://127.0.0.1:"+peer
	err = c.processes.start(ctx, "etcd", c.kubernetes("etcd", "--name=etcd", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peerURL,
		"--initial-advertise-peer-urls="+peerURL, "--initial-cluster=etcd="+peerURL, "--log-level=warn"))
	return url, err
}

// startAPI starts the API server. Pods leave a node that is gone after half a
// minute instead of five, since tests wait for it.
func (c *cluster) startAPI(ctx context.Context, etcd string) error {
	etc := func(name string) string { return c.path("etc", name) }
	cmd := c.kubernetes("kube-apiserver",
		"--etcd-servers="+etcd, "--advertise-address="+c.host().String(), "--bind-address="+c.host().String(), "--secure-port=6443",
		"--tls-cert-file="+etc("apiserver.crt"), "--tls-private-key-file="+etc("apiserver.key"),
		"--client-ca-file="+etc("ca.crt"), "--token-auth-file="+etc("tokens.csv"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--service-cluster-ip-range="+c.services().String(),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+etc("sa.crt"), "--service-account-signing-key-file="+etc("sa.key"),
		"--kubelet-client-certificate="+etc("apiserver-kubelet.crt"), "--kubelet-client-key="+etc("apiserver-kubelet.key"),
		"--requestheader-client-ca-file="+etc("ca.crt"), "--requestheader-allowed-names="+frontProxy, "--enable-aggregator-routing=true",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+etc("front-proxy.crt"), "--proxy-client-key-file="+etc("front-proxy.key"),
		"--kubelet-certificate-authority="+etc("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--default-not-ready-toleration-seconds=30", "--default-unreachable-toleration-seconds=30")
	return c.processes.start(ctx, "kube-apiserver", cmd)
}

func (c *cluster) startControllers(ctx context.Context) error {
	etc := func(name string) string { return c.path("etc", name) }
	err := c.processes.start(ctx, "kube-controller-manager", c.kubernetes("kube-controller-manager",
		"--kubeconfig="+c.kubeconfig("system:kube-controller-manager"), "--leader-elect=false", "--secure-port=0",
		"--use-service-account-credentials=true", "--service-account-private-key-file="+etc("sa.key"), "--root-ca-file="+etc("ca.crt"),
		"--cluster-signing-cert-file="+etc("ca.crt"), "--cluster-signing-key-file="+etc("ca.key"),
		"--node-monitor-period=2s", "--node-monitor-grace-period=20s"))
	if err != nil {
		return err
	}
	return c.processes.start(ctx, "kube-scheduler", c.kubernetes("kube-scheduler",
		"--kubeconfig="+c.kubeconfig("system:kube-scheduler"), "--leader-elect=false", "--secure-port=0"))
}

// dial makes the client for the administrator and waits for the API.
func (c *cluster) dial(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig("admin"))
	if err != nil {
		return fmt.Errorf("read our own kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst = 100, 200
	cfg.WarningHandler = rest.NoWarnings{}
	if c.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return c.until(ctx, "kube-apiserver", "the API server", func(ctx context.Context) error {
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// until polls. When the time is over, the error has the end of a program's log.
func (c *cluster) until(ctx context.Context, program, what string, ready func(context.Context) error) error {
	const pause = 100 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var last error
	for {
		if last = ready(ctx); last == nil {
			c.log.InfoContext(ctx, "ready", "part", what, "after", time.Since(c.begun).Round(pause))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; the end of its log:\n%s", what, last, c.processes.tail(program))
		case <-tick.C:
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return strconv.Itoa(port), l.Close()
}
