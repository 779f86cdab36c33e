package kubernetes_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/kubernetes"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
	"github.com/binnacle-hub/binnacle/test/kube"
)

// world is a namespace of the real cluster, with images in its registry.
type world struct {
	t           *testing.T
	cluster     *kube.Cluster
	hub         client.Interface // with a hub's rights
	cfg         kubernetes.Config
	image, bare string
}

// The image is compiled and pushed once for all tests.
var image struct { //nolint:gochecknoglobals // tests share it
	sync.Once
	program []byte
	err     error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := kube.Shared(t)
	w := &world{t: t, cluster: c, cfg: kubernetes.DefaultConfig(), image: c.Registry + "/sessions/test:1", bare: c.Registry + "/sessions/bare:1"}
	w.cfg.Namespace, w.cfg.Grace = c.Namespace(t), 2*time.Second
	w.restrict(t)
	t.Cleanup(func() {
		if left := w.residue(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	image.Do(func() { image.program, image.err = sessiontest.Compile(t.Context(), t.TempDir()) })
	must(t, image.err)
	for ref, cfg := range map[string]v1.Config{
		w.image: {Cmd: []string{"jupyter-lab"}, WorkingDir: "/home/jovyan", Env: []string{"FROM_IMAGE=yes"}, Labels: map[string]string{"dev.binnacle.kind": "python"}},
		w.bare:  {User: "root", Entrypoint: []string{"/nothing/here"}},
	} {
		img, err := sessiontest.BuildImage(image.program, cfg)
		must(t, err)
		tag, err := name.NewTag(ref)
		must(t, err)
		must(t, remote.Write(tag, img, remote.WithContext(t.Context())))
	}
	return w
}

// restrict gives hubs the rights they ask for and no others, and sessions the
// strictest of Kubernetes' standards.
func (w *world) restrict(t *testing.T) {
	t.Helper()
	name := "hub-of-" + w.cfg.Namespace
	rbac := w.cluster.Client.RbacV1()
	_, err := rbac.Roles(w.cfg.Namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "hub"}, Rules: kubernetes.Rules()}, metav1.CreateOptions{})
	must(t, err)
	_, err = rbac.RoleBindings(w.cfg.Namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "hub"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "hub"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	must(t, err)
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	_, err = w.cluster.Client.CoreV1().Namespaces().Patch(t.Context(), w.cfg.Namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	must(t, err)
	as := rest.CopyConfig(w.cluster.Config)
	as.Impersonate.UserName = name
	w.hub, err = client.NewForConfig(as)
	must(t, err)
}

// here is a Registry that looks for everything in the cluster's.
type here struct {
	*kubernetes.Registry
	host string
}

func (h here) Config(ctx context.Context, ref string) (ocispec.ImageConfig, error) {
	if !strings.HasPrefix(ref, h.host+"/") {
		ref = h.host + "/" + ref
	}
	return h.Registry.Config(ctx, ref)
}

// open makes a spawner with its Run running.
func (w *world) open(t *testing.T) *kubernetes.Spawner {
	t.Helper()
	s, err := kubernetes.New(w.cfg, w.hub, here{kubernetes.NewRegistry(nil), w.cluster.Registry}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	run(t, s)
	return s
}

func run(t *testing.T, s *kubernetes.Spawner) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (w *world) residue(t *testing.T) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var left []string
	pods, err := w.cluster.Client.CoreV1().Pods(w.cfg.Namespace).List(ctx, metav1.ListOptions{})
	must(t, err)
	for _, p := range pods.Items {
		left = append(left, "pod "+p.Name)
	}
	secrets, err := w.cluster.Client.CoreV1().Secrets(w.cfg.Namespace).List(ctx, metav1.ListOptions{})
	must(t, err)
	for _, s := range secrets.Items {
		left = append(left, "secret "+s.Name)
	}
	slices.Sort(left)
	return left
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	kube.Need(t)
	sessiontest.Run(t, func(t *testing.T) (session.Spawner, sessiontest.Fixture) {
		t.Helper()
		t.Parallel() // most of it is waiting for kubelets
		w := newWorld(t)
		return w.open(t), sessiontest.Fixture{
			Image: w.image, Enforces: true, NodePIDs: true,
			Reopen:  func(t *testing.T) session.Spawner { t.Helper(); return w.open(t) },
			Residue: func(t *testing.T) []string { t.Helper(); return w.residue(t) },
		}
	})
}

// Each test has a namespace of its own, which is empty in the end.
func TestCluster(t *testing.T) {
	kube.Need(t)
	for name, test := range map[string]func(*world){
		"Sandbox": (*world).sandbox, "Deleted": (*world).deleted, "Drained": (*world).drained, "NoRoom": (*world).noRoom,
		"NoImage": (*world).noImage, "NoCommand": (*world).noCommand, "Quota": (*world).quota, "Disk": (*world).disk,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t))
		})
	}
}

func begin(t *testing.T, s session.Spawner, spec session.Spec) {
	t.Helper()
	_, err := s.Start(t.Context(), spec)
	must(t, err)
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context()), spec.ID); err != nil {
			t.Error(err)
		}
	})
}

// until waits until the session has ended for this spawner, and says why.
func until(t *testing.T, s session.Spawner, id string, patience time.Duration) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if st, err := s.Get(t.Context(), id); err == nil && st.State == session.Exited {
			return st.Exit
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("%s did not end within %s", id, patience)
	return ""
}

func (w *world) sandbox() {
	t := w.t
	s := w.open(t)
	spec := sessiontest.NewSpec("sandbox-1", w.image)
	spec.Env["TRICKY"] = "$(COLOUR) $$ $HOME"
	begin(t, s, spec)
	body, err := sessiontest.Fetch(t.Context(), s, spec, "x/look")
	must(t, err)
	var seen map[string]string
	must(t, json.Unmarshal([]byte(body), &seen))
	got := map[string]string{}
	want := map[string]string{
		"Uid": "1000\t1000\t1000\t1000", "Gid": "1000\t1000\t1000\t1000", "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "processes": "1",
		"cwd": "/home/jovyan",
	}
	for k := range want {
		got[k] = seen[k]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(seen["args"], spec.Token) {
		t.Error("the token is on the command line")
	}
	for _, line := range []string{"JUPYTER_TOKEN=" + spec.Token, "COLOUR=blue green", "TRICKY=$(COLOUR) $$ $HOME", "FROM_IMAGE=yes", "HOME=/home/jovyan"} {
		if !strings.Contains(seen["env"]+"\n", line+"\n") {
			t.Errorf("%s is not in the environment: %s", line, seen["env"])
		}
	}
	if _, err := sessiontest.Fetch(t.Context(), s, spec, "x/read?path=/var/run/secrets/kubernetes.io/serviceaccount/token"); err == nil {
		t.Error("the session has a token of the cluster")
	}
	pod, err := w.cluster.Client.CoreV1().Pods(w.cfg.Namespace).Get(t.Context(), spec.ID, metav1.GetOptions{})
	must(t, err)
	if all, err := json.Marshal(pod); err != nil || strings.Contains(string(all), spec.Token) {
		t.Errorf("the token is in the pod, which more people may see than Secrets: %v", err)
	}
}

// deleted: another hub stops one session, somebody with kubectl deletes another.
func (w *world) deleted() {
	t := w.t
	a, b := w.open(t), w.open(t)
	ours, theirs := sessiontest.NewSpec("deleted-1", w.image), sessiontest.NewSpec("deleted-2", w.image)
	begin(t, a, ours)
	begin(t, a, theirs)
	must(t, b.Stop(t.Context(), ours.ID))
	if _, err := b.Get(t.Context(), ours.ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("what we stopped: %v, want not_found", err)
	}
	must(t, w.cluster.Client.CoreV1().Pods(w.cfg.Namespace).Delete(t.Context(), theirs.ID, metav1.DeleteOptions{}))
	for _, s := range []*kubernetes.Spawner{a, b} {
		if why := until(t, s, theirs.ID, 10*time.Second); why != "It was deleted in the cluster." {
			t.Errorf("deleted by somebody: %q", why)
		}
	}
	gone := func() bool { return len(w.residue(t)) == 0 } // the Secret goes with its pod
	for i := 0; !gone(); i++ {
		if i > 200 {
			t.Fatalf("still there: %v", w.residue(t))
		}
		<-time.After(100 * time.Millisecond)
	}
	for _, s := range []*kubernetes.Spawner{a, b} { // the cluster forgot it; we know why it went
		list, err := s.List(t.Context())
		must(t, err)
		if len(list) != 1 || list[0].ID != theirs.ID || list[0].State != session.Exited || list[0].Exit != "It was deleted in the cluster." {
			t.Errorf("after it is gone: %+v", list)
		}
		must(t, s.Stop(t.Context(), theirs.ID))
		if _, err := s.Get(t.Context(), theirs.ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("after Stop: %v", err)
		}
	}
}

func (w *world) drained() {
	t := w.t
	s := w.open(t)
	spec := sessiontest.NewSpec("drained-1", w.image)
	begin(t, s, spec)
	must(t, w.cluster.Client.PolicyV1().Evictions(w.cfg.Namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: spec.ID, Namespace: w.cfg.Namespace}}))
	if why := until(t, s, spec.ID, 10*time.Second); why != "The machine it ran on was taken out of service." {
		t.Errorf("%q", why)
	}
}

func (w *world) noRoom() {
	t := w.t
	small := *w
	small.cfg.StartTimeout, small.cfg.Guarantee.Memory = 2*time.Second, 1
	s := small.open(t)
	spec := sessiontest.NewSpec("large-1", w.image)
	spec.Limits.Memory = 1 << 50
	var told []string
	spec.Waiting = func(why string) { told = append(told, why) }
	_, err := s.Start(t.Context(), spec)
	if public := binnacle.Public(err); public.Code != binnacle.CodeLimited || !strings.Contains(public.Message, "its machines lack memory") {
		t.Errorf("%+v", public)
	}
	if len(told) != 1 || !strings.Contains(told[0], "no room") {
		t.Errorf("told: %q", told)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = s.Start(ctx, spec)
	if public := binnacle.Public(err); public.Code != binnacle.CodeTimeout || !strings.Contains(public.Message, "lack memory") {
		t.Errorf("cut off: %+v", public)
	}
}

// sure is Images that says every image is there.
type sure struct{}

func (sure) Config(context.Context, string) (ocispec.ImageConfig, error) {
	return ocispec.ImageConfig{Cmd: []string{"jupyter-lab"}}, nil
}

// noImage: it was deleted after it was looked for.
func (w *world) noImage() {
	t := w.t
	s, err := kubernetes.New(w.cfg, w.hub, sure{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	run(t, s)
	ref := w.cluster.Registry + "/never/built:1"
	_, err = s.Start(t.Context(), sessiontest.NewSpec("image-1", ref))
	if public := binnacle.Public(err); public.Code != binnacle.CodeNotFound || public.Message != "The image "+ref+" is not there." {
		t.Errorf("%+v", public)
	}
	_, err = s.Start(t.Context(), sessiontest.NewSpec("image-2", "NOT an image"))
	if code := binnacle.CodeOf(err); code != binnacle.CodeInvalid {
		t.Errorf("%v", err)
	}
}

func (w *world) noCommand() {
	t := w.t
	s := w.open(t)
	_, err := s.Start(t.Context(), sessiontest.NewSpec("command-1", w.bare))
	if public := binnacle.Public(err); public.Code != binnacle.CodeInvalid || !strings.Contains(public.Message, "its command is missing") {
		t.Errorf("%+v (%v)", public, err)
	}
}

func (w *world) quota() {
	t := w.t
	s := w.open(t)
	quotas := w.cluster.Client.CoreV1().ResourceQuotas(w.cfg.Namespace)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, quotas.Delete(context.WithoutCancel(t.Context()), "none", metav1.DeleteOptions{})) })
	for range 50 { // the API server learns of it
		_, err = s.Start(t.Context(), sessiontest.NewSpec("quota-1", w.image))
		if err != nil {
			break
		}
		must(t, s.Stop(t.Context(), "quota-1"))
	}
	if code := binnacle.CodeOf(err); code != binnacle.CodeLimited {
		t.Errorf("%v", err)
	}
}

func (w *world) disk() {
	t := w.t
	s := w.open(t)
	spec := sessiontest.NewSpec("disk-1", w.image)
	spec.Limits.Disk = 8 << 20
	begin(t, s, spec)
	_, err := sessiontest.Fetch(t.Context(), s, spec, "x/write?path=/tmp/large&n=67108864")
	must(t, err)
	const want = "It wrote more than 8 MiB to disk and was stopped."
	why := until(t, s, spec.ID, time.Minute)
	for i := 0; why != want && i < 200; i++ { // the Event may come after the status
		<-time.After(10 * time.Millisecond)
		why = until(t, s, spec.ID, time.Minute)
	}
	if why != want {
		t.Errorf("%q, want %q", why, want)
	}
	if err := s.Logs(t.Context(), spec.ID, true, io.Discard); err != nil {
		t.Errorf("logs of an evicted session: %v", err)
	}
}
