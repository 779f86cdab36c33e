package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// removeTimeout bounds a removal beyond the grace period: then the machine is
// taken to be lost.
const removeTimeout = 30 * time.Second

// Stop implements session.Spawner. Once begun it goes on when ctx ends, but
// without the grace period.
func (s *Spawner) Stop(ctx context.Context, id string) error {
	if !session.ValidID(id) {
		return nil
	}
	if err := s.claims.Await(ctx, id); err != nil {
		return err
	}
	defer s.claims.Release(id)
	if err := s.know(ctx); err != nil {
		return err
	}
	s.graves.remove(id)
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	// The cache may not have seen what another hub started just now.
	pod, err := s.client.CoreV1().Pods(s.cfg.Namespace).Get(whole, id, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errors.Join(s.unseen(whole, id), s.clean(context.WithoutCancel(ctx), owned{id: id}))
	}
	if err != nil {
		return away("look for the session", err)
	}
	if !labels.SelectorFromSet(s.cfg.selector()).Matches(labels.Set(pod.Labels)) {
		return nil // somebody else's pod
	}
	if err := s.note(whole, pod); err != nil {
		return err
	}
	grace := s.cfg.Grace
	if ctx.Err() != nil {
		grace = 0
	}
	if err := s.remove(ctx, owned{id: id, pod: pod.UID, hasPod: true}, grace); err != nil {
		return err
	}
	return s.clean(context.WithoutCancel(ctx), owned{id: id})
}

// unseen waits until our own view, too, has no such pod, so that another may be made.
func (s *Spawner) unseen(ctx context.Context, id string) error {
	changed, stop := s.news.of(id)
	defer stop()
	for {
		if _, err := s.pods.Get(id); err != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return away("remove the session", errors.New("the watch does not tell that it is gone"))
		}
	}
}

// note writes that it is us who stop the session, for the other hubs.
func (s *Spawner) note(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "annotations": map[string]string{noteStopped: time.Now().UTC().Format(time.RFC3339)},
	}})
	if err != nil {
		return fmt.Errorf("write that the session is stopped: %w", err)
	}
	_, err = s.client.CoreV1().Pods(s.cfg.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return away("stop the session", err)
	}
	return nil
}

// owned is what a start made, as far as it came.
type owned struct {
	id          string
	secret, pod types.UID // empty is any
	hasPod      bool
}

// clean takes away what there is of a session, at once. What is gone already is
// no error.
func (s *Spawner) clean(ctx context.Context, o owned) error {
	var errs []error
	if o.hasPod {
		errs = append(errs, s.remove(ctx, o, 0))
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	changed, stop := s.news.of(o.id)
	defer stop()
	err := s.client.CoreV1().Secrets(s.cfg.Namespace).Delete(ctx, secretName(o.id), preconditions(o.secret, 0))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict is another's Secret
		return errors.Join(append(errs, away("remove the session's token", err))...)
	}
	for err == nil { // until we see it ourselves
		secret, missing := s.secrets.Get(secretName(o.id))
		if missing != nil || o.secret != "" && secret.UID != o.secret {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = away("remove the session's token", errors.New("the watch does not tell that it is gone"))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func preconditions(uid types.UID, grace time.Duration) metav1.DeleteOptions {
	var o metav1.DeleteOptions
	if uid != "" {
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	if grace > 0 {
		seconds := int64(math.Ceil(grace.Seconds()))
		o.GracePeriodSeconds = &seconds
	}
	return o
}

// shortest is the grace period of a removal that cannot wait. With 0 the cluster
// would forget the pod while it may still run.
const shortest = time.Second

// remove ends the pod and waits until it is gone: asked first, then at once when
// ctx ends, then without its machine, which may be lost.
func (s *Spawner) remove(ctx context.Context, o owned, grace time.Duration) error {
	changed, stop := s.news.of(o.id)
	defer stop()
	grace = max(grace, shortest)
	whole := context.WithoutCancel(ctx)
	if err := s.deletePod(whole, o, preconditions(o.pod, grace)); err != nil {
		return err
	}
	early := ctx.Done()
	limit := time.NewTimer(grace + removeTimeout)
	defer limit.Stop()
	forced := false
	for {
		gone, err := s.gone(whole, o)
		if gone || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-early:
			early = nil
			if err := s.deletePod(whole, o, preconditions(o.pod, shortest)); err != nil {
				return err
			}
			limit.Reset(shortest + removeTimeout)
		case <-limit.C:
			if forced {
				return away("remove the session", errors.New("the watch does not tell that it is gone"))
			}
			forced = true
			s.log.WarnContext(ctx, "a session's machine does not answer; the session is removed without it", "session_id", o.id)
			now := preconditions(o.pod, 0)
			now.GracePeriodSeconds = new(int64)
			if err := s.deletePod(whole, o, now); err != nil {
				return err
			}
			limit.Reset(removeTimeout)
		}
	}
}

// gone asks the cluster once our own view has no such pod: a pod that was made
// just now may not be in it yet.
func (s *Spawner) gone(ctx context.Context, o owned) (bool, error) {
	other := func(pod *corev1.Pod) bool { return o.pod != "" && pod.UID != o.pod }
	if pod, err := s.pods.Get(o.id); err == nil && !other(pod) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pod, err := s.client.CoreV1().Pods(s.cfg.Namespace).Get(ctx, o.id, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, away("look whether the session is gone", err)
	}
	return err != nil || other(pod), nil
}

func (s *Spawner) deletePod(ctx context.Context, o owned, opts metav1.DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := s.client.CoreV1().Pods(s.cfg.Namespace).Delete(ctx, o.id, opts)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict is another's pod
		return away("remove the session", err)
	}
	return nil
}

// Reconcile removes what hubs left that were killed while they started a session:
// Secrets without a pod, and pods that do not run long after they should. One hub
// calls it from time to time.
func (s *Spawner) Reconcile(ctx context.Context) error {
	if err := s.know(ctx); err != nil {
		return err
	}
	long := s.cfg.StartTimeout + requestTimeout + removeTimeout
	var errs []error
	pods, err := s.pods.List(labels.Everything())
	errs = append(errs, err)
	for _, pod := range pods {
		id := pod.Labels[labelSession]
		if st, _ := state(pod); st == session.Starting && time.Since(pod.CreationTimestamp.Time) > long && !s.claims.Claimed(id) {
			s.log.InfoContext(ctx, "removing a session whose start was cut off", "session_id", id)
			errs = append(errs, s.clean(ctx, owned{id: id, pod: pod.UID, hasPod: true}))
		}
	}
	secrets, err := s.secrets.List(labels.Everything())
	errs = append(errs, err)
	for _, secret := range secrets {
		id := secret.Labels[labelSession]
		if _, err := s.pods.Get(id); err != nil && time.Since(secret.CreationTimestamp.Time) > long && !s.claims.Claimed(id) {
			errs = append(errs, s.clean(ctx, owned{id: id, secret: secret.UID}))
		}
	}
	return errors.Join(errs...)
}
