package leader_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	coordination "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/leader"
	"github.com/binnacle-hub/binnacle/test/kube"
)

var _ launch.Leader = (*leader.Leader)(nil)

// runs starts a Leader; stop ends it as a replica that is asked to.
func runs(t *testing.T, client kubernetes.Interface, namespace, replica string) (l *leader.Leader, stop func()) {
	t.Helper()
	l = leader.New(leader.Config{Namespace: namespace, Name: "hub", Replica: replica, Duration: 3 * time.Second}, client,
		slog.New(slog.NewTextHandler(t.Output(), nil)))
	if l.Leads() {
		t.Error("it leads before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once atomic.Bool
	stop = func() {
		if once.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil || l.Leads() {
			t.Error("it leads after its end, or:", err)
		}
	}
	t.Cleanup(stop)
	return l, stop
}

func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !f(); {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// election: one leads; when it stops the other does before the lease has run out.
func election(t *testing.T, first, second kubernetes.Interface, namespace string) {
	t.Helper()
	a, stop := runs(t, first, namespace, "a")
	within(t, 10*time.Second, "a leads", a.Leads)
	b, _ := runs(t, second, namespace, "b")
	for range 20 {
		if b.Leads() {
			t.Fatal("both lead")
		}
		<-time.After(50 * time.Millisecond)
	}
	lease, err := first.CoordinationV1().Leases(namespace).Get(t.Context(), "hub", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "a" {
		t.Errorf("%+v, %v", lease, err)
	}
	stop()
	within(t, 2500*time.Millisecond, "b leads", b.Leads)
}

func TestElection(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	election(t, client, client, "ns")
}

// TestLeaderThatIsCutOff stops leading although nobody tells it to, and another
// one leads only then.
func TestLeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	var cut atomic.Bool
	client.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		lease, ok := action.(clienttesting.UpdateAction).GetObject().(*coordination.Lease)
		if ok && cut.Load() && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == "a" {
			return true, nil, errors.New("no route to host")
		}
		return false, nil, nil
	})
	a, _ := runs(t, client, "ns", "a")
	within(t, 5*time.Second, "a leads", a.Leads)
	b, _ := runs(t, client, "ns", "b")
	cut.Store(true)
	within(t, 10*time.Second, "b leads", func() bool {
		if a.Leads() && b.Leads() {
			t.Fatal("both lead")
		}
		return b.Leads()
	})
	cut.Store(false)
	<-time.After(time.Second)
	if a.Leads() || !b.Leads() {
		t.Error("the one that comes back takes the lease")
	}
}

// TestElectionOnCluster is the same on a real API server.
func TestElectionOnCluster(t *testing.T) {
	t.Parallel()
	c := kube.Shared(t)
	namespace := c.Namespace(t)
	var clients []kubernetes.Interface
	for range 2 {
		client, err := kubernetes.NewForConfig(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	election(t, clients[0], clients[1], namespace)
}
