package kubernetes

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// For tests without a cluster.
var (
	State       = state
	MachineAway = machineAway
)

// PodOf is the pod of a session.
func PodOf(c Config, spec session.Spec, image ocispec.ImageConfig, created time.Time) (*corev1.Pod, error) {
	return c.pod(spec, image, created)
}
