package release

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// Of is a client of a cluster that is only said to be there.
func Of(client kubernetes.Interface, namespace string) *Client {
	return &Client{client: client, namespace: namespace}
}

// Hopeless is what Wait gives up for.
func Hopeless(p corev1.Pod, now time.Time) bool { return hopeless(p, now) }
