// Package policy enforces NetworkPolicies on a node of the tests' Kubernetes
// with nftables: its network plugin does not.
//
// Pods are routed, never bridged, so each packet from or to a pod passes the
// node's prerouting, after kube-proxy has put a pod in a Service's place. There
// a map leads from a pod's address to its own chain, which returns for what a
// policy allows and drops the rest.
package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// State is what a node knows of its cluster.
type State struct {
	// Local are the addresses of this node's pods. They are known before the
	// API server hears of them, so that a pod never runs without its policies.
	Local      map[types.UID]netip.Addr
	Pods       []*corev1.Pod
	Namespaces map[string]map[string]string // labels by name
	Policies   []*networkingv1.NetworkPolicy
}

// Rules are the State in nft's words: a script that replaces the table in one
// transaction.
func Rules(s State) (string, error) {
	b := &builder{State: s}
	var in, out, chains []string
	pods := slices.Clone(s.Pods)
	slices.SortFunc(pods, func(x, y *corev1.Pod) int { return strings.Compare(string(x.UID), string(y.UID)) })
	for _, pod := range pods {
		addr, ok := s.Local[pod.UID]
		if !ok {
			continue
		}
		for _, d := range []struct {
			kind     networkingv1.PolicyType
			name     string
			elements *[]string
		}{{networkingv1.PolicyTypeIngress, "in", &in}, {networkingv1.PolicyTypeEgress, "out", &out}} {
			rules, isolated, err := b.rules(pod, d.kind)
			if err != nil {
				return "", err
			}
			if !isolated {
				continue
			}
			chain := d.name + "_" + strings.ReplaceAll(addr.String(), ".", "_")
			*d.elements = append(*d.elements, fmt.Sprintf("%s : jump %s", addr, chain))
			chains = append(chains, fmt.Sprintf("\tchain %s {\n%s\t\tdrop\n\t}\n", chain, rules))
		}
	}
	return script(in, out, chains), nil
}

func script(in, out, chains []string) string {
	var b strings.Builder
	b.WriteString("table ip binnacle_policy {}\ndelete table ip binnacle_policy\ntable ip binnacle_policy {\n")
	for _, c := range chains {
		b.WriteString(c)
	}
	for _, m := range []struct {
		name     string
		elements []string
	}{{"egress", out}, {"ingress", in}} {
		fmt.Fprintf(&b, "\tmap %s {\n\t\ttype ipv4_addr : verdict\n", m.name)
		if len(m.elements) > 0 {
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(m.elements, ", "))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString(`	chain prerouting {
		type filter hook prerouting priority 0; policy accept;
		ct state established,related accept
		ip saddr vmap @egress
		ip daddr vmap @ingress
	}
}
`)
	return b.String()
}

type builder struct{ State }

// rules are what the policies allow a pod in one direction, a line each, and
// whether a policy selects it at all.
func (b *builder) rules(pod *corev1.Pod, kind networkingv1.PolicyType) (lines string, isolated bool, err error) {
	var all []string
	for _, p := range b.Policies {
		selected, err := matches(&p.Spec.PodSelector, pod.Labels)
		if err != nil {
			return "", false, fmt.Errorf("policy %s/%s: %w", p.Namespace, p.Name, err)
		}
		if p.Namespace != pod.Namespace || !selected || !has(p, kind) {
			continue
		}
		isolated = true
		rules, err := b.policy(pod, p, kind)
		if err != nil {
			return "", false, fmt.Errorf("policy %s/%s: %w", p.Namespace, p.Name, err)
		}
		all = append(all, rules...)
	}
	slices.Sort(all)
	var text strings.Builder
	for _, r := range slices.Compact(all) {
		text.WriteString("\t\t" + strings.Join(strings.Fields(r+" return"), " ") + "\n")
	}
	return text.String(), isolated, nil
}

// has tells whether a policy is about a direction. Without types it is about
// ingress, and about egress if it has such rules.
func has(p *networkingv1.NetworkPolicy, kind networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, kind)
	}
	return kind == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

func (b *builder) policy(pod *corev1.Pod, p *networkingv1.NetworkPolicy, kind networkingv1.PolicyType) ([]string, error) {
	var lines []string
	if kind == networkingv1.PolicyTypeIngress {
		for _, r := range p.Spec.Ingress {
			more, err := b.rule(p.Namespace, "saddr", r.From, r.Ports, pod)
			if err != nil {
				return nil, err
			}
			lines = append(lines, more...)
		}
		return lines, nil
	}
	for _, r := range p.Spec.Egress {
		more, err := b.rule(p.Namespace, "daddr", r.To, r.Ports, nil)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

// rule combines each peer with each port. The target is the pod whose named
// ports are meant; for egress, it is each peer.
func (b *builder) rule(namespace, side string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, target *corev1.Pod) ([]string, error) {
	var lines []string
	if len(peers) == 0 {
		return portMatches(ports, target), nil
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			match, err := block(side, peer.IPBlock)
			if err != nil {
				return nil, err
			}
			for _, p := range portMatches(ports, target) {
				lines = append(lines, match+" "+p)
			}
			continue
		}
		pods, err := b.peers(namespace, peer)
		if err != nil {
			return nil, err
		}
		for _, other := range slices.Sorted(maps.Keys(pods)) {
			named := target
			if named == nil {
				named = pods[other]
			}
			for _, p := range portMatches(ports, named) {
				lines = append(lines, "ip "+side+" "+other+" "+p)
			}
		}
	}
	return lines, nil
}

// block matches a range of addresses. One of IPv6 matches nothing here.
func block(side string, ip *networkingv1.IPBlock) (string, error) {
	cidr, err := netip.ParsePrefix(ip.CIDR)
	if err != nil {
		return "", err
	}
	if !cidr.Addr().Is4() {
		return "ip " + side + " 255.255.255.255", nil
	}
	match := []string{"ip", side, cidr.Masked().String()}
	for _, e := range ip.Except {
		except, err := netip.ParsePrefix(e)
		if err != nil {
			return "", err
		}
		match = append(match, "ip", side, "!=", except.Masked().String())
	}
	return strings.Join(match, " "), nil
}

// peers finds the pods that a peer means, by address.
func (b *builder) peers(namespace string, peer networkingv1.NetworkPolicyPeer) (map[string]*corev1.Pod, error) {
	found := map[string]*corev1.Pod{}
	for _, pod := range b.Pods {
		addr := b.address(pod)
		if addr == "" {
			continue
		}
		ok := pod.Namespace == namespace
		if peer.NamespaceSelector != nil {
			var err error
			if ok, err = matches(peer.NamespaceSelector, b.Namespaces[pod.Namespace]); err != nil {
				return nil, err
			}
		}
		if peer.PodSelector != nil && ok {
			var err error
			if ok, err = matches(peer.PodSelector, pod.Labels); err != nil {
				return nil, err
			}
		}
		if ok {
			found[addr] = pod
		}
	}
	return found, nil
}

// address is a pod's own; one that has ended has none, since another may have
// it by now, and one in its node's network has none of its own.
func (b *builder) address(pod *corev1.Pod) string {
	if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	if a, ok := b.Local[pod.UID]; ok {
		return a.String()
	}
	return pod.Status.PodIP
}

// portMatches are alternatives; one that is empty matches everything.
func portMatches(ports []networkingv1.NetworkPolicyPort, named *corev1.Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var list []string
	for _, p := range ports {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		name := strings.ToLower(string(protocol))
		switch {
		case p.Port == nil:
			list = append(list, "meta l4proto "+name)
		case p.Port.Type == intstr.Int && p.EndPort != nil:
			list = append(list, fmt.Sprintf("%s dport %d-%d", name, p.Port.IntVal, *p.EndPort))
		case p.Port.Type == intstr.Int:
			list = append(list, fmt.Sprintf("%s dport %d", name, p.Port.IntVal))
		case named != nil:
			for _, c := range named.Spec.Containers {
				for _, cp := range c.Ports {
					if cp.Name == p.Port.StrVal && (cp.Protocol == protocol || cp.Protocol == "" && protocol == corev1.ProtocolTCP) {
						list = append(list, fmt.Sprintf("%s dport %d", name, cp.ContainerPort))
					}
				}
			}
		}
	}
	return list
}

func matches(selector *metav1.LabelSelector, set map[string]string) (bool, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, err
	}
	return s.Matches(labels.Set(set)), nil
}
