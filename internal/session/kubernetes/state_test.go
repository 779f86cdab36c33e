package kubernetes_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
)

func waiting(reason, message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "session", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}}}
}

func runs() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1", ContainerStatuses: []corev1.ContainerStatus{
		{Name: "sidecar", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 9}}},
		{Name: "session", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}},
	}}
}

func terminated(code int32, reason string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "session", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: metav1.NewTime(noon), FinishedAt: metav1.NewTime(noon.Add(time.Minute)),
		}},
	}}}
}

func failed(reason, message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason, Message: message}
}

func disrupted(st corev1.PodStatus, reason string) corev1.PodStatus {
	st.Conditions = append(st.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason})
	return st
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant of tests

func TestState(t *testing.T) {
	for name, c := range map[string]struct {
		status  corev1.PodStatus
		deleted time.Time // zero: not
		ours    bool      // it was us
		state   session.State
		exit    string
	}{
		"new":          {corev1.PodStatus{}, time.Time{}, false, session.Starting, ""},
		"pulling":      {waiting("ContainerCreating", ""), time.Time{}, false, session.Starting, ""},
		"runs":         {runs(), time.Time{}, false, session.Running, ""},
		"ended well":   {terminated(0, "Completed"), time.Time{}, false, session.Exited, "Its server ended."},
		"ended badly":  {terminated(3, "Error"), time.Time{}, false, session.Exited, "Its server ended with code 3."},
		"killed":       {terminated(137, "Error"), time.Time{}, false, session.Exited, "It was stopped by force."},
		"memory":       {terminated(137, "OOMKilled"), time.Time{}, false, session.Exited, "It used more than 128 MiB of memory and was stopped."},
		"command":      {terminated(128, "StartError"), time.Time{}, false, session.Exited, "The image's command is missing or cannot run."},
		"unknown":      {terminated(137, "ContainerStatusUnknown"), time.Time{}, false, session.Exited, "The machine it ran on was lost."},
		"succeeded":    {corev1.PodStatus{Phase: corev1.PodSucceeded}, time.Time{}, false, session.Exited, "Its server ended."},
		"disk":         {failed("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "), time.Time{}, false, session.Exited, "It wrote more than 1 GiB to disk and was stopped."},
		"container":    {failed("Evicted", `Container session exceeded its local ephemeral storage limit "1Gi". `), time.Time{}, false, session.Exited, "It wrote more than 1 GiB to disk and was stopped."},
		"shm":          {failed("Evicted", `Usage of EmptyDir volume "shm" exceeds the limit "64Mi". `), time.Time{}, false, session.Exited, "It used more than 128 MiB of memory and was stopped."},
		"their memory": {failed("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 68Mi. "), time.Time{}, false, session.Exited, "The machine it ran on ran out of memory."},
		"their disk":   {failed("Evicted", "The node was low on resource: ephemeral-storage. "), time.Time{}, false, session.Exited, "The machine it ran on ran out of disk space."},
		"pressure":     {failed("Evicted", "The node had condition: [PIDPressure]. "), time.Time{}, false, session.Exited, "The machine it ran on ran out of resources."},
		"shutdown":     {failed("Terminated", "Pod was terminated in response to imminent node shutdown."), time.Time{}, false, session.Exited, "The machine it ran on was shut down."},
		"refused":      {failed("OutOfmemory", "Node didn't have enough resource: memory"), time.Time{}, false, session.Exited, "The machine it was put on had no room for it any more."},
		"node lost":    {failed("NodeLost", ""), time.Time{}, false, session.Exited, "The machine it ran on was lost."},
		"unreachable":  {disrupted(runs(), "DeletionByTaintManager"), noon, false, session.Exited, "The machine it ran on was lost."},
		"lost, not deleted yet": {
			disrupted(runs(), "DeletionByTaintManager"), time.Time{}, false, session.Exited, "The machine it ran on was lost.",
		},
		"collected":                 {disrupted(failed("", ""), "DeletionByPodGC"), time.Time{}, false, session.Exited, "The machine it ran on was lost."},
		"drained":                   {disrupted(terminated(0, "Completed"), "EvictionByEvictionAPI"), noon, false, session.Exited, "The machine it ran on was taken out of service."},
		"drained, runs":             {disrupted(runs(), "EvictionByEvictionAPI"), noon, false, session.Exited, "The machine it ran on was taken out of service."},
		"about to be drained":       {disrupted(runs(), "EvictionByEvictionAPI"), time.Time{}, false, session.Running, ""},
		"preempted":                 {disrupted(runs(), "PreemptionByScheduler"), noon, false, session.Exited, "It had to make room for something more important in the cluster."},
		"deleted":                   {runs(), noon, false, session.Exited, "It was deleted in the cluster."},
		"deleted, ended":            {terminated(0, "Completed"), noon, false, session.Exited, "It was deleted in the cluster."},
		"deleted long after it end": {terminated(3, "Error"), noon.Add(time.Hour), false, session.Exited, "Its server ended with code 3."},
		"stopped":                   {runs(), noon, true, session.Exited, "It is being stopped."},
		"deleted before it ran":     {waiting("ContainerCreating", ""), noon, false, session.Exited, "It was deleted in the cluster."},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Status: c.status}
			pod.Annotations = map[string]string{"binnacle.dev/limits": `{"memory":134217728,"disk":1073741824}`}
			if !c.deleted.IsZero() {
				grace := int64(10)
				pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: c.deleted.Add(10 * time.Second)}, &grace
			}
			if c.ours {
				pod.Annotations["binnacle.dev/stopped"] = "x"
			}
			state, exit := kubernetes.State(pod)
			if state != c.state || exit != c.exit {
				t.Errorf("%s, %q; want %s, %q", state, exit, c.state, c.exit)
			}
		})
	}
}

// TestMachineAway: what is said of a session whose server can't be reached.
func TestMachineAway(t *testing.T) {
	ready := func(is corev1.ConditionStatus, ran time.Duration) corev1.PodStatus {
		s := runs()
		s.ContainerStatuses[1].State.Running.StartedAt = metav1.NewTime(noon.Add(-ran))
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: is}}
		return s
	}
	for name, c := range map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"its network is not ready yet":   {ready(corev1.ConditionTrue, 5*time.Second), false},
		"it ran for long":                {ready(corev1.ConditionTrue, time.Hour), true},
		"Kubernetes does not hear of it": {ready(corev1.ConditionFalse, 5*time.Second), true},
		"it does not run yet":            {waiting("ContainerCreating", ""), false},
	} {
		if got := kubernetes.MachineAway(&corev1.Pod{Status: c.status}, noon); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
