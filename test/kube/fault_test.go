package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// storage: a claim gets a volume, which goes with it.
func (w world) storage(t *testing.T) {
	claims := w.Client.CoreV1().PersistentVolumeClaims(w.namespace)
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "writer"}, Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: new(int64(1000))},
		Containers:      []corev1.Container{{Name: "box", Image: w.Box, Args: []string{"fill", "/data/file", "1"}, VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
		Volumes:         []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}},
	}})
	claim, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil || claim.Status.Phase != corev1.ClaimBound {
		t.Fatalf("the claim is %s (%v), and a pod runs with it", claim.Status.Phase, err)
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	if err := errors.Join(w.Client.CoreV1().Pods(w.namespace).Delete(t.Context(), "writer", now), claims.Delete(t.Context(), "data", now)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the volume goes", func() error {
		_, err := w.Client.CoreV1().PersistentVolumes().Get(t.Context(), claim.Spec.VolumeName, metav1.GetOptions{})
		if err == nil {
			return errors.New("it is there")
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// registry: each fault is felt by a kubelet that pulls, in its words.
func (w world) registry(t *testing.T) {
	pods := w.Client.CoreV1().Pods(w.namespace)
	for how, words := range map[string]string{"down": "EOF", "denied": "403 Forbidden", "limited": "429 Too Many Requests"} {
		mend := w.SpoilRegistry(t, how)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: how}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "box", Image: w.Box, ImagePullPolicy: corev1.PullAlways}},
		}}
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod says why it does not start", func() error {
			pod, err := pods.Get(t.Context(), how, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, s := range pod.Status.ContainerStatuses {
				if s.State.Waiting != nil && strings.Contains(s.State.Waiting.Message, words) {
					return nil
				}
			}
			return fmt.Errorf("it says %+v", pod.Status.ContainerStatuses)
		})
		mend()
	}
}

// faults: what fails is felt, and comes back.
func (w world) faults(t *testing.T) {
	w.run(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "survivor"}, Spec: corev1.PodSpec{
		NodeName: "node2", Containers: []corev1.Container{{Name: "box", Image: w.Box, Args: []string{"serve", ":8080", "alive"}}},
	}})
	pods := w.Client.CoreV1().Pods(w.namespace)
	answers := func() error {
		pod, err := pods.Get(t.Context(), "survivor", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return get(t.Context(), "http://"+pod.Status.PodIP+":8080", "alive")
	}
	if err := answers(); err != nil {
		t.Fatal(err)
	}

	resume := w.Pause(t, "kube-apiserver")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := pods.List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("the API server answers while it is paused")
	}
	resume()
	for _, program := range []string{"kube-apiserver", "node2/containerd"} {
		if err := w.Signal(program, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, program+" comes back", answers)
	}

	if err := w.Signal("node1", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	service, err := w.Client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reached := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(service.Spec.ClusterIP, "443"))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	eventually(t, "Services are reached through the other node", reached)
	eventually(t, "node1 is started again", func() error { return w.StartNode(t.Context(), "node1") })
	eventually(t, "Services are reached", reached)

	if err := w.Signal("node2", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is gone with its node", func() error {
		if answers() == nil {
			return errors.New("it answers")
		}
		return nil
	})
	eventually(t, "the node is started again", func() error { return w.StartNode(t.Context(), "node2") })
	eventually(t, "the pod is started again", func() error {
		pod, err := pods.Get(t.Context(), "survivor", metav1.GetOptions{})
		if err == nil && (len(pod.Status.ContainerStatuses) != 1 || pod.Status.ContainerStatuses[0].RestartCount == 0) {
			err = fmt.Errorf("its status is the old one: %+v", pod.Status.ContainerStatuses)
		}
		return errors.Join(err, answers())
	})
}
