package release_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/deploy/release"
)

func TestHopeless(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		reason   string
		restarts int32
		age      time.Duration
		want     bool
	}{
		{"ContainerCreating", 0, time.Hour, false},
		{"InvalidImageName", 0, 0, true},
		{"ErrImageNeverPull", 0, 0, true},
		{"ErrImagePull", 0, time.Hour, false}, // ImagePullBackOff comes between two tries
		{"ImagePullBackOff", 0, time.Minute, false},
		{"ImagePullBackOff", 0, 4 * time.Minute, true},
		{"CreateContainerConfigError", 0, time.Minute, false},
		{"CreateContainerConfigError", 0, 4 * time.Minute, true},
		{"CrashLoopBackOff", 1, time.Hour, false},
		{"CrashLoopBackOff", 4, time.Minute, true},
	} {
		start := metav1.NewTime(now.Add(-tt.age))
		waits := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: tt.reason}}
		p := corev1.Pod{Status: corev1.PodStatus{StartTime: &start, ContainerStatuses: []corev1.ContainerStatus{{RestartCount: tt.restarts, State: waits}}}}
		if got := release.Hopeless(p, now); got != tt.want {
			t.Errorf("%s, %d restarts, after %s: %v", tt.reason, tt.restarts, tt.age, got)
		}
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
		if got := release.Hopeless(p, now); got != tt.want {
			t.Errorf("%s of an init container: %v", tt.reason, got)
		}
	}
}

func TestWorkloadOK(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		w    release.Workload
		want bool
	}{
		{"none ready yet", release.Workload{Want: 3}, false},
		{"some not ready", release.Workload{Want: 3, Ready: 2}, false},
		{"all ready", release.Workload{Want: 3, Ready: 3}, true},
		{"more than wanted", release.Workload{Want: 3, Ready: 4}, true},
		{"none wanted", release.Workload{}, true},
		{"ready in the old form", release.Workload{Want: 3, Ready: 3, Trouble: "it is being replaced"}, false},
	} {
		if got := tt.w.OK(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
