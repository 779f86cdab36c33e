package kube_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// policy: pods reach the API server, the metadata service, the registry and
// each other, until a policy says otherwise.
func (w world) policy(t *testing.T) {
	for name, node := range map[string]string{"free": "node1", "session": "node1", "other": "node2", "hub": "node2"} {
		w.run(t, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name, "role": map[bool]string{true: "session"}[name == "session" || name == "other"]}},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "box", Image: w.Box, Args: []string{"serve", ":8080", name}}}},
		})
	}
	udp := corev1.ProtocolUDP
	_, err := w.Client.NetworkingV1().NetworkPolicies(w.namespace).Create(t.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "sessions"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"role": "session"}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"name": "hub"}}}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(8080))}},
			}},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{
					To: []networkingv1.NetworkPolicyPeer{{
						NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "kube-system"}},
						PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
					}},
					Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: new(intstr.FromInt32(53))}},
				},
				{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "169.254.0.0/16"}}}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(pod string) string {
		p, err := w.Client.CoreV1().Pods(w.namespace).Get(t.Context(), pod, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Status.PodIP + ":8080"
	}
	eventually(t, "the policy is in force", func() error {
		if _, err := w.exec(t.Context(), "free", "/box", "dial", at("session")); err == nil {
			return errors.New("a pod still reaches a session")
		}
		return nil
	})
	var all sync.WaitGroup
	defer all.Wait()
	for _, target := range []string{"kubernetes.default.svc.cluster.local:443", "169.254.169.254:80", w.Registry, at("other"), at("free"), at("hub"), "kubelet"} {
		for _, from := range []string{"free", "session"} {
			to, allowed := target, from == "free" && target != at("other")
			if to == "kubelet" { // of the node that the pod is on
				to = strings.Replace(w.Registry, ".1:5000", ".11:10250", 1)
			}
			all.Go(func() {
				out, err := w.exec(t.Context(), from, "/box", "dial", to)
				switch {
				case allowed && err != nil:
					t.Errorf("%s does not reach %s: %v", from, target, err)
				case !allowed && err == nil:
					t.Errorf("%s reaches %s: %s", from, target, out)
				case !allowed && strings.Contains(err.Error(), "lookup"):
					t.Errorf("%s has no DNS: %v", from, err)
				}
			})
		}
	}
	for _, session := range []string{"session", "other"} { // on its own node, and from the other
		all.Go(func() {
			if out, err := w.exec(t.Context(), "hub", "/box", "get", "http://"+at(session)); err != nil || out != session {
				t.Errorf("the hub reaches %s: %q %v", session, out, err)
			}
		})
	}
}

// run makes a pod and waits until it runs.
func (w world) run(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	pods := w.Client.CoreV1().Pods(w.namespace)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod "+pod.Name+" runs", func() error {
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s: %+v", now.Status.Phase, now.Status.ContainerStatuses)
		}
		return err
	})
}
