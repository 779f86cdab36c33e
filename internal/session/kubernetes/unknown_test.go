package kubernetes_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

// behind is a spawner that hears of the cluster only what a test tells it, and
// knows that there is nothing.
func behind(t *testing.T) (s *kubernetes.Spawner, client *fake.Clientset, pods, secrets *watch.FakeWatcher) {
	t.Helper()
	client = fake.NewClientset()
	told := map[string]*watch.FakeWatcher{"pods": watch.NewFake(), "secrets": watch.NewFake()}
	for resource, w := range told {
		client.PrependWatchReactor(resource, ktesting.DefaultWatchReactor(w, nil))
	}
	s = spawner(t, client, kubernetes.DefaultConfig())
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, client, told["pods"], told["secrets"]
}

// made is a session of another hub.
func made(t *testing.T, client *fake.Clientset, id string) (*corev1.Pod, *corev1.Secret) {
	t.Helper()
	other, cfg := pretend(t, runs()) // to see what it makes
	_, err := spawner(t, other, cfg).Start(t.Context(), sessiontest.NewSpec(id, "registry.example.org/a:1"))
	must(t, err)
	list, err := other.CoreV1().Pods(cfg.Namespace).List(t.Context(), metav1.ListOptions{})
	must(t, err)
	secrets, err := other.CoreV1().Secrets(cfg.Namespace).List(t.Context(), metav1.ListOptions{})
	must(t, err)
	pod, secret := &list.Items[0], &secrets.Items[0]
	// Into the tracker alone: the watch says nothing of it.
	must(t, client.Tracker().Create(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, pod, cfg.Namespace))
	must(t, client.Tracker().Create(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, secret, cfg.Namespace))
	return pod, secret
}

func soon(t *testing.T, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("never")
}

func asked(client *fake.Clientset) (n int) {
	for _, a := range client.Actions() {
		if a.Matches("get", "pods") {
			n++
		}
	}
	return n
}

// TestMadeElsewhere: a session that another hub made, and the watch has not told of,
// is there.
func TestMadeElsewhere(t *testing.T) {
	s, client, pods, secrets := behind(t)
	pod, secret := made(t, client, "elsewhere-1")
	type answer struct {
		st  session.Status
		err error
	}
	const files = 20 // a page asks for many at once
	answers := make(chan answer, files)
	for range files {
		go func() {
			st, err := s.Get(context.WithoutCancel(t.Context()), "elsewhere-1")
			answers <- answer{st, err}
		}()
	}
	soon(t, func() bool { return asked(client) > 0 })
	select {
	case a := <-answers:
		t.Fatalf("before the watch has told of it: %+v", a)
	default:
	}
	pods.Add(pod)
	select { // its token is not there yet
	case a := <-answers:
		t.Fatalf("without its token: %+v", a)
	case <-time.After(50 * time.Millisecond):
	}
	secrets.Add(secret)
	for range files {
		if a := <-answers; a.err != nil || a.st.State != session.Running || a.st.Token == "" {
			t.Fatalf("%+v", a)
		}
	}
	if n := asked(client); n > 2 {
		t.Errorf("the cluster was asked %d times", n)
	}
}

// TestUnknownAreFew: whoever asks for made-up sessions makes the hub ask the
// cluster for few of them, and never twice in a row.
func TestUnknownAreFew(t *testing.T) {
	s, client, _, _ := behind(t)
	begun := time.Now()
	for i := range 2000 {
		for range 2 {
			if _, err := s.Get(t.Context(), fmt.Sprintf("made-up-%d", i)); binnacle.CodeOf(err) != binnacle.CodeNotFound {
				t.Fatal(err)
			}
			if _, err := s.Dial(t.Context(), fmt.Sprintf("made-up-%d", i)); binnacle.CodeOf(err) != binnacle.CodeNotFound {
				t.Fatal(err)
			}
		}
	}
	if n, most := asked(client), 21+10*int(time.Since(begun).Seconds()+1); n == 0 || n > most {
		t.Errorf("the cluster was asked %d times, at most %d were right", n, most)
	}
	before := asked(client)
	if _, err := s.Get(t.Context(), "../secrets"); binnacle.CodeOf(err) != binnacle.CodeNotFound || asked(client) != before {
		t.Error("what cannot be a session is asked for", err)
	}
}

// TestDeletedIsNotAskedFor: the watch has told that it is gone.
func TestDeletedIsNotAskedFor(t *testing.T) {
	s, client, pods, secrets := behind(t)
	pod, secret := made(t, client, "gone-1")
	pods.Add(pod)
	secrets.Add(secret)
	soon(t, func() bool { _, err := s.Get(t.Context(), "gone-1"); return err == nil })
	pod = pod.DeepCopy()
	pod.Annotations["binnacle.dev/stopped"] = "yes"
	before := asked(client)
	pods.Delete(pod)
	soon(t, func() bool { list, err := s.List(t.Context()); return err == nil && len(list) == 0 })
	_, err := s.Get(t.Context(), "gone-1")
	if binnacle.CodeOf(err) != binnacle.CodeNotFound && err != nil || asked(client) != before {
		t.Errorf("%v, asked %d times", err, asked(client)-before)
	}
}
