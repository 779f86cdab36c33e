package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/binnacle-hub/binnacle"
)

// The lock of a deployment is a Lease in its namespace. Its holder renews it
// while it works; one that was killed does not, and the lock is free again after
// leaseTime, by the clocks of both.
const (
	leaseTime  = 30 * time.Second
	leaseRenew = leaseTime / 6
)

// lock is the deployment's lock as one process sees it.
type lock struct {
	client          kubernetes.Interface
	namespace, name string
	holder          string
	tell            func(string) // may be nil

	mu   sync.Mutex
	held bool
	stop context.CancelFunc
	done sync.WaitGroup
}

func newLock(client kubernetes.Interface, namespace, deployment, holder string, tell func(string)) *lock {
	return &lock{client: client, namespace: namespace, name: deployment + "-deploy", holder: holder, tell: tell}
}

// free says that a lease is nobody's any more.
func free(l *coordination.Lease) bool {
	return l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" || l.Spec.RenewTime == nil || time.Since(l.Spec.RenewTime.Time) > leaseTime
}

// heldByOther says that another process works on the deployment now.
func (l *lock) heldByOther(ctx context.Context) (bool, error) {
	lease, err := l.client.CoordinationV1().Leases(l.namespace).Get(ctx, l.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, explain("look who works on the deployment", err)
	}
	return !free(lease) && *lease.Spec.HolderIdentity != l.holder, nil
}

// take holds the lock from now on, and is nothing when we hold it. Returns
// conflict, with who it is, when another process holds it and works. One that was
// killed is waited out.
func (l *lock) take(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return nil
	}
	err := l.write(ctx)
	if binnacle.CodeOf(err) == binnacle.CodeConflict {
		err = l.outlast(ctx)
	}
	if err != nil {
		return err
	}
	l.held = true
	// It is held until released, longer than the step that took it.
	renewing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = cancel
	l.done.Go(func() { l.renew(renewing) })
	return nil
}

// write makes the lease ours if it is free.
func (l *lock) write(ctx context.Context) error {
	leases := l.client.CoordinationV1().Leases(l.namespace)
	now := metav1.NowMicro()
	spec := coordination.LeaseSpec{HolderIdentity: &l.holder, LeaseDurationSeconds: new(int32(leaseTime / time.Second)), AcquireTime: &now, RenewTime: &now}
	_, err := leases.Create(ctx, &coordination.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.name}, Spec: spec}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return explain("lock the deployment", err)
	}
	have, err := leases.Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		return explain("lock the deployment", err)
	}
	if !free(have) && *have.Spec.HolderIdentity != l.holder {
		return busy(*have.Spec.HolderIdentity)
	}
	have.Spec = spec
	if _, err = leases.Update(ctx, have, metav1.UpdateOptions{}); apierrors.IsConflict(err) {
		return busy("somebody else, who was faster")
	}
	return explain("lock the deployment", err)
}

// outlast takes the lock of a holder who does not renew it any more. Returns
// conflict as soon as one does.
func (l *lock) outlast(ctx context.Context) error {
	const pause = 200 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var first *coordination.LeaseSpec
	for {
		have, err := l.client.CoordinationV1().Leases(l.namespace).Get(ctx, l.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return l.write(ctx)
		case err != nil:
			return explain("look who works on the deployment", err)
		case free(have):
			return l.write(ctx)
		case first == nil:
			first = &have.Spec
			if l.tell != nil {
				l.tell(fmt.Sprintf("another run holds the deployment's lock: %s; is it still at work? If not, this goes on after %s at most", *have.Spec.HolderIdentity, leaseTime))
			}
		case *have.Spec.HolderIdentity != *first.HolderIdentity || !have.Spec.RenewTime.Equal(first.RenewTime):
			return busy(*have.Spec.HolderIdentity)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func busy(who string) error {
	return &binnacle.Error{
		Code: binnacle.CodeConflict, Op: "cluster.lock", Message: fmt.Sprintf("Another run works on this deployment: %s.", who),
		Hint: fmt.Sprintf("Wait until it has ended. If it was killed, the lock ends by itself after %s.", leaseTime),
	}
}

// renew keeps the lease ours. A cluster that is away for a moment is asked again.
func (l *lock) renew(ctx context.Context) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = l.write(ctx)
		}
	}
}

// forget stops renewing: the lease is about to be removed with its namespace.
func (l *lock) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		l.stop()
		l.done.Wait()
		l.held = false
	}
}

// sweep removes the lease of a run that was killed; one that somebody holds stays.
func (l *lock) sweep(ctx context.Context) error {
	leases := l.client.CoordinationV1().Leases(l.namespace)
	have, err := leases.Get(ctx, l.name, metav1.GetOptions{})
	if err == nil && free(have) {
		err = leases.Delete(ctx, l.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &have.ResourceVersion}})
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it went, or somebody took it
	}
	return explain("remove a lock that nobody holds", err)
}

// release removes the lease when it is ours.
func (l *lock) release(ctx context.Context) error {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if !held {
		return nil
	}
	l.forget()
	err := l.client.CoordinationV1().Leases(l.namespace).Delete(ctx, l.name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return explain("unlock the deployment", err)
}
