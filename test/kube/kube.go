// Package kube runs a real Kubernetes for tests: etcd, the API server,
// controllers, scheduler, kubelets with containerd, kube-proxy and CoreDNS,
// compiled from their Go modules, on this machine alone.
package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Cluster is a Kubernetes that runs.
type Cluster struct {
	// Kubeconfig is the path of a file for kubectl, Helm and client-go.
	Kubeconfig string
	// Config reaches the API server as an administrator.
	Config *rest.Config
	// Client is a client made from Config.
	Client kubernetes.Interface
	// Registry is the host:port of an OCI registry without TLS and without
	// credentials, the same for this process, the nodes and pods.
	Registry string
}

// ready tells whether the kubelet of a node takes pods.
func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

var _ = ready
var _ v1.Object
