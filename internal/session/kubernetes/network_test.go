package kubernetes_test

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
	"github.com/binnacle-hub/binnacle/test/farhost"
)

// TestNetwork looks around from inside a session, before and after the policies.
func TestNetwork(t *testing.T) {
	w := newWorld(t)
	elsewhere := w.cluster.Namespace(t)
	w.cfg.Network.HubNamespace = elsewhere
	s := w.open(t)
	spy, victim := sessiontest.NewSpec("spy-1", w.image), sessiontest.NewSpec("victim-1", w.image)
	begin(t, s, spy)
	begin(t, s, victim)
	if _, err := sessiontest.Fetch(t.Context(), s, victim, "api/status"); err != nil { // it listens
		t.Fatal(err)
	}
	pod := func(id string) *corev1.Pod {
		p, err := w.cluster.Client.CoreV1().Pods(w.cfg.Namespace).Get(t.Context(), id, metav1.GetOptions{})
		must(t, err)
		return p
	}
	api, err := w.cluster.Client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	must(t, err)
	targets := map[string]string{
		"the API server": api.Spec.ClusterIP + ":443", "the metadata service": "169.254.169.254:80", "the registry": w.cluster.Registry,
		"another session": pod(victim.ID).Status.PodIP + ":8888", "the kubelet": pod(spy.ID).Status.HostIP + ":10250",
	}
	mail, other := far(t)
	targets["mail"] = mail
	for what, address := range targets {
		if err := reach(t.Context(), s, spy, address); err != nil {
			t.Errorf("without policies %s is not reached, so this shows nothing: %v", what, err)
		}
	}
	w.apply(t, kubernetes.Policies(w.cfg)...)
	w.apply(t, fromHere(w)) // this test is no pod of a hub, and asks the spy
	deadline := time.Now().Add(20 * time.Second)
	for reach(t.Context(), s, spy, targets["the API server"]) == nil {
		if time.Now().After(deadline) {
			t.Fatal("the policies have no effect")
		}
		<-time.After(100 * time.Millisecond)
	}
	for what, address := range targets {
		if reach(t.Context(), s, spy, address) == nil {
			t.Errorf("a session reaches %s at %s", what, address)
		}
	}
	if err := reach(t.Context(), s, spy, other); err != nil {
		t.Errorf("another port of the internet: %v", err)
	}
	// The API server by its name: what is refused is the connection, not the name.
	if err := reach(t.Context(), s, spy, "kubernetes.default.svc.cluster.local:443"); err == nil || strings.Contains(err.Error(), "lookup") {
		t.Errorf("DNS from a session: %v", err)
	}
	hub := map[string]string{"app.kubernetes.io/name": "binnacle", "app.kubernetes.io/component": "hub"}
	if phase := w.dialer(t, elsewhere, hub, targets["another session"]); phase != corev1.PodSucceeded {
		t.Errorf("the hub does not reach a session: %s", phase)
	}
	// As the pod of the chart's `helm test`: it has the policies of sessions and is none.
	probe := map[string]string{"app.kubernetes.io/name": "binnacle", "app.kubernetes.io/instance": w.cfg.Instance, "app.kubernetes.io/component": "session"}
	if phase := w.dialer(t, w.cfg.Namespace, probe, targets["the API server"]); phase != corev1.PodFailed {
		t.Errorf("a pod with the labels of sessions reaches the API server: %s", phase)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("the sessions are %+v %v", list, err)
	}
	if phase := w.dialer(t, elsewhere, nil, targets["another session"]); phase != corev1.PodFailed {
		t.Errorf("a stranger reaches a session: %s", phase)
	}
}

// far is a server of the internet that takes mail, and something else.
func far(t *testing.T) (mail, other string) {
	t.Helper()
	host, err := farhost.New()
	must(t, err)
	t.Cleanup(func() { must(t, host.Close()) })
	const smtp = 25
	var at []string
	for _, port := range []uint16{smtp, 0} {
		l, err := host.ListenOn(port) // the kernel accepts
		must(t, err)
		t.Cleanup(func() { must(t, l.Close()) })
		at = append(at, l.Addr().String())
	}
	return at[0], at[1]
}

func reach(ctx context.Context, s session.Spawner, from session.Spec, address string) error {
	_, err := sessiontest.Fetch(ctx, s, from, "x/dial?network=tcp&address="+url.QueryEscape(address))
	return err
}

func (w *world) apply(t *testing.T, policies ...networkingv1.NetworkPolicy) {
	t.Helper()
	for _, p := range policies {
		_, err := w.cluster.Client.NetworkingV1().NetworkPolicies(w.cfg.Namespace).Create(t.Context(), &p, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		must(t, err)
	}
}

// fromHere lets the machine of this test reach the spy.
func fromHere(w *world) networkingv1.NetworkPolicy {
	host := netip.MustParseAddrPort(w.cluster.Registry).Addr()
	p := kubernetes.Policies(w.cfg)[0]
	p.Name, p.Spec.PodSelector = "test", metav1.LabelSelector{MatchLabels: map[string]string{"binnacle.dev/session": "spy-1"}}
	p.Spec.Ingress[0].From = []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: host.String() + "/32"}}}
	return p
}

// dialer is how a pod ends that connects to the address.
func (w *world) dialer(t *testing.T, namespace string, labels map[string]string, address string) corev1.PodPhase {
	t.Helper()
	pods := w.cluster.Client.CoreV1().Pods(namespace)
	p, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "dialer-", Labels: labels},
		Spec: corev1.PodSpec{
			RestartPolicy:   corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(1000)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "box", Image: w.cluster.Box, Args: []string{"dial", address}, SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	for range 300 {
		p, err = pods.Get(t.Context(), p.Name, metav1.GetOptions{})
		must(t, err)
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	must(t, pods.Delete(t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	return p.Status.Phase
}
