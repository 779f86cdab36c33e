package kubernetes

import (
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// Sentences about ends that a session's server did not bring about.
const (
	exitDeleted   = "It was deleted in the cluster."
	exitStopped   = "It is being stopped."
	exitDrained   = "The machine it ran on was taken out of service."
	exitLost      = "The machine it ran on was lost."
	exitShutdown  = "The machine it ran on was shut down."
	exitPreempted = "It had to make room for something more important in the cluster."
	exitMemory    = "The machine it ran on ran out of memory."
	exitDisk      = "The machine it ran on ran out of disk space."
	exitPressure  = "The machine it ran on ran out of resources."
	exitRefused   = "The machine it was put on had no room for it any more."
	exitCommand   = "The image's command is missing or cannot run."
)

// state is what a pod's status means for the session, with the reason of its end.
func state(pod *corev1.Pod) (session.State, string) {
	var ran corev1.ContainerState
	if cs := serverOf(pod); cs != nil {
		ran = cs.State
	}
	reason, disrupted := disruption(pod)
	switch {
	case ran.Terminated != nil, pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		return session.Exited, exit(pod, ran.Terminated)
	case pod.DeletionTimestamp != nil && disrupted:
		return session.Exited, reason
	case pod.DeletionTimestamp != nil:
		return session.Exited, deleted(pod)
	case disrupted && reason == exitLost:
		return session.Exited, reason
	case ran.Running != nil:
		return session.Running, ""
	default:
		return session.Starting, ""
	}
}

// serverOf is nil before the kubelet has told of the container.
func serverOf(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == container {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}

// exit is a sentence about a pod that ended; the last state of its container may
// be unknown.
func exit(pod *corev1.Pod, t *corev1.ContainerStateTerminated) string {
	if reason, ok := disruption(pod); ok {
		return reason
	}
	switch {
	case t == nil && pod.DeletionTimestamp != nil:
		return deleted(pod)
	case t == nil && pod.Status.Phase == corev1.PodSucceeded:
		return session.ExitByCode(0)
	case t == nil:
		return exitLost
	case t.Reason == "OOMKilled":
		return session.ExitByMemory(limitsOf(pod).Memory)
	case cannotRun(t):
		return exitCommand
	case t.Reason == "ContainerStatusUnknown":
		return exitLost
	case pod.DeletionTimestamp != nil && !t.FinishedAt.Time.Before(askedToEnd(pod)):
		return deleted(pod)
	}
	return session.ExitByCode(int(t.ExitCode))
}

// askedToEnd is when the pod was deleted, at the earliest: its timestamp is when
// it must be gone, which the kubelet moves forward once nothing runs.
func askedToEnd(pod *corev1.Pod) time.Time {
	var grace int64
	for _, g := range []*int64{pod.DeletionGracePeriodSeconds, pod.Spec.TerminationGracePeriodSeconds} {
		if g != nil {
			grace = max(grace, *g)
		}
	}
	return pod.DeletionTimestamp.Add(-time.Duration(grace+1) * time.Second)
}

func deleted(pod *corev1.Pod) string {
	if pod.Annotations[noteStopped] != "" {
		return exitStopped
	}
	return exitDeleted
}

// cannotRun says that the command did not start.
func cannotRun(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "StartError" || t.Reason == "ContainerCannotRun"
}

// disruption is why the cluster itself ended the pod, or is about to.
func disruption(pod *corev1.Pod) (string, bool) {
	switch pod.Status.Reason {
	case "Evicted":
		return evicted(pod.Status.Message, limitsOf(pod)), true
	case "NodeLost":
		return exitLost, true
	case "Terminated", "NodeShutdown", "Shutdown":
		return exitShutdown, true
	case "Preempting":
		return exitPreempted, true
	case "UnexpectedAdmissionError", "NodeAffinity", "OutOfmemory", "OutOfcpu", "OutOfpods", "OutOfephemeral-storage":
		return exitRefused, true
	}
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Reason {
		case "EvictionByEvictionAPI":
			return exitDrained, true
		case "DeletionByTaintManager", "DeletionByPodGC":
			return exitLost, true
		case corev1.PodReasonPreemptionByScheduler:
			return exitPreempted, true
		case corev1.PodReasonTerminationByKubelet:
			return evicted(pod.Status.Message, limitsOf(pod)), true
		}
	}
	return "", false
}

// evicted reads the kubelet's reason: the session's own doing or the machine's.
func evicted(message string, limits binnacle.Limits) string {
	said := strings.ToLower(message)
	own := strings.Contains(said, "exceed")
	switch {
	case own && strings.Contains(said, `emptydir volume "shm"`):
		return session.ExitByMemory(limits.Memory)
	case own && (strings.Contains(said, "ephemeral") || strings.Contains(said, "emptydir")):
		return session.ExitByDisk(limits.Disk)
	case strings.Contains(said, "resource: memory"):
		return exitMemory
	case strings.Contains(said, "ephemeral-storage"), strings.Contains(said, "inodes"):
		return exitDisk
	case strings.Contains(said, "shutdown"):
		return exitShutdown
	}
	return exitPressure
}

// errGone is of a pod that went away while it was waited for.
var errGone = errors.New("its pod was deleted meanwhile")
