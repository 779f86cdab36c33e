// Package kube runs a real Kubernetes for tests: etcd, the API server,
// controllers, scheduler, kubelets with containerd, kube-proxy and CoreDNS,
// compiled from their Go modules, on this machine alone.
package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Ready returns the names of the nodes that take pods.
func (c *Cluster) Ready(ctx context.Context) ([]string, error) {
	list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var names []string
	for _, node := range list.Items {
		for _, cond := range node.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
				names = append(names, node.Name)
			}
		}
	}
	return names, nil
}
