package policy_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/binnacle-hub/binnacle/test/kube/policy"
)

func pod(name, namespace, ip string, labels ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID(name), Labels: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}},
		Status:     corev1.PodStatus{PodIP: ip},
	}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		p.Labels[k] = v
	}
	return p
}

func selector(l string) *metav1.LabelSelector {
	k, v, _ := strings.Cut(l, "=")
	return &metav1.LabelSelector{MatchLabels: map[string]string{k: v}}
}

func TestRules(t *testing.T) {
	t.Parallel()
	web, udp := intstr.FromString("web"), corev1.ProtocolUDP
	ended := pod("ended", "b", "10.0.0.9", "app=hub")
	ended.Status.Phase = corev1.PodFailed
	tests := map[string]struct {
		spec    networkingv1.NetworkPolicySpec
		ingress string // the pod's chain; "-" when there is none
		egress  string
	}{
		"nothing is allowed": {
			spec:    networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
			ingress: "drop", egress: "drop",
		},
		"all is allowed": {
			spec:    networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}},
			ingress: "return; drop", egress: "-",
		},
		"another pod is meant": {
			spec:    networkingv1.NetworkPolicySpec{PodSelector: *selector("app=other")},
			ingress: "-", egress: "-",
		},
		"peers of the namespace, a named port of ours": {
			spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{PodSelector: selector("app=hub")}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: &web}},
			}}},
			ingress: "ip saddr 10.0.0.2 tcp dport 8080 return; drop", egress: "-",
		},
		"peers of other namespaces, not those that ended": {
			spec: networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{
				To:    []networkingv1.NetworkPolicyPeer{{NamespaceSelector: selector("name=b"), PodSelector: selector("app=hub")}},
				Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: new(intstr.FromInt32(53))}, {Port: new(intstr.FromInt32(80)), EndPort: new(int32(90))}},
			}}},
			ingress: "drop", egress: "ip daddr 10.0.0.3 tcp dport 80-90 return; ip daddr 10.0.0.3 udp dport 53 return; drop",
		},
		"the internet": {
			spec: networkingv1.NetworkPolicySpec{
				PolicyTypes: []networkingv1.PolicyType{"Egress"},
				Egress: []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{
					{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "169.254.0.0/16"}}},
				}}},
			},
			ingress: "-", egress: "ip daddr 0.0.0.0/0 ip daddr != 10.0.0.0/8 ip daddr != 169.254.0.0/16 return; drop",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, err := policy.Rules(policy.State{
				Local:      map[types.UID]netip.Addr{"session": netip.MustParseAddr("10.0.0.1")},
				Pods:       []*corev1.Pod{pod("session", "a", "", "app=session"), pod("hub", "a", "10.0.0.2", "app=hub"), pod("far", "b", "10.0.0.3", "app=hub"), ended},
				Namespaces: map[string]map[string]string{"a": {"name": "a"}, "b": {"name": "b"}},
				Policies:   []*networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "a"}, Spec: test.spec}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got := [2]string{chain(rules, "in_10_0_0_1"), chain(rules, "out_10_0_0_1")}
			if diff := cmp.Diff([2]string{test.ingress, test.egress}, got); diff != "" {
				t.Errorf("ingress and egress (-want +got):\n%s\n%s", diff, rules)
			}
		})
	}
}

// chain is the body of a chain to which a map leads.
func chain(rules, name string) string {
	_, body, ok := strings.Cut(rules, "chain "+name+" {\n")
	if !ok || !strings.Contains(rules, "10.0.0.1 : jump "+name) {
		return "-"
	}
	body, _, _ = strings.Cut(body, "}")
	var lines []string
	for line := range strings.Lines(body) {
		if l := strings.TrimSpace(line); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "; ")
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{
		"pods-1-eth0":       `{"cniArgs":[["K8S_POD_NAME","x"],["K8S_POD_UID","uid-1"]],"result":{"ips":[{"address":"10.0.0.1/24"}]}}`,
		"pods-2-eth0":       `{"cniArgs":[["K8S_POD_UID","uid-2"]],"resu`, // being written
		"cni-loopback-1-lo": `{"cniArgs":[["K8S_POD_UID","uid-1"]],"result":{"ips":[{"address":"127.0.0.1/8"}]}}`,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := filepath.Join(dir, "pods-9-eth0") // of the same pod, before its node was started again
	if err := os.WriteFile(old, []byte(`{"cniArgs":[["K8S_POD_UID","uid-1"]],"result":{"ips":[{"address":"10.0.0.9/24"}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	got, err := policy.Addresses(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got["uid-1"] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("got %v, want uid-1 at 10.0.0.1", got)
	}
}
