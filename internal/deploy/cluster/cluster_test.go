package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	helmcli "helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/release/common"
	v1 "helm.sh/helm/v4/pkg/release/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
	"github.com/binnacle-hub/binnacle/internal/deploy/cluster"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
	"github.com/binnacle-hub/binnacle/test/kube"
)

const password = "the-password-of-the-registry"

type world struct {
	*kube.Cluster

	image string
	name  string // of the deployment, and of its namespace
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k := kube.Shared(t)
	w := &world{Cluster: k, image: k.StandIn(t), name: "deploy-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))}
	t.Cleanup(func() {
		const patience = time.Minute
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		for _, ns := range []string{w.name, w.name + "-sessions"} {
			if err := k.Client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
	return w
}

// cloud is a run of its own, as another process would be.
func (w *world) cloud(t *testing.T, holder string, edit func(*config.Config)) *cluster.Cloud {
	t.Helper()
	return w.cloudAs(t, holder, "", edit)
}

// cloudAs is cloud by another user of the cluster; empty is one who may do all.
func (w *world) cloudAs(t *testing.T, holder, user string, edit func(*config.Config)) *cluster.Cloud {
	t.Helper()
	c := config.Default()
	c.Name, c.Target, c.Image = w.name, config.TargetCluster, w.image
	c.HTTPS.Enabled = false
	c.Registry = config.Registry{Kind: config.RegistryOther, Host: "registry.example.org", Username: "ada", PasswordFrom: "env:REGISTRY_PASSWORD"}
	small := map[string]any{"requests": map[string]any{"cpu": "1m", "memory": "8Mi"}}
	c.Values = map[string]any{
		"hub":      map[string]any{"resources": small, "drainSeconds": 0, "terminationGracePeriodSeconds": 1, "persistence": map[string]any{"size": "1Mi"}},
		"builders": map[string]any{"replicas": 0},
	}
	if edit != nil {
		edit(&c)
	}
	kubeconfig, err := os.ReadFile(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		access, err := clientcmd.Load(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		for _, who := range access.AuthInfos {
			who.Impersonate = user
		}
		if kubeconfig, err = clientcmd.Write(*access); err != nil {
			t.Fatal(err)
		}
	}
	credentials, err := cluster.Password(c, "", []string{"REGISTRY_PASSWORD=" + password})
	if err != nil {
		t.Fatal(err)
	}
	const patience = 2 * time.Minute
	cloud := cluster.New(cluster.Options{
		Config: c, Where: "the test's cluster", Version: "1.2.3", Registry: credentials, Holder: holder, Timeout: patience,
		Connect: func(context.Context) (release.Access, error) { return release.Access{Kubeconfig: kubeconfig}, nil },
		Tell:    func(text string) { t.Log(holder, text) }, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = cloud.Close(context.WithoutCancel(t.Context())) })
	return cloud
}

func engine(t *testing.T, c deploy.Cloud) *deploy.Engine {
	t.Helper()
	j, err := deploy.OpenJournal(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	const often = 200 * time.Millisecond
	return &deploy.Engine{Cloud: c, Journal: j, Poll: often}
}

func up(t *testing.T, c deploy.Cloud) deploy.Result {
	t.Helper()
	res, err := engine(t, c).Up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func written(r deploy.Result) []string {
	var out []string
	for _, s := range r.Written {
		out = append(out, string(s.Action)+" "+s.Resource.Kind)
	}
	return out
}

// The whole way on a real cluster: check, up, up again, a change, a foreign
// thing, down. The hub is a stand-in.
func TestStory(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	first := w.cloud(t, "ada", nil)
	found, err := first.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !f.OK {
			t.Errorf("check: %+v", f)
		}
	}
	res := up(t, first)
	if diff := cmp.Diff([]string{"create namespace", "create secret", "create release", "create pull secret"}, written(res)); diff != "" {
		t.Errorf("the first up (-want +got):\n%s", diff)
	}
	address := res.Resources[2].Outputs["address"]
	if address == "" || res.Resources[2].Outputs["url"] != "http://"+address {
		t.Errorf("outputs %v", res.Resources[2].Outputs)
	}
	helm, err := first.Helm(ctx)
	if err != nil {
		t.Fatal(err)
	}
	have, err := helm.Current(w.name)
	if err != nil || have.Values["url"] != "http://"+address {
		t.Errorf("the hub was not told its address: %v %v", have.Values["url"], err)
	}
	w.noSecrets(t)
	if got := written(up(t, w.cloud(t, "ada", nil))); len(got) > 0 {
		t.Errorf("the second up wrote %v", got)
	}
	// The first run's lock is still held.
	second := w.cloud(t, "grace", func(c *config.Config) { c.Hub = map[string]any{"launch": map[string]any{"max_sessions": 3}} })
	if _, err := engine(t, second).Up(ctx); binnacle.CodeOf(err) != binnacle.CodeConflict || !strings.Contains(err.Error(), "ada") {
		t.Errorf("two at once: %v", err)
	}
	if err := first.Close(ctx); err != nil {
		t.Error(err)
	}
	p, err := engine(t, second).Plan(ctx)
	if err != nil || p.Writes() != 1 || len(p.Steps[2].Differences) == 0 {
		t.Errorf("plan of a change: %+v %v", p, err)
	}
	if diff := cmp.Diff([]string{"change release"}, written(up(t, second))); diff != "" {
		t.Errorf("a change (-want +got):\n%s", diff)
	}
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "somebodys"}}
	if _, err := w.Client.CoreV1().ConfigMaps(w.name).Create(ctx, foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	receipt, err := engine(t, second).Down(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(receipt.Foreign) != 1 || len(receipt.Kept) != 1 {
		t.Errorf("receipt %+v", receipt)
	}
	if err := w.Client.CoreV1().ConfigMaps(w.name).Delete(ctx, "somebodys", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := engine(t, second).Down(ctx); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{w.name, w.name + "-sessions"} {
		if _, err := w.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the namespace %s: %v", ns, err)
		}
	}
}

// last is the newest revision of the release, as Helm keeps it.
func (w *world) last(t *testing.T) (*action.Configuration, *v1.Release) {
	t.Helper()
	settings := helmcli.New()
	settings.KubeConfig = w.Kubeconfig
	settings.SetNamespace(w.name)
	cfg := action.NewConfiguration()
	if err := cfg.Init(settings.RESTClientGetter(), w.name, "secret"); err != nil {
		t.Fatal(err)
	}
	last, err := cfg.Releases.Last(w.name)
	if err != nil {
		t.Fatal(err)
	}
	rel, ok := last.(*v1.Release)
	if !ok {
		t.Fatalf("a release is a %T", last)
	}
	return cfg, rel
}

// noSecrets looks for the password in what Helm keeps.
func (w *world) noSecrets(t *testing.T) {
	t.Helper()
	_, rel := w.last(t)
	b, err := json.Marshal(rel)
	if err != nil || strings.Contains(string(b), password) {
		t.Errorf("the release holds the password: %v", err)
	}
}

// What the check says somebody lacks is what the role it names gives.
func TestRights(t *testing.T) {
	w := newWorld(t)
	ctx, rbac := t.Context(), w.Client.RbacV1()
	user := "ada-of-" + w.name
	c := w.cloudAs(t, "ada", user, nil)
	rights := func() deploy.Finding {
		t.Helper()
		all, err := c.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.Name == "rights" {
				return f
			}
		}
		t.Fatalf("nothing is said of rights: %+v", all)
		return deploy.Finding{}
	}
	for _, lacks := range []string{"namespaces", "deployments in " + w.name, "secrets in " + w.name + "-sessions", "pods/exec in " + w.name} {
		if f := rights(); f.OK || !strings.Contains(f.Message, lacks) || !strings.Contains(f.Hint, "the role admin") {
			t.Errorf("%s is not missed: %+v", lacks, f)
		}
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	for _, name := range []string{w.name, w.name + "-sessions"} {
		if _, err := w.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		admin := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "ada"}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		}
		if _, err := rbac.RoleBindings(name).Create(ctx, admin, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"create"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user}, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
	}
	_, err := rbac.ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if err := errors.Join(rbac.ClusterRoleBindings().Delete(ctx, user, metav1.DeleteOptions{}), rbac.ClusterRoles().Delete(ctx, user, metav1.DeleteOptions{})); err != nil {
			t.Error(err)
		}
	})
	// The API server learns of new roles by a watch of its own.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for f := rights(); !f.OK; f = rights() {
		select {
		case <-ctx.Done():
			t.Fatalf("with the role: %+v", f)
		case <-tick.C:
		}
	}
}

// A namespace that was there before stays, and a run that was killed while Helm
// worked is taken up.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	if _, err := w.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	up(t, w.cloud(t, "ada", nil))
	pending(t, w, common.StatusPendingUpgrade)
	again := w.cloud(t, "ada", nil)
	p, err := engine(t, again).Plan(ctx)
	if err != nil || p.Steps[2].Action != deploy.ActionRepair {
		t.Errorf("plan: %+v %v", p, err)
	}
	if diff := cmp.Diff([]string{"repair release"}, written(up(t, again))); diff != "" {
		t.Errorf("after a kill (-want +got):\n%s", diff)
	}
	pending(t, w, common.StatusUninstalling)
	if _, err := engine(t, again).Down(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Client.CoreV1().Namespaces().Get(ctx, w.name, metav1.GetOptions{}); err != nil || got.DeletionTimestamp != nil {
		t.Errorf("the namespace of others is gone: %v", err)
	}
	left, err := w.Client.CoreV1().Secrets(w.name).List(ctx, metav1.ListOptions{})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("left: %+v %v", left, err)
	}
}

// pending leaves the release as a killed Helm does.
func pending(t *testing.T, w *world, status common.Status) {
	t.Helper()
	cfg, rel := w.last(t)
	var err error
	if status == common.StatusPendingUpgrade { // the new revision was written, and no more
		rel.Version++
		rel.SetStatus(status, "Preparing upgrade")
		err = cfg.Releases.Create(rel)
	} else {
		rel.SetStatus(status, "Deletion in progress")
		err = cfg.Releases.Update(rel)
	}
	if err != nil {
		t.Fatal(err)
	}
}
