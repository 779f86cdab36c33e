package chart_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// previous is the chart of the version before, as `binnacle deploy chart` writes
// it; with each release it is replaced by that release's.
const previous = "testdata/previous.tgz"

// What Kubernetes lets nobody change is as the version before had it: else an
// upgrade would fail half-way. A claim is never left behind with its data.
func TestUpgradeChangesWhatItMay(t *testing.T) {
	t.Parallel()
	before, err := loader.LoadFile(previous)
	if err != nil {
		t.Fatal(err)
	}
	before.Schema = nil // of values that it does not know yet
	compared := 0
	for _, name := range variants() {
		old, err := renderChart(before, values(t, name))
		if err != nil {
			t.Logf("%s: the version before could not do that: %v", name, err)
			continue
		}
		compared++
		was, is := objects(t, old), rendered(t, name)
		deployments := decode[*appsv1.Deployment](t, is)
		for key, d := range decode[*appsv1.Deployment](t, was) {
			if now, ok := deployments[key]; ok && !equality.Semantic.DeepEqual(d.Spec.Selector, now.Spec.Selector) {
				t.Errorf("%s: the selector of the Deployment %s: %s", name, key, cmp.Diff(d.Spec.Selector, now.Spec.Selector))
			}
		}
		sets := decode[*appsv1.StatefulSet](t, is)
		for key, s := range decode[*appsv1.StatefulSet](t, was) {
			now, ok := sets[key]
			if !ok {
				t.Errorf("%s: the StatefulSet %s is no more, and its claims stay", name, key)
				continue
			}
			fixed := func(s *appsv1.StatefulSet) []any {
				return []any{s.Spec.Selector, s.Spec.ServiceName, s.Spec.PodManagementPolicy, s.Spec.VolumeClaimTemplates}
			}
			if diff := cmp.Diff(fixed(s), fixed(now)); diff != "" {
				t.Errorf("%s: the StatefulSet %s can't be changed so: %s", name, key, diff)
			}
		}
		claims := decode[*corev1.PersistentVolumeClaim](t, is)
		for key, c := range decode[*corev1.PersistentVolumeClaim](t, was) {
			if now, ok := claims[key]; !ok || !equality.Semantic.DeepEqual(c.Spec, now.Spec) {
				t.Errorf("%s: the claim %s can't be changed so, or is no more", name, key)
			}
		}
		if len(deployments)+len(sets) == 0 {
			t.Errorf("%s: nothing to compare", name)
		}
	}
	if compared < len(variants())/2 {
		t.Errorf("only %d variants could be compared", compared)
	}
}
