// Package kubernetes runs sessions as pods. All that must be known about one is
// in its pod's labels and annotations and in a Secret with its token, so any
// number of hubs see and serve the same sessions. What they are doing is known
// from a watch: asking for a session costs no request to the cluster, but for one
// that the watch has not told of yet.
//
// A [Spawner] is of use while its Run is running:
//
//	s, err := kubernetes.New(cfg, client, kubernetes.NewRegistry(nil), log)
//	go s.Run(ctx)
//
// The rest.Config of the client should allow more than its 5 requests a second.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	informersv1 "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// Images tells how an image's server is started. Returns not_found when the
// image is missing.
type Images interface {
	Config(ctx context.Context, ref string) (ocispec.ImageConfig, error)
}

// Spawner implements session.Spawner.
type Spawner struct {
	cfg     Config
	client  kubernetes.Interface
	images  Images
	log     *slog.Logger
	watch   informers.SharedInformerFactory
	synced  []cache.InformerSynced
	pods    listers.PodNamespaceLister
	secrets listers.SecretNamespaceLister
	evicted cache.SharedIndexInformer // the kubelets' Events of evictions
	filled  chan struct{}             // closed once the caches have what there is
	fill    sync.Once
	claims  session.Claims
	news    news
	turns   turns
	graves  graves
	starts  starts
	unknown *unknown
	asking  singleflight.Group
}

var _ session.Spawner = (*Spawner)(nil)

// New makes a spawner. Returns invalid for a wrong cfg.
func New(cfg Config, client kubernetes.Interface, images Images, log *slog.Logger) (*Spawner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "session.new", Message: "The configuration of sessions on Kubernetes is wrong.", Err: err}
	}
	s := &Spawner{cfg: cfg, client: client, images: images, log: log, filled: make(chan struct{}), unknown: newUnknown()}
	s.watch = informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(cfg.Namespace),
		// Who only has the policies of sessions, as the pod of `helm test`, has no session's name.
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = labels.SelectorFromSet(cfg.selector()).String() + "," + labelSession
		}),
		informers.WithTransform(light))
	pods, secrets := s.watch.Core().V1().Pods(), s.watch.Core().V1().Secrets()
	s.pods, s.secrets = pods.Lister().Pods(cfg.Namespace), secrets.Lister().Secrets(cfg.Namespace)
	s.synced = []cache.InformerSynced{pods.Informer().HasSynced, secrets.Informer().HasSynced}
	tell := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.changed(o) },
		UpdateFunc: func(_, o any) { s.changed(o) },
		DeleteFunc: s.removed,
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), secrets.Informer()} {
		if _, err := informer.AddEventHandler(tell); err != nil {
			return nil, fmt.Errorf("watch the sessions: %w", err)
		}
	}
	s.evicted = evictions(client, cfg.Namespace)
	return s, nil
}

// byPod indexes Events.
const byPod = "pod"

// evictions watches for Events: of a server that ends well when it is asked to,
// the kubelet's status does not say that it was an eviction.
func evictions(client kubernetes.Interface, namespace string) cache.SharedIndexInformer {
	only := fields.Set{"reason": "Evicted", "involvedObject.kind": "Pod"}.String()
	return informersv1.NewFilteredEventInformer(client, namespace, 0, cache.Indexers{byPod: func(o any) ([]string, error) {
		if e, ok := o.(*corev1.Event); ok {
			return []string{string(e.InvolvedObject.UID)}, nil
		}
		return nil, nil
	}}, func(o *metav1.ListOptions) { o.FieldSelector = only })
}

// light drops what nobody here reads: at thousands of pods it is most of them.
func light(o any) (any, error) {
	if m, err := meta.Accessor(o); err == nil {
		m.SetManagedFields(nil)
	}
	return o, nil
}

// Run watches the cluster until ctx ends. A cluster whose API is away for a
// while is watched again; meanwhile what was known last holds.
func (s *Spawner) Run(ctx context.Context) error {
	s.watch.Start(ctx.Done())
	defer s.watch.Shutdown()
	var events sync.WaitGroup
	events.Go(func() { s.evicted.RunWithContext(ctx) }) // not waited for: without it reasons are less exact
	defer events.Wait()
	if cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		s.fill.Do(func() { close(s.filled) })
	}
	<-ctx.Done()
	return nil
}

// Ready is closed once Run knows what sessions there are: a hub that serves
// before answers for none of them.
func (s *Spawner) Ready() <-chan struct{} { return s.filled }

// know waits for the first answer of the cluster.
func (s *Spawner) know(ctx context.Context) error {
	select {
	case <-s.filled:
		return nil
	default:
	}
	const patience = 20 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.filled:
		return nil
	case <-timer.C:
		return away("learn what sessions there are", errors.New("no answer yet"))
	case <-ctx.Done():
		return fmt.Errorf("wait for the cluster: %w", ctx.Err())
	}
}

// changed tells those who wait for the session.
func (s *Spawner) changed(o any) {
	if m, err := meta.Accessor(o); err == nil {
		s.news.tell(m.GetLabels()[labelSession])
	}
}

// removed also keeps why a session went that nobody here stopped.
func (s *Spawner) removed(o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	if pod, ok := o.(*corev1.Pod); ok {
		id := pod.Labels[labelSession]
		s.unknown.remember(id, remembered)
		st := s.status(pod)
		if st.State != session.Starting && pod.Annotations[noteStopped] == "" && !s.claims.Claimed(id) {
			st.State, st.Exit = session.Exited, cmp.Or(st.Exit, exitDeleted)
			s.graves.add(st)
		}
	}
	s.changed(o)
}

// status is what is known of a pod.
func (s *Spawner) status(pod *corev1.Pod) session.Status {
	st := status(pod, s.token(pod.Labels[labelSession]))
	if _, known := disruption(pod); st.State != session.Exited || known {
		return st
	}
	events, err := s.evicted.GetIndexer().ByIndex(byPod, string(pod.UID))
	if err != nil || pod.UID == "" {
		return st
	}
	for _, o := range events {
		if e, ok := o.(*corev1.Event); ok && e.Reason == "Evicted" {
			st.Exit = evicted(e.Message, limitsOf(pod))
		}
	}
	return st
}

// token is empty when the Secret is gone, or not seen yet.
func (s *Spawner) token(id string) string {
	secret, err := s.secrets.Get(secretName(id))
	if err != nil {
		return ""
	}
	return string(secret.Data[tokenKey])
}

// Get implements session.Spawner.
func (s *Spawner) Get(ctx context.Context, id string) (session.Status, error) {
	if err := s.know(ctx); err != nil {
		return session.Status{}, err
	}
	if st, ok := s.grave(id); ok {
		return st, nil
	}
	pod, err := s.pod(ctx, id)
	if err != nil {
		return session.Status{}, err
	}
	if s.incomplete(pod) {
		_ = s.await(ctx, id) // there is the pod, whatever comes of it
	}
	return s.status(pod), nil
}

// grave is the last status of a session whose pod somebody removed.
func (s *Spawner) grave(id string) (session.Status, bool) {
	st, ok := s.graves.find(id)
	if ok {
		_, err := s.pods.Get(id)
		ok = err != nil
	}
	return st, ok
}

// List implements session.Spawner.
func (s *Spawner) List(ctx context.Context) ([]session.Status, error) {
	if err := s.know(ctx); err != nil {
		return nil, err
	}
	pods, err := s.pods.List(labels.Everything())
	if err != nil {
		return nil, away("list the sessions", err)
	}
	list := make([]session.Status, 0, len(pods))
	for _, pod := range pods {
		if pod.Annotations[noteStopped] == "" || pod.DeletionTimestamp == nil { // else it is as good as gone
			list = append(list, s.status(pod))
		}
	}
	for _, st := range s.graves.all() {
		if _, err := s.pods.Get(st.ID); apierrors.IsNotFound(err) {
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b session.Status) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}
