package kubernetes

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// Room tells whether machines and images are there before sessions need them,
// which is what placeholders, packing and pre-pulling are for.
type Room struct {
	// Machines is how many run sessions: packed well, they are few.
	Machines int
	// Waiting is how many sessions have no machine yet.
	Waiting int
	// Starts is how many sessions this process has started.
	Starts int
	// ForMachine is how long these waited for a machine, all together, and ForImage
	// how long then for their image and their process. The cluster counts in seconds.
	ForMachine, ForImage time.Duration
}

// Room is as the watch has it: the cluster is not asked.
func (s *Spawner) Room() Room {
	r := s.starts.sum()
	pods, err := s.pods.List(labels.Everything())
	if err != nil {
		return r
	}
	machines := map[string]bool{}
	for _, pod := range pods {
		switch st, _ := state(pod); {
		case st == session.Exited:
		case pod.Spec.NodeName == "":
			r.Waiting++
		default:
			machines[pod.Spec.NodeName] = true
		}
	}
	r.Machines = len(machines)
	return r
}

// starts adds up what sessions waited for. The zero value is ready.
type starts struct {
	mu  sync.Mutex
	all Room
}

func (s *starts) sum() Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// add counts a pod whose server runs.
func (s *starts) add(pod *corev1.Pod) {
	cs := serverOf(pod)
	if cs == nil || cs.State.Running == nil {
		return // it ended at once
	}
	placed := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			placed = c.LastTransitionTime.Time
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Starts++
	s.all.ForMachine += max(0, placed.Sub(pod.CreationTimestamp.Time))
	s.all.ForImage += max(0, cs.State.Running.StartedAt.Sub(placed))
}
