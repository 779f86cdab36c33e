package kubernetes

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// never are the addresses no session reaches: private and shared ranges, in
// which clusters and machines are, this machine, and metadata services.
func never() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16",
		"198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", // the last is Azure's metadata and DNS
		"::/127", "64:ff9b::/96", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "ff00::/8",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// Policies are the NetworkPolicies of the namespace of sessions, one for what
// comes in and one for what goes out, for every pod in it. The chart renders
// them, so that the hub needs no right to change them; a test of the chart
// compares. They need a network plugin that enforces them.
func Policies(cfg Config) []networkingv1.NetworkPolicy {
	return []networkingv1.NetworkPolicy{cfg.ingress(), cfg.egress()}
}

func (c Config) policy(name string, kind networkingv1.PolicyType) networkingv1.NetworkPolicy {
	return networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Instance + "-sessions-" + name, Namespace: c.Namespace,
			Labels: map[string]string{labelName: product, labelInstance: c.Instance, labelManagedBy: product},
		},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: c.selector()}, PolicyTypes: []networkingv1.PolicyType{kind}},
	}
}

// ingress lets the hub alone reach sessions, and only their servers.
func (c Config) ingress() networkingv1.NetworkPolicy {
	p := c.policy("ingress", networkingv1.PolicyTypeIngress)
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From:  []networkingv1.NetworkPolicyPeer{podsOf(c.Network.HubNamespace, c.Network.HubLabels)},
		Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, c.Port)},
	}}
	return p
}

func (c Config) egress() networkingv1.NetworkPolicy {
	const dns = 53
	p := c.policy("egress", networkingv1.PolicyTypeEgress)
	names := []networkingv1.NetworkPolicyPeer{podsOf(c.Network.DNSNamespace, c.Network.DNSLabels)}
	for _, prefix := range c.Network.DNSAddresses {
		names = append(names, block(prefix))
	}
	p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{
		{To: names, Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, dns), port(corev1.ProtocolTCP, dns)}},
	}
	denied := append(never(), c.Network.Deny...)
	internet := networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{
		block(netip.MustParsePrefix("0.0.0.0/0"), denied...), block(netip.MustParsePrefix("::/0"), denied...),
	}}
	internet.Ports = allBut(c.Network.DenyPorts)
	if len(c.Network.Ports) > 0 {
		internet.Ports = nil
	}
	for _, n := range c.Network.Ports {
		internet.Ports = append(internet.Ports, port(corev1.ProtocolTCP, n))
	}
	p.Spec.Egress = append(p.Spec.Egress, internet)
	if len(c.Network.Allow) > 0 {
		allowed := networkingv1.NetworkPolicyEgressRule{Ports: allBut(c.Network.DenyPorts)}
		for _, prefix := range c.Network.Allow {
			allowed.To = append(allowed.To, block(prefix))
		}
		p.Spec.Egress = append(p.Spec.Egress, allowed)
	}
	return p
}

// allBut are all ports of UDP, and those of TCP that are not denied: a policy can't say
// what is not allowed.
func allBut(denied []int) []networkingv1.NetworkPolicyPort {
	if len(denied) == 0 {
		return nil // whatever the protocol
	}
	const last = 65535
	udp := corev1.ProtocolUDP
	out := []networkingv1.NetworkPolicyPort{{Protocol: &udp}}
	first := 1
	for _, n := range append(slices.Sorted(slices.Values(denied)), last+1) {
		if first < n {
			open := port(corev1.ProtocolTCP, first)
			open.EndPort = new(int32(n - 1)) //nolint:gosec // Validate bounds it
			out = append(out, open)
		}
		first = n + 1
	}
	return out
}

func podsOf(namespace string, labels map[string]string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: labels},
	}
}

// block is a range without those of the list that are in it.
func block(p netip.Prefix, except ...netip.Prefix) networkingv1.NetworkPolicyPeer {
	b := &networkingv1.IPBlock{CIDR: p.String()}
	for _, e := range except {
		if e.Addr().Is4() == p.Addr().Is4() && e.Bits() > p.Bits() && p.Contains(e.Addr()) {
			b.Except = append(b.Except, e.Masked().String())
		}
	}
	slices.Sort(b.Except)
	b.Except = slices.Compact(b.Except)
	return networkingv1.NetworkPolicyPeer{IPBlock: b}
}

func port(protocol corev1.Protocol, n int) networkingv1.NetworkPolicyPort {
	number := intstr.FromInt(n)
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &number}
}
