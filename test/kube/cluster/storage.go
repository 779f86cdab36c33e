package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// provisioner is the name by which the storage class means us.
const provisioner = "binnacle.test/directory"

// storage gives each PersistentVolumeClaim a directory of this machine, which
// every node sees, and removes it with its volume.
type storage struct{ *cluster }

// run serves the default storage class until ctx is done.
func (s *storage) run(ctx context.Context) error {
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: provisioner, ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete), VolumeBindingMode: new(storagev1.VolumeBindingImmediate),
	}
	if _, err := s.client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil && ctx.Err() == nil {
		return fmt.Errorf("make the storage class: %w", err)
	}
	factory := informers.NewSharedInformerFactory(s.client, time.Minute)
	handle := func(obj any) {
		var err error
		switch o := obj.(type) {
		case *corev1.PersistentVolumeClaim:
			err = s.provide(ctx, class.Name, o)
		case *corev1.PersistentVolume:
			err = s.reclaim(ctx, o)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "a volume is not right", "error", err)
		}
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().PersistentVolumeClaims().Informer(), factory.Core().V1().PersistentVolumes().Informer(),
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }})
		if err != nil {
			return fmt.Errorf("watch volumes: %w", err)
		}
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// provide makes the volume of a claim that has none.
func (s *storage) provide(ctx context.Context, class string, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" || claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != class || claim.DeletionTimestamp != nil {
		return nil
	}
	volumeName := "pvc-" + string(claim.UID)
	dir, kind := s.path("volumes", volumeName), corev1.HostPathDirectory
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.Chmod(dir, 0o777) // for whatever user a pod runs as
	}
	if err != nil {
		return fmt.Errorf("make the directory of %s: %w", claim.Name, err)
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volumeName, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: claim.Spec.AccessModes, StorageClassName: class, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			ClaimRef: &corev1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: &kind}},
		},
	}
	if _, err := s.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the volume of %s: %w", claim.Name, err)
	}
	return nil
}

// reclaim removes a volume whose claim has gone.
func (s *storage) reclaim(ctx context.Context, volume *corev1.PersistentVolume) error {
	if volume.Status.Phase != corev1.VolumeReleased || volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner {
		return nil
	}
	err := s.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.path("volumes", volume.Name)))
}
