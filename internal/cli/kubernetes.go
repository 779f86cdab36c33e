package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/builders"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
	"github.com/binnacle-hub/binnacle/internal/leader"
	pods "github.com/binnacle-hub/binnacle/internal/session/kubernetes"
)

// namespaceFile says in which namespace a pod is.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// openCluster makes this process a replica of a hub on a cluster: sessions are
// pods, images are made by builders and kept in a registry.
func (s *server) openCluster(context.Context) error {
	cfg := s.cfg.Kubernetes
	client, err := clusterClient(cfg)
	if err != nil {
		return err
	}
	if cfg.Registry.ImagePrefix == "" {
		return needed("kubernetes.registry.image_prefix", "the registry that builders push images to and machines fetch them from")
	}
	if !cfg.Builders.Enabled() {
		return needed("kubernetes.builders.service", "who builds images")
	}
	transport, err := s.registryTransport()
	if err != nil {
		return err
	}
	images := registry.New(cfg.Registry, transport)
	s.images = images
	var plain []string
	if cfg.Registry.Insecure {
		plain = []string{images.Host()}
	}
	spawner, err := pods.New(cfg.Session, client, pods.NewRegistry(plain, images.Options(nil)...), s.log)
	if err != nil {
		return err
	}
	cfg.Builders.Namespace = cmp.Or(cfg.Builders.Namespace, cfg.Namespace, podNamespace())
	pool := builders.New(cfg.Builders, s.log)
	s.spawner = spawner
	s.below = append(s.below, spawner.Run)
	if cfg.Builders.Service != "" {
		s.below = append(s.below, func(ctx context.Context) error { return pool.Run(ctx, client) })
	}
	if cfg.Database != "" {
		if err := s.openReplica(client); err != nil {
			return err
		}
	}
	base := engineBase(s.cfg)
	s.builder = image.NewShared(pool, image.Shared{
		Registry: images, Base: base.Image, Bootstrapped: engine.BaseImage, BaseKey: base.Key(),
	}, s.version, s.log)
	s.meters = meters(spawner, pool)
	s.more = []hub.Check{
		{Service: "kubernetes", Run: func(ctx context.Context) error {
			_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
			return err
		}},
		{Service: "builders", Run: func(context.Context) error {
			if len(pool.Builders()) == 0 {
				return errors.New("no builder is ready")
			}
			return nil
		}},
		{Service: "registry", Run: func(ctx context.Context) error {
			_, _, err := images.Image(ctx, images.Name("base:health"), func(string) {})
			return err
		}},
	}
	return nil
}

// meters tell whether there is room for sessions and who builds for them.
func meters(spawner *pods.Spawner, pool *builders.Pool) []hub.Metric {
	room := func(of func(pods.Room) float64) func() float64 {
		return func() float64 { return of(spawner.Room()) }
	}
	return []hub.Metric{
		{Name: "binnacle_machines", Help: "Machines of the cluster that run sessions.", Gauge: true, Value: room(func(r pods.Room) float64 { return float64(r.Machines) })},
		{Name: "binnacle_sessions_waiting", Help: "Sessions that have no machine yet.", Gauge: true, Value: room(func(r pods.Room) float64 { return float64(r.Waiting) })},
		{Name: "binnacle_starts_total", Help: "Sessions that this replica started.", Value: room(func(r pods.Room) float64 { return float64(r.Starts) })},
		{Name: "binnacle_machine_wait_seconds_total", Help: "How long these waited for a machine with room.", Value: room(func(r pods.Room) float64 { return r.ForMachine.Seconds() })},
		{Name: "binnacle_image_wait_seconds_total", Help: "How long these waited on their machine for image and process.", Value: room(func(r pods.Room) float64 { return r.ForImage.Seconds() })},
		{Name: "binnacle_builders", Help: "Builders that take builds.", Gauge: true, Value: func() float64 { return float64(len(pool.Builders())) }},
	}
}

// openReplica makes this process one of several: they share a database, and a
// Lease named like the release says who leads.
func (s *server) openReplica(client kubernetes.Interface) (err error) {
	cfg := s.cfg.Kubernetes
	if s.replica, err = os.Hostname(); err != nil { // the pod's name
		return fmt.Errorf("name of this replica: %w", err)
	}
	lead := leader.New(leader.Config{
		Namespace: cmp.Or(cfg.Namespace, podNamespace()), Name: cmp.Or(cfg.Session.Instance, "binnacle"), Replica: s.replica,
	}, client, s.log)
	s.leader, s.below = lead, append(s.below, lead.Run)
	return nil
}

func needed(setting, what string) error {
	return &binnacle.Error{
		Code: binnacle.CodeInvalid, Op: "serve.kubernetes", Message: "A hub on Kubernetes needs " + setting + ": " + what + ".",
		Hint: "Set it in the configuration; the chart does so.",
	}
}

// clusterClient reaches the API of the cluster.
func clusterClient(cfg config.Kubernetes) (*kubernetes.Clientset, error) {
	var c *rest.Config
	var err error
	if cfg.Kubeconfig != "" {
		c, err = clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	} else {
		c, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "serve.kubernetes", Message: "This process does not know how to reach the cluster's API.",
			Hint: "Run it in a pod with a service account, as the chart does, or set kubernetes.kubeconfig.", Err: err,
		}
	}
	c.QPS, c.Burst = 50, 100 // a launch is half a dozen requests
	c.UserAgent = "binnacle"
	return kubernetes.NewForConfig(c)
}

func podNamespace() string {
	b, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// registryTransport is how the hub asks the registry, with the authorities that
// it is told to trust.
func (s *server) registryTransport() (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forbidigo // cloned for its defaults only
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	if roots != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// roots are the authorities that ca_bundle names; nil are the machine's.
func (s *server) roots() (*x509.CertPool, error) {
	if s.cfg.CABundle == "" || s.cfg.CABundle == "none" {
		return nil, nil //nolint:nilnil // nil is what crypto/tls takes for the machine's
	}
	pem, err := os.ReadFile(s.cfg.CABundle)
	if err != nil {
		return nil, fmt.Errorf("read ca_bundle: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "ca_bundle: %s has no certificate in it.", s.cfg.CABundle)
	}
	return roots, nil
}
