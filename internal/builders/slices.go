package builders

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// portName is the builders' port among others of the Service.
const portName = "buildkit"

// Run follows the endpoints of the Service until ctx ends. Without a Service it
// returns at once. The list of builders stays as it was while the API server is
// away.
func (p *Pool) Run(ctx context.Context, cluster kubernetes.Interface) error {
	if p.cfg.Service == "" {
		return nil
	}
	factory := informers.NewSharedInformerFactoryWithOptions(cluster, 0, informers.WithNamespace(p.cfg.Namespace), informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = discoveryv1.LabelServiceName + "=" + p.cfg.Service
	}))
	slices := factory.Discovery().V1().EndpointSlices()
	update := func() {
		all, err := slices.Lister().EndpointSlices(p.cfg.Namespace).List(labels.Everything())
		if err != nil {
			p.log.ErrorContext(ctx, "list endpoints of builders", slog.Any("error", err))
			return
		}
		p.set(ctx, builders(all))
	}
	_, err := slices.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { update() }, UpdateFunc: func(any, any) { update() }, DeleteFunc: func(any) { update() },
	})
	if err != nil {
		return fmt.Errorf("watch the endpoints of builders: %w", err)
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// builders are the ready endpoints, each once, also when it has addresses of both
// families. A pod that ends is not ready any more, though its builds go on.
func builders(all []*discoveryv1.EndpointSlice) []Builder {
	var out []Builder
	seen := map[string]bool{}
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		for _, s := range all {
			port := portOf(s.Ports)
			if s.AddressType != family || port == 0 {
				continue
			}
			for _, e := range s.Endpoints {
				if len(e.Addresses) == 0 || no(e.Conditions.Ready, true) || !no(e.Conditions.Terminating, false) {
					continue
				}
				b := Builder{Address: net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port)))}
				if b.Name = b.Address; e.TargetRef != nil {
					b.Name = e.TargetRef.Name
				}
				if !seen[b.Name] {
					seen[b.Name] = true
					out = append(out, b)
				}
			}
		}
	}
	return out
}

// no says that a condition is false; unknown is what it is when it is not there.
func no(condition *bool, unknown bool) bool {
	if condition == nil {
		return !unknown
	}
	return !*condition
}

// portOf is the port that has the builders' name, or the only one.
func portOf(ports []discoveryv1.EndpointPort) int32 {
	for _, p := range ports {
		if p.Port != nil && (len(ports) == 1 || p.Name != nil && *p.Name == portName) {
			return *p.Port
		}
	}
	return 0
}
