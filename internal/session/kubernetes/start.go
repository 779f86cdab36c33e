package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// requestTimeout bounds requests to the cluster that make something: one that is
// cut off leaves us not knowing whether it did.
const requestTimeout = 30 * time.Second

// Start implements session.Spawner. It waits for a machine with room up to the
// configured time, and tells spec.Waiting what it waits for. Beside the errors of
// the contract it returns limited when the cluster has no room or a quota is
// used up, and invalid when the image has no server.
func (s *Spawner) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	if !session.ValidID(spec.ID) || spec.ID[len(spec.ID)-1] == '-' {
		return session.Status{}, binnacle.Errorf(binnacle.CodeInvalid, "A session cannot be called %q.", spec.ID)
	}
	if spec.Mount != "" {
		return session.Status{}, &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: opStart, Message: "A directory of this machine cannot be edited live on Kubernetes.", Hint: "Launch it without editing.",
		}
	}
	if err := s.claims.Claim(spec.ID); err != nil {
		return session.Status{}, err
	}
	defer s.claims.Release(spec.ID)
	if err := s.know(ctx); err != nil {
		return session.Status{}, err
	}
	if _, err := s.pods.Get(spec.ID); err == nil {
		return session.Status{}, session.Taken(spec.ID)
	}
	image, err := s.images.Config(ctx, spec.Image)
	if err != nil {
		return session.Status{}, err
	}
	return s.start(ctx, spec, image)
}

// start makes the Secret first: whoever made it owns the id, and the kubelet
// never looks for it in vain.
func (s *Spawner) start(ctx context.Context, spec session.Spec, image ocispec.ImageConfig) (_ session.Status, err error) {
	pod, err := s.cfg.pod(spec, image, time.Now())
	if err != nil {
		return session.Status{}, &binnacle.Error{
			Code: binnacle.CodeInternal, Op: opStart, Message: "The session's pod cannot be described.", Hint: "The operator of this hub must look at the setting kubernetes.session.pod.", Err: err,
		}
	}
	if err := ctx.Err(); err != nil {
		return session.Status{}, fmt.Errorf("start the session: %w", err)
	}
	changed, stop := s.news.of(spec.ID)
	defer stop()
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	secret, err := s.client.CoreV1().Secrets(s.cfg.Namespace).Create(whole, s.cfg.secret(spec), metav1.CreateOptions{})
	if err != nil {
		return session.Status{}, refused(spec.ID, err)
	}
	made := owned{id: spec.ID, secret: secret.UID}
	defer func() {
		if err != nil {
			if leftErr := s.clean(context.WithoutCancel(ctx), made); leftErr != nil {
				s.log.WarnContext(ctx, "a session that did not start could not be removed", "session_id", spec.ID, "error", leftErr)
			}
		}
	}()
	if err := ctx.Err(); err != nil {
		return session.Status{}, fmt.Errorf("start the session: %w", err)
	}
	created, err := s.client.CoreV1().Pods(s.cfg.Namespace).Create(whole, pod, metav1.CreateOptions{})
	if err != nil {
		return session.Status{}, refused(spec.ID, err)
	}
	made.pod, made.hasPod = created.UID, true
	if err := s.adopt(whole, created); err != nil {
		return session.Status{}, err
	}
	s.graves.remove(spec.ID)
	return s.running(ctx, spec, created.UID, changed)
}

// adopt makes the Secret go when the pod does, whoever deletes it.
func (s *Spawner) adopt(ctx context.Context, pod *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}})
	if err != nil {
		return fmt.Errorf("write the owner of the token: %w", err)
	}
	if _, err := s.client.CoreV1().Secrets(s.cfg.Namespace).Patch(ctx, secretName(pod.Name), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return refused(pod.Name, err)
	}
	return nil
}

// running waits until the session's process runs.
func (s *Spawner) running(ctx context.Context, spec session.Spec, uid types.UID, changed <-chan struct{}) (session.Status, error) {
	limit := time.NewTimer(s.cfg.StartTimeout)
	defer limit.Stop()
	var last *trouble
	seen, told := false, ""
	for {
		pod, err := s.pods.Get(spec.ID)
		switch {
		case err != nil && seen:
			return session.Status{}, &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: opStart, Message: "The session was deleted in the cluster while it was starting.", Hint: "Launch again.", Err: errGone,
			}
		case err == nil && pod.UID == uid:
			seen = true
			st := s.status(pod)
			if done, err := outcome(pod, st); done {
				s.starts.add(pod)
				return st, err
			}
			if last = look(pod); last != nil && last.final {
				return session.Status{}, last.err
			}
		}
		if last != nil && last.err.Message != told {
			told = last.err.Message
			s.log.InfoContext(ctx, "a session waits to start", "session_id", spec.ID, "reason", told, "error", last.err.Err)
			if spec.Waiting != nil {
				spec.Waiting(told)
			}
		}
		select {
		case <-changed:
		case <-limit.C:
			return session.Status{}, tooLate(last, s.cfg.StartTimeout)
		case <-ctx.Done():
			return session.Status{}, cutOff(ctx.Err(), last)
		}
	}
}

// outcome says whether a start is over: the process runs, or it ran, or it will
// never run.
func outcome(pod *corev1.Pod, st session.Status) (bool, error) {
	if st.State == session.Starting || st.State == session.Running && st.Token == "" { // its Secret is on its way to us
		return false, nil
	}
	if st.State == session.Running {
		return true, nil
	}
	cs := serverOf(pod)
	if cs != nil && cs.State.Terminated != nil {
		if cannotRun(cs.State.Terminated) {
			return true, session.CannotRun(errors.New(cs.State.Terminated.Message))
		}
		if !cs.State.Terminated.StartedAt.IsZero() {
			return true, nil // it ran and ended; Exit says why
		}
	}
	e := &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: opStart, Message: "The session did not start. " + st.Exit, Hint: "Try again.", Err: errors.New(pod.Status.Reason + ": " + pod.Status.Message),
	}
	return true, e
}

// tooLate is the error after the time a session may wait.
func tooLate(last *trouble, limit time.Duration) error {
	if last != nil {
		return last.err
	}
	return &binnacle.Error{
		Code: binnacle.CodeTimeout, Op: opStart, Message: fmt.Sprintf("The cluster did not start the session within %s.", limit), Hint: "Try again in a few minutes.",
	}
}

// cutOff keeps the context's code and says what the start was waiting for.
func cutOff(err error, last *trouble) error {
	if last == nil || !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("start the session: %w", err)
	}
	return &binnacle.Error{Code: binnacle.CodeTimeout, Op: opStart, Message: last.err.Message, Hint: last.err.Hint, Err: errors.Join(err, last.err.Err)}
}
