package release

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Hopeless is what Wait gives up for.
func Hopeless(p corev1.Pod, now time.Time) bool { return hopeless(p, now) }
