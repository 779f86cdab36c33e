package cluster

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const corefile = `.:53 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 5
    }
    forward . %s
    cache 5
    loadbalance
}
`

// install puts into the cluster what every cluster has: DNS, with the names and
// labels by which charts and network policies know it.
func (c *cluster) install(ctx context.Context) error {
	system := metav1.ObjectMeta{Name: "coredns", Namespace: metav1.NamespaceSystem}
	labels := map[string]string{"k8s-app": "kube-dns"}
	var opts metav1.CreateOptions
	if _, err := c.client.CoreV1().ServiceAccounts(system.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: system}, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "system:coredns"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces", "endpoints"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
	}}
	if _, err := c.client.RbacV1().ClusterRoles().Create(ctx, role, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "system:coredns"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: system.Namespace, Name: system.Name}},
	}
	if _, err := c.client.RbacV1().ClusterRoleBindings().Create(ctx, binding, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	config := &corev1.ConfigMap{ObjectMeta: system, Data: map[string]string{"Corefile": fmt.Sprintf(corefile, c.host())}}
	if _, err := c.client.CoreV1().ConfigMaps(system.Namespace).Create(ctx, config, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: system.Namespace, Labels: labels},
		Spec: corev1.ServiceSpec{Selector: labels, ClusterIP: c.dnsService().String(), Ports: []corev1.ServicePort{
			{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53},
		}},
	}
	if _, err := c.client.CoreV1().Services(system.Namespace).Create(ctx, service, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	deployment := &appsv1.Deployment{ObjectMeta: system, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: c.corednsPod(system.Name)},
	}}
	if _, err := c.client.AppsV1().Deployments(system.Namespace).Create(ctx, deployment, opts); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	return nil
}

// corednsPod runs the program from this machine's disk: an image of it would be
// packed and unpacked at every start for nothing.
func (c *cluster) corednsPod(name string) corev1.PodSpec {
	file := corev1.HostPathFile
	return corev1.PodSpec{
		ServiceAccountName: name, PriorityClassName: "system-cluster-critical", DNSPolicy: corev1.DNSDefault,
		Containers: []corev1.Container{{
			Name: "coredns", Image: c.box(), Command: []string{"/coredns", "-conf", "/etc/coredns/Corefile"},
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns"}, {Name: "program", MountPath: "/coredns", ReadOnly: true}},
			ReadinessProbe: &corev1.Probe{
				PeriodSeconds: 1, FailureThreshold: 5,
				ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8181)}},
			},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}},
			{Name: "program", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: c.nodeProgram("coredns"), Type: &file}}},
		},
	}
}
