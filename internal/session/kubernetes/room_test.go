package kubernetes_test

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestRoom(t *testing.T) {
	placed := metav1.NewTime(time.Now().Add(time.Minute))
	status := runs()
	status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: placed}}
	status.ContainerStatuses[1].State.Running.StartedAt = metav1.NewTime(placed.Add(7 * time.Second))
	client, cfg := pretend(t, status)
	s := spawner(t, client, cfg)
	_, err := s.Start(t.Context(), sessiontest.NewSpec("a-1", "registry.example.org/a:1"))
	must(t, err)
	first, err := client.CoreV1().Pods(cfg.Namespace).Get(t.Context(), "a-1", metav1.GetOptions{})
	must(t, err)
	for id, pod := range map[string]corev1.Pod{
		"b-1": {Spec: corev1.PodSpec{NodeName: "one"}, Status: runs()},
		"b-2": {Spec: corev1.PodSpec{NodeName: "one"}, Status: corev1.PodStatus{Phase: corev1.PodPending}},
		"b-3": {Spec: corev1.PodSpec{NodeName: "two"}, Status: runs()},
		"b-4": {Spec: corev1.PodSpec{NodeName: "three"}, Status: terminated(1, "Error")},
	} {
		pod.ObjectMeta = metav1.ObjectMeta{Name: id, Namespace: cfg.Namespace, Labels: maps.Clone(first.Labels)}
		pod.Labels["binnacle.dev/session"] = id
		must(t, client.Tracker().Add(&pod))
	}
	want := kubernetes.Room{ // a-1 has no machine here
		Machines: 2, Waiting: 1, Starts: 1, ForMachine: placed.Sub(first.CreationTimestamp.Time), ForImage: 7 * time.Second,
	}
	var got kubernetes.Room
	for range 500 { // until the watch has told of all
		if got = s.Room(); got == want {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Error(cmp.Diff(want, got))
}
