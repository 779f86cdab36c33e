package kubernetes

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// Logs implements session.Spawner. How much is kept of a session's output is the
// kubelet's to say (containerLogMaxSize).
func (s *Spawner) Logs(ctx context.Context, id string, follow bool, w io.Writer) error {
	changed, stop := s.news.of(id)
	defer stop()
	var since *metav1.Time
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("follow the session's log: %w", err)
		}
		st, err := s.Get(ctx, id)
		if err != nil && since != nil {
			return nil // stopped meanwhile
		}
		if err != nil {
			return err
		}
		if st.State != session.Starting {
			if err := s.copyLog(ctx, id, follow && st.State == session.Running, since, w); err != nil {
				return err
			}
			since = &metav1.Time{Time: time.Now()}
		}
		if !follow || st.State == session.Exited {
			return nil
		}
		if err := s.untilChange(ctx, id, changed); err != nil {
			return err
		}
	}
}

// untilChange waits after the end of a log: mostly the session has ended and the
// watch will tell; else the connection broke, and the log goes on.
func (s *Spawner) untilChange(ctx context.Context, id string, changed <-chan struct{}) error {
	const patience = 5 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if pod, err := s.pods.Get(id); err != nil || ended(pod) {
			return nil // it is gone, or has ended
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("follow the session's log: %w", ctx.Err())
		}
	}
}

func ended(pod *corev1.Pod) bool {
	st, _ := state(pod)
	return st == session.Exited
}

func (s *Spawner) copyLog(ctx context.Context, id string, follow bool, since *metav1.Time, w io.Writer) error {
	opts := &corev1.PodLogOptions{Container: container, Follow: follow, SinceTime: since}
	r, err := s.client.CoreV1().Pods(s.cfg.Namespace).GetLogs(id, opts).Stream(ctx)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsBadRequest(err):
		return nil // the kubelet has no log of it, or not yet
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("follow the session's log: %w", ctx.Err())
	case err != nil:
		return away("read the session's log", err)
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("follow the session's log: %w", ctx.Err())
	case follow:
		return nil // the connection broke; the caller goes on
	}
	return fmt.Errorf("copy the session's log: %w", err)
}
