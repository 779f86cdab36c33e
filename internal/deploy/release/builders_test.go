package release_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

// The builders are called so by people, and one of them a builder by the chart.
func TestBuildersAreFound(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app.kubernetes.io/name": "binnacle", "app.kubernetes.io/instance": "hub", "app.kubernetes.io/component": "builder"}
	meta := metav1.ObjectMeta{Name: "hub-binnacle-builders", Namespace: "binder", Labels: labels}
	pod := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "builder"}}}}
	client := fake.NewClientset(&appsv1.StatefulSet{ObjectMeta: meta}, pod)
	c := release.Of(client, "binder")
	for _, component := range []string{"builders", ""} {
		var out strings.Builder
		if err := c.Logs(t.Context(), "hub", release.LogOptions{Component: component}, &out); err != nil || !strings.Contains(out.String(), meta.Name) {
			t.Errorf("the log of %q: %v %s", component, err, out.String())
		}
	}
	if err := c.Restart(t.Context(), "hub", "builders", time.Now()); err != nil {
		t.Error(err)
	}
	set, err := client.AppsV1().StatefulSets("binder").Get(t.Context(), meta.Name, metav1.GetOptions{})
	if err != nil || len(set.Spec.Template.Annotations) != 1 {
		t.Errorf("they are not restarted: %v %v", set.Spec.Template.Annotations, err)
	}
}
