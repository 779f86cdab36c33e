package kubernetes

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Defaults of Config.
const (
	DefaultNamespace    = "binnacle-sessions"
	DefaultInstance     = "binnacle"
	DefaultPort         = 8888
	DefaultGrace        = 10 * time.Second
	DefaultStartTimeout = 5 * time.Minute
)

// Config of the spawner.
type Config struct {
	// Namespace is where sessions run. Nothing else should.
	Namespace string
	// Instance tells the sessions of hubs apart that share a namespace: the
	// release of the chart.
	Instance string
	// Port is what a session's server listens on in its pod.
	Port int
	// Grace is how long a session may take to end by itself.
	Grace time.Duration
	// StartTimeout is how long a session may wait for a machine with room, which
	// may have to be added first, and for its image.
	StartTimeout time.Duration
	// Guarantee is the share of its limits that a session has for itself.
	Guarantee Guarantee
	// Resources are further resources of a session, such as "nvidia.com/gpu": "1".
	Resources map[string]string
	// Env is set in every session; what a launch sets wins.
	Env map[string]string
	// Labels are put on the pods of sessions, for the cluster's own purposes.
	Labels map[string]string
	// NodeSelector names the labels of machines that sessions run on.
	NodeSelector map[string]string
	// Tolerations are the taints of machines that sessions may run on all the
	// same, as kubectl writes them: "key=value:NoSchedule", "key:NoExecute", "key".
	Tolerations []Toleration
	// RuntimeClass is a container runtime with more isolation, such as gVisor's
	// or Kata's; empty is the cluster's own.
	RuntimeClass string
	// PriorityClass lets sessions push out pods of less priority, such as
	// placeholders; empty is the cluster's default.
	PriorityClass string
	// UserNamespace gives each session user ids of its own on the machine. Needs
	// machines that can: Linux 6.3 and containerd 2.
	UserNamespace bool
	// Pack puts sessions where others are already, so that machines become empty
	// and can be removed.
	Pack bool
	// ImagePullSecrets are the names of Secrets in the namespace of sessions with
	// which machines fetch images.
	ImagePullSecrets []string
	// CAConfigMap is a ConfigMap in the namespace of sessions whose key ca.pem has
	// the certificate authorities that sessions trust; empty leaves the image's.
	CAConfigMap string
	// Pod is laid over the pod of every session, as a strategic merge patch: what
	// has no setting here, for example volumes, affinity, a sidecar. The session's
	// container is called "session".
	Pod Patch
	// Profiles change these settings for some sessions: those of a repository
	// (repo, a regular expression) or of a class. All that match apply, in order.
	// Keys: repo, class, memory, cpu, disk, guarantee, resources, env,
	// node_selector, tolerations, runtime_class, priority_class, pod.
	Profiles []Profile
	// Network is who may reach whom.
	Network Network
}

// Guarantee is a share of limits, from 0 (a session may get nothing when the
// machine is full) to 1 (nothing is shared).
type Guarantee struct {
	// Memory, CPU and Disk are the shares of the limits of that name.
	Memory float64 `json:"memory,omitempty"`
	CPU    float64 `json:"cpu,omitempty"`
	Disk   float64 `json:"disk,omitempty"`
}

// Network is what the NetworkPolicy of the namespace of sessions says.
type Network struct {
	// HubNamespace is where the hub runs.
	HubNamespace string
	// HubLabels are the labels of the hub's pods: they alone reach sessions.
	HubLabels map[string]string
	// DNSNamespace is where the cluster's DNS servers run.
	DNSNamespace string
	// DNSLabels are the labels of the cluster's DNS servers.
	DNSLabels map[string]string
	// DNSAddresses are further DNS servers, such as a cache on each machine.
	DNSAddresses []netip.Prefix
	// Deny are addresses sessions do not reach beside all private ones: public
	// ranges of the cluster's pods, services and machines.
	Deny []netip.Prefix
	// Allow are private addresses that sessions do reach, such as a mirror.
	Allow []netip.Prefix
	// Ports are the TCP ports of the internet that sessions reach; empty is all but
	// DenyPorts.
	Ports []int
	// DenyPorts are TCP ports that sessions reach nowhere, such as 25.
	DenyPorts []int
}

// DefaultConfig suits a cluster without anything special.
func DefaultConfig() Config {
	return Config{
		Namespace: DefaultNamespace, Instance: DefaultInstance, Port: DefaultPort, Grace: DefaultGrace, StartTimeout: DefaultStartTimeout,
		Guarantee: Guarantee{Memory: 0.25, CPU: 0.05, Disk: 0.1}, Pack: true, //nolint:mnd // most sessions wait for their person
		Network: Network{
			HubNamespace: "binnacle", HubLabels: map[string]string{labelName: "binnacle", labelComponent: "hub"},
			DNSNamespace: "kube-system", DNSLabels: map[string]string{"k8s-app": "kube-dns"},
			DNSAddresses: []netip.Prefix{netip.MustParsePrefix("169.254.20.10/32")},
			DenyPorts:    []int{25},
		},
	}
}

// Validate reports every problem.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(validation.IsDNS1123Label(c.Namespace)) > 0 {
		bad("namespace: %q is not the name of a namespace", c.Namespace)
	}
	if c.Instance == "" || len(validation.IsValidLabelValue(c.Instance)) > 0 {
		bad("instance: %q cannot be the value of a label", c.Instance)
	}
	const lowest, highest = 1024, 65535 // a session has no right to lower ones
	if c.Port < lowest || c.Port > highest {
		bad("port: must be from %d to %d, not %d", lowest, highest, c.Port)
	}
	if c.Grace <= 0 || c.StartTimeout <= 0 {
		bad("grace, start_timeout: must be positive")
	}
	errs = append(errs, c.Guarantee.validate())
	for k, v := range c.Resources {
		if _, err := resource.ParseQuantity(v); err != nil || len(validation.IsQualifiedName(k)) > 0 {
			bad("resources: %s=%s is not a resource and its number", k, v)
		}
	}
	for path, labels := range map[string]map[string]string{
		"labels": c.Labels, "node_selector": c.NodeSelector, "network.hub_labels": c.Network.HubLabels, "network.dns_labels": c.Network.DNSLabels,
	} {
		for k, v := range labels {
			if len(validation.IsQualifiedName(k)) > 0 || len(validation.IsValidLabelValue(v)) > 0 {
				bad("%s: %s=%s is not a label", path, k, v)
			}
		}
	}
	if len(c.Network.HubLabels) == 0 || c.Network.HubNamespace == "" {
		bad("network.hub_namespace, network.hub_labels: must be set, else nobody reaches a session")
	}
	for path, ports := range map[string][]int{"network.ports": c.Network.Ports, "network.deny_ports": c.Network.DenyPorts} {
		for _, p := range ports {
			if p < 1 || p > highest {
				bad("%s: %d is not a port", path, p)
			}
		}
	}
	for i, p := range c.Profiles {
		if err := p.validate(); err != nil {
			bad("profiles: item %d: %w", i+1, err)
		}
	}
	return errors.Join(errs...)
}

func (g Guarantee) validate() error {
	for _, share := range []float64{g.Memory, g.CPU, g.Disk} {
		if !(share >= 0 && share <= 1) {
			return errors.New("guarantee: shares are from 0 to 1")
		}
	}
	return nil
}

func (p Profile) validate() error {
	if p.Repo == "" && p.Class == "" {
		return errors.New("repo or class must say what it is for")
	}
	if _, err := regexp.Compile(p.Repo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if p.Guarantee != nil {
		return p.Guarantee.validate()
	}
	return nil
}
