package kubernetes

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// What the cluster is asked about sessions that our view does not have. Anybody on
// the network can ask for made-up ones, so the cluster hears of few of them.
const (
	asksPerSecond = 10
	asksAtOnce    = 20
	askTimeout    = 3 * time.Second
	// believed is how long an answer holds that there is no such session.
	believed = time.Second
	// behind is how long our view may take to show what the cluster has.
	behind = 5 * time.Second
	young  = 10 * behind
)

// unknown are the ids of which the cluster need not be asked.
type unknown struct {
	limit flowcontrol.RateLimiter

	mu    sync.Mutex
	until map[string]time.Time
}

func newUnknown() *unknown {
	return &unknown{limit: flowcontrol.NewTokenBucketRateLimiter(asksPerSecond, asksAtOnce), until: map[string]time.Time{}}
}

// may says whether the cluster may be asked about a session.
func (u *unknown) may(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !time.Now().Before(u.until[id]) && u.limit.TryAccept()
}

// remember keeps the cluster from being asked for a while.
func (u *unknown) remember(id string, d time.Duration) {
	const most = 50_000
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.until) >= most {
		maps.DeleteFunc(u.until, func(_ string, t time.Time) bool { return now.After(t) })
	}
	if len(u.until) < most {
		u.until[id] = now.Add(d)
	}
}

// pod returns a session's pod, or not_found. What our view does not have may have
// been made an instant ago through another hub: then the cluster is asked, and our
// view waited for.
func (s *Spawner) pod(ctx context.Context, id string) (*corev1.Pod, error) {
	if pod, err := s.pods.Get(id); err == nil {
		return pod, nil
	}
	if !session.ValidID(id) {
		return nil, session.NotThere(id)
	}
	err := s.await(ctx, id)
	if pod, err := s.pods.Get(id); err == nil {
		return pod, nil
	}
	return nil, err
}

// await asks the cluster, once for all who want to know: a page asks for a hundred
// files at once.
func (s *Spawner) await(ctx context.Context, id string) error {
	_, err, _ := s.asking.Do(id, func() (any, error) { return nil, s.ask(context.WithoutCancel(ctx), id) })
	return err
}

// seen says whether our view has the pod, and its token.
func (s *Spawner) seen(id string) bool {
	pod, err := s.pods.Get(id)
	return err == nil && (pod.DeletionTimestamp != nil || s.token(id) != "")
}

// incomplete says whether a pod's token may still be on its way to us: it comes by
// another watch.
func (s *Spawner) incomplete(pod *corev1.Pod) bool {
	return time.Since(pod.CreationTimestamp.Time) < young && !s.seen(pod.Name)
}

// ask returns nil once our view has a session that the cluster has.
func (s *Spawner) ask(ctx context.Context, id string) error {
	if s.seen(id) {
		return nil
	}
	if !s.unknown.may(id) {
		return session.NotThere(id)
	}
	changed, stop := s.news.of(id)
	defer stop()
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	pod, err := s.client.CoreV1().Pods(s.cfg.Namespace).Get(asking, id, metav1.GetOptions{})
	if err != nil || !labels.SelectorFromSet(s.cfg.selector()).Matches(labels.Set(pod.Labels)) {
		s.unknown.remember(id, believed) // while the cluster's API is away, too
		return session.NotThere(id)
	}
	late := time.NewTimer(behind)
	defer late.Stop()
	for {
		if s.seen(id) {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			s.unknown.remember(id, believed)
			return &binnacle.Error{
				Code: binnacle.CodeUnavailable, Op: "session.find", Message: "This part of the hub does not know the session yet.", Hint: "Try again in a few seconds.",
			}
		}
	}
}
