package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

// pretend is a cluster whose kubelet gives every new pod the same status.
func pretend(t *testing.T, status corev1.PodStatus) (*fake.Clientset, kubernetes.Config) {
	t.Helper()
	client, cfg := fake.NewClientset(), kubernetes.DefaultConfig()
	n := 0
	client.PrependReactor("create", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
		if create, ok := a.(ktesting.CreateAction); ok {
			n++
			pod := create.GetObject().(*corev1.Pod) //nolint:forcetypeassert // it is of pods
			pod.UID, pod.CreationTimestamp = types.UID(fmt.Sprint("uid-", n)), metav1.Now()
			pod.Status = status
		}
		return false, nil, nil
	})
	return client, cfg
}

func spawner(t *testing.T, client *fake.Clientset, cfg kubernetes.Config) *kubernetes.Spawner {
	t.Helper()
	s, err := kubernetes.New(cfg, client, sure{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	run(t, s)
	return s
}

func empty(t *testing.T, client *fake.Clientset) {
	t.Helper()
	pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	secrets, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	if len(pods.Items)+len(secrets.Items) > 0 {
		t.Errorf("left behind: %d pods, %d secrets", len(pods.Items), len(secrets.Items))
	}
}

func TestStartTrouble(t *testing.T) {
	unschedulable := corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
		Message: "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, 2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
	}}}
	noNode := *unschedulable.DeepCopy()
	noNode.Conditions[0].Message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	for name, c := range map[string]struct {
		status  corev1.PodStatus
		code    binnacle.Code
		message string
	}{
		"missing":      {waiting("ErrImagePull", `rpc error: code = NotFound desc = failed to pull and unpack image "registry.example.org/a:1": failed to resolve reference: registry.example.org/a:1: not found`), "not_found", "The image registry.example.org/a:1 is not there."},
		"unknown":      {waiting("ImagePullBackOff", `Back-off pulling image "a": ErrImagePull: manifest unknown: manifest unknown`), "not_found", "is not there"},
		"unauthorized": {waiting("ErrImagePull", "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"), "internal", "does not let the cluster fetch"},
		"denied":       {waiting("ErrImagePull", "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"), "internal", "does not let the cluster fetch"},
		"rate limit":   {waiting("ErrImagePull", "429 Too Many Requests - toomanyrequests: You have reached your pull rate limit."), "limited", "limits how often"},
		"away":         {waiting("ErrImagePull", `failed to do request: Head "https://registry.example.org/v2/": dial tcp: lookup registry.example.org on 10.96.0.10:53: no such host`), "unavailable", "the registry does not answer"},
		"full":         {waiting("ErrImagePull", "write /var/lib/containerd/x: no space left on device"), "unavailable", "no disk space"},
		"name":         {waiting("InvalidImageName", "couldn't parse image name"), "invalid", "is not the name of an image"},
		"command":      {waiting("RunContainerError", `exec: "jupyter": executable file not found in $PATH`), "invalid", "its command is missing"},
		"config":       {waiting("CreateContainerConfigError", `secret "x" not found`), "unavailable", "could not make the session's container"},
		"start":        {startError(), "invalid", "its command is missing"},
		"no room":      {unschedulable, "limited", "its machines lack CPU, disk space, nvidia.com/gpu (0/3 nodes"},
		"no node":      {noNode, "limited", "No machine of the cluster takes sessions like this one"},
		"nothing":      {corev1.PodStatus{Phase: corev1.PodPending}, "timeout", "did not start the session within"},
		"refused":      {failed("OutOfcpu", "Pod was rejected"), "unavailable", "had no room for it any more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, cfg := pretend(t, c.status)
			cfg.StartTimeout = 300 * time.Millisecond
			_, err := spawner(t, client, cfg).Start(t.Context(), sessiontest.NewSpec("a-1", "registry.example.org/a:1"))
			public := binnacle.Public(err)
			if public.Code != c.code || !strings.Contains(public.Message, c.message) {
				t.Errorf("%s: %s; want %s: %s", public.Code, public.Message, c.code, c.message)
			}
			empty(t, client)
		})
	}
}

func startError() corev1.PodStatus {
	st := terminated(128, "StartError")
	st.ContainerStatuses[0].State.Terminated.StartedAt = metav1.Time{}
	return st
}

func TestStartRefused(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		kind string
		err  error
		code binnacle.Code
	}{
		"quota":     {"pods", apierrors.NewForbidden(pods, "a-1", errors.New("exceeded quota: sessions, requested: pods=1, used: pods=100, limited: pods=100")), "limited"},
		"forbidden": {"secrets", apierrors.NewForbidden(pods, "a-1", errors.New(`User "hub" cannot create resource`)), "internal"},
		"invalid":   {"pods", apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "a-1", nil), "invalid"},
		"taken":     {"secrets", apierrors.NewAlreadyExists(pods, "a-1"), "conflict"},
		"pod taken": {"pods", apierrors.NewAlreadyExists(pods, "a-1"), "conflict"},
		"away":      {"pods", errors.New("connection refused"), "unavailable"},
		"busy":      {"pods", apierrors.NewTooManyRequests("", 1), "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, cfg := pretend(t, runs())
			client.PrependReactor("create", c.kind, func(ktesting.Action) (bool, runtime.Object, error) { return true, nil, c.err })
			_, err := spawner(t, client, cfg).Start(t.Context(), sessiontest.NewSpec("a-1", "registry.example.org/a:1"))
			if got := binnacle.CodeOf(err); got != c.code {
				t.Errorf("%s (%v), want %s", got, err, c.code)
			}
			empty(t, client)
		})
	}
	s := spawner(t, fake.NewClientset(), kubernetes.DefaultConfig())
	for _, spec := range []session.Spec{{ID: "A"}, {ID: "a-"}, {ID: "a", Mount: "/home"}} {
		if _, err := s.Start(t.Context(), spec); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

func TestLife(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	client, cfg := pretend(t, runs())
	cfg.Port = l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	a, b := spawner(t, client, cfg), spawner(t, client, cfg)
	spec := sessiontest.NewSpec("a-1", "registry.example.org/a:1")
	st, err := a.Start(t.Context(), spec)
	must(t, err)
	want := session.Status{ID: "a-1", State: session.Running, Image: spec.Image, BaseURL: spec.BaseURL, Token: spec.Token, Labels: spec.Labels, Started: st.Started}
	if diff := cmp.Diff(want, st); diff != "" || time.Since(st.Started) > time.Minute {
		t.Error(diff)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for i := 0; !ok(); i++ {
			if i > 500 {
				t.Fatal(what)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	until("the other hub does not see the session", func() bool { st, err := b.Get(t.Context(), "a-1"); return err == nil && cmp.Equal(want, st) })
	asked := len(client.Actions())
	conn, err := b.Dial(t.Context(), "a-1")
	must(t, err)
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("%T hides the socket from the proxy", conn)
	}
	must(t, conn.Close())
	if list, err := b.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if n := len(client.Actions()) - asked; n > 0 {
		t.Errorf("Dial and List asked the cluster %d times", n)
	}
	if _, err := b.Start(t.Context(), spec); binnacle.CodeOf(err) != binnacle.CodeConflict {
		t.Errorf("the same id again: %v", err)
	}
	must(t, a.Stop(t.Context(), "a-1"))
	must(t, a.Stop(t.Context(), "a-1"))
	until("the other hub still sees the session", func() bool { _, err := b.Get(t.Context(), "a-1"); return binnacle.CodeOf(err) == binnacle.CodeNotFound })
	if _, err := b.Dial(t.Context(), "a-1"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("Dial after Stop: %v", err)
	}
	empty(t, client)
}

// Many requests wait for one server; the cluster is not asked, the server seldom.
func TestDialWaits(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().(*net.TCPAddr) //nolint:forcetypeassert // it is TCP
	must(t, l.Close())
	client, cfg := pretend(t, runs())
	cfg.Port = addr.Port
	s := spawner(t, client, cfg)
	_, err = s.Start(t.Context(), sessiontest.NewSpec("a-1", "registry.example.org/a:1"))
	must(t, err)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(short, "a-1"); binnacle.CodeOf(err) != binnacle.CodeTimeout {
		t.Errorf("within its time: %v", err)
	}
	const n = 50
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			conn, err := s.Dial(t.Context(), "a-1")
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		})
	}
	<-time.After(100 * time.Millisecond)
	if l, err = lc.Listen(t.Context(), "tcp", addr.String()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	must(t, l.Close())
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Dial(t.Context(), "a-1")
		waiting <- err
	}()
	<-time.After(20 * time.Millisecond)
	must(t, client.CoreV1().Pods(cfg.Namespace).Delete(t.Context(), "a-1", metav1.DeleteOptions{}))
	if err := <-waiting; binnacle.CodeOf(err) != binnacle.CodeUnavailable || binnacle.Public(err).Hint != "It was deleted in the cluster." {
		t.Errorf("deleted while a request waits: %v", err)
	}
}

func TestReconcile(t *testing.T) {
	client, cfg := pretend(t, corev1.PodStatus{Phase: corev1.PodPending})
	labels := func(id string) map[string]string {
		return map[string]string{
			"app.kubernetes.io/name": "binnacle", "app.kubernetes.io/instance": "binnacle", "app.kubernetes.io/component": "session", "binnacle.dev/session": id,
		}
	}
	long := metav1.NewTime(time.Now().Add(-time.Hour))
	for id, created := range map[string]metav1.Time{"old": long, "new": metav1.Now()} {
		meta := metav1.ObjectMeta{Name: id + "-token", Namespace: cfg.Namespace, Labels: labels(id), CreationTimestamp: created}
		must(t, client.Tracker().Add(&corev1.Secret{ObjectMeta: meta}))
		meta.Name, meta.Labels = id+"-pod", labels(id+"-pod")
		must(t, client.Tracker().Add(&corev1.Pod{ObjectMeta: meta}))
	}
	meta := metav1.ObjectMeta{Name: "runs", Namespace: cfg.Namespace, Labels: labels("runs"), CreationTimestamp: long}
	must(t, client.Tracker().Add(&corev1.Pod{ObjectMeta: meta, Status: runs()}))
	s := spawner(t, client, cfg)
	must(t, s.Reconcile(t.Context()))
	var left []string
	pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	for _, p := range pods.Items {
		left = append(left, p.Name)
	}
	secrets, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	for _, p := range secrets.Items {
		left = append(left, p.Name)
	}
	if diff := cmp.Diff([]string{"new-pod", "runs", "new-token"}, left); diff != "" {
		t.Error(diff)
	}
}
