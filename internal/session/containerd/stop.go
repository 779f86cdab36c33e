package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"

	"github.com/binnacle-hub/binnacle/internal/session"
)

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
	return s.remove(ctx, id, s.cfg.Grace)
}

// removeTimeout bounds a removal whose caller no longer waits.
const removeTimeout = 30 * time.Second

// remove ends the process and takes everything of the session away. What is
// gone already is no error, so that a removal that was cut off can be repeated.
func (s *Spawner) remove(ctx context.Context, id string, grace time.Duration) error {
	whole, cancel := context.WithTimeout(s.with(context.WithoutCancel(ctx)), grace+removeTimeout)
	defer cancel()
	container, err := s.client.LoadContainer(whole, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return away("look for the session", err)
	}
	if err == nil {
		if l, err := container.Labels(whole); err != nil || l[labelSession] != id {
			return session.NotThere(id) // somebody else's container
		}
		if err := s.end(ctx, whole, container, grace); err != nil {
			return err
		}
		if err := container.Delete(whole); err != nil && !errdefs.IsNotFound(err) {
			return away("remove the session's container", err)
		}
	}
	if err := s.client.SnapshotService(s.cfg.Snapshotter).Remove(whole, snapshotKey(id)); err != nil && !errdefs.IsNotFound(err) {
		return away("remove the session's files", err)
	}
	errs := []error{s.net.Detach(whole, id)}
	if err := os.RemoveAll(s.dir(id)); err != nil {
		errs = append(errs, fmt.Errorf("remove the session's directory: %w", err))
	}
	return errors.Join(errs...)
}

// end ends the session's process: asked first, then by force.
func (s *Spawner) end(ctx, whole context.Context, container client.Container, grace time.Duration) error {
	task, err := container.Task(whole, nil)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return away("look for the session's process", err)
	}
	exited, err := task.Wait(whole)
	if err != nil && !errdefs.IsNotFound(err) {
		return away("wait for the session's process", err)
	}
	if grace > 0 && exited != nil && task.Kill(whole, syscall.SIGTERM) == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-exited:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if _, err := task.Delete(whole, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		return away("end the session's process", err)
	}
	return nil
}

// ended is closed when the session's process ends, or is gone.
func (s *Spawner) ended(ctx context.Context, id string) (<-chan struct{}, error) {
	done := make(chan struct{})
	container, err := s.client.LoadContainer(s.with(ctx), id)
	if err == nil {
		var task client.Task
		if task, err = container.Task(s.with(ctx), nil); err == nil {
			var exited <-chan client.ExitStatus
			if exited, err = task.Wait(s.with(ctx)); err == nil {
				go func() { // ends with the caller's context at the latest
					<-exited
					if ctx.Err() == nil {
						close(done)
					}
				}()
				return done, nil
			}
		}
	}
	if errdefs.IsNotFound(err) {
		close(done)
		return done, nil
	}
	return nil, away("wait for the session's process", err)
}

// dropLeases lets go of images whose unpacking was cut off.
func (s *Spawner) dropLeases(ctx context.Context) error {
	ctx = s.with(ctx)
	all := s.client.LeasesService()
	list, err := all.List(ctx, `labels."`+labelSession+`"`)
	if err != nil {
		return away("list the leases", err)
	}
	var errs []error
	for _, l := range list {
		if s.claims.Claimed(l.Labels[labelSession]) {
			continue
		}
		if err := all.Delete(ctx, l, leases.SynchronousDelete); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, away("let go of an image", err))
		}
	}
	return errors.Join(errs...)
}

// Reconcile makes this machine agree with what sessions there are, after this
// process was killed or the machine was restarted: what never started is
// removed, and so are directories and networks without a session. Sessions that
// ended stay as they are until they are stopped.
func (s *Spawner) Reconcile(ctx context.Context) error {
	all, err := s.containers(s.with(ctx))
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	var errs []error
	for _, c := range all {
		if s.started(c.ID) || s.claims.Claimed(c.ID) {
			keep[c.ID] = true
			continue
		}
		s.log.InfoContext(ctx, "removing a session whose start was cut off", "session_id", c.ID)
		errs = append(errs, s.remove(ctx, c.ID, 0))
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the directories of sessions: %w", err)
	}
	for _, e := range entries {
		if id := e.Name(); session.ValidID(id) && !keep[id] && !s.claims.Claimed(id) {
			errs = append(errs, s.remove(ctx, id, 0))
		}
	}
	errs = append(errs, s.dropLeases(ctx), s.net.Sweep(ctx, func(id string) bool { return keep[id] || s.claims.Claimed(id) }))
	for id := range keep {
		errs = append(errs, s.recordExit(ctx, id))
	}
	return errors.Join(errs...)
}
