package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	authorization "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	commits "github.com/binnacle-hub/binnacle/internal/deploy/watch"
	"github.com/binnacle-hub/binnacle/test/forgehost"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// followedHub is a hub whose own pod follows a repository.
type followedHub struct {
	*clusterHub

	t     *testing.T
	repo  *githost.Repo
	forge *forgehost.Host
	file  map[string]any // what is pushed
}

// inside: the deployment follows its repository by itself, with rights in its own
// namespaces only. What is around the cluster waits for a person. It goes on when an
// upgrade replaces it in the middle, and goes back when that upgrade is bad.
func (h *clusterHub) inside(t *testing.T) {
	f := h.follow(t)
	first := f.push(nil)
	f.runs(first)
	f.rights()
	f.toldTo(first, "success")

	second := f.push(func(c map[string]any) { f.launches(c)["max_sessions"] = 25 })
	f.runs(second)
	config, err := h.Client.CoreV1().Secrets(h.namespace).Get(t.Context(), h.namespace+"-binnacle-config", metav1.GetOptions{})
	if err != nil || !strings.Contains(string(config.Data["binnacle.yaml"]), "max_sessions: 25") {
		t.Errorf("the hub is not as the commit says: %v", err)
	}

	before := len(h.azure.Writes())
	third := f.push(func(c map[string]any) { c["azure"].(map[string]any)["nodes"] = map[string]any{"max": 5} })
	f.runs(third)
	f.toldTo(third, "success")
	if s := f.state(); len(s.Waits) != 1 || !strings.Contains(s.Waits[0], "azure.nodes.max") || len(h.azure.Writes()) != before {
		t.Errorf("what is around the cluster does not wait for a person: %+v", s)
	}
	f.push(func(c map[string]any) { delete(c["azure"].(map[string]any), "nodes") })

	// The commit changes the pod that deploys it, and breaks the hub.
	pod := f.pod()
	bad := f.push(func(c map[string]any) {
		f.launches(c)["allowed_specs"] = []string{"^gh/nobody/"}
		c["values"].(map[string]any)["watch"] = map[string]any{"extraEnv": []any{map[string]any{"name": "ANOTHER", "value": "one"}}}
	})
	eventually(t, "the bad commit is taken back", func() bool { s := f.state(); return s.Quarantined == bad && s.Back == 0 })
	eventually(t, "the pod is the one from before", func() bool {
		p := f.pod()
		return p.Name != pod.Name && len(p.Spec.Containers[0].Env) == len(pod.Spec.Containers[0].Env)
	})
	f.toldTo(bad, "failure")
	if out := h.deploy(t, 3, "info", "--check"); !strings.Contains(out, "in quarantine since") || !strings.Contains(out, bad[:12]) {
		t.Error("info does not show the commit in quarantine")
	}
	l, _ := ready(t, h.person, launchOf(h.example.URL))
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}

	h.page(t, "../../docs/troubleshooting.md")
	f.end()
}

// follow installs the pod, as a person with the file does.
func (h *clusterHub) follow(t *testing.T) *followedHub {
	t.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(h.git.URL, "http://"), ":")
	f := &followedHub{clusterHub: h, t: t}
	var err error
	if f.forge, err = forgehost.Start(host + ":0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.forge.Close)
	if f.repo, err = h.git.Repo(t.Context(), "institute/followed", ""); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FORGE_TOKEN", forgehost.Token)
	if err := yaml.Unmarshal([]byte(h.description(t)), &f.file); err != nil {
		t.Fatal(err)
	}
	f.file["watch"] = map[string]any{
		"repository": f.repo.URL, "branch": "main", "interval": "10s", "token_from": "env:FORGE_TOKEN",
		"status": "github", "api": f.forge.URL + "/api/v3", "via": h.namespace + "-binnacle." + h.namespace + ".svc:80",
	}
	f.push(nil)
	h.deploy(t, 0, "up", "--yes", "--no-verify")
	if out := h.deploy(t, 0, "up", "--no-verify"); !strings.Contains(out, "Nothing to do") {
		t.Error("up on top of up")
	}
	return f
}

func (f *followedHub) launches(c map[string]any) map[string]any {
	return c["hub"].(map[string]any)["launch"].(map[string]any)
}

// push commits the file with a change that the next one does not have.
func (f *followedHub) push(change func(map[string]any)) string {
	f.t.Helper()
	b, err := yaml.Marshal(f.file)
	if err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		var c map[string]any
		if err := yaml.Unmarshal(b, &c); err != nil {
			f.t.Fatal(err)
		}
		change(c)
		if b, err = yaml.Marshal(c); err != nil {
			f.t.Fatal(err)
		}
	} else if err := os.WriteFile(filepath.Join(f.dir, "binnacle.yaml"), b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	id, err := f.repo.Commit(f.t.Context(), map[string]string{"binnacle.yaml": string(b)})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *followedHub) state() commits.State {
	f.t.Helper()
	m, err := f.Client.CoreV1().ConfigMaps(f.namespace).Get(f.t.Context(), f.namespace+"-commits", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return commits.State{}
	}
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := commits.Read([]byte(m.Data["state.json"]))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *followedHub) runs(commit string) {
	f.t.Helper()
	eventually(f.t, "the hub runs the commit", func() bool {
		s := f.state()
		if s.Quarantined == commit {
			f.t.Fatalf("the commit is in quarantine: %s", s.Reason)
		}
		return s.Applied == commit
	})
}

// toldTo waits until the forge was told what became of a commit.
func (f *followedHub) toldTo(commit, state string) {
	f.t.Helper()
	eventually(f.t, "the forge is told: "+state, func() bool {
		return slices.ContainsFunc(f.forge.Statuses(), func(s forgehost.Status) bool {
			return s.Commit == commit && s.State == state && s.Repository == "institute/followed"
		})
	})
}

// pod is the one that follows the repository: the newest.
func (f *followedHub) pod() corev1.Pod {
	f.t.Helper()
	list, err := f.Client.CoreV1().Pods(f.namespace).List(f.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=watch"})
	if err != nil || len(list.Items) == 0 {
		f.t.Fatalf("nobody follows: %v", err)
	}
	return slices.MaxFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
}

// rights: it may nothing outside of its own namespaces.
func (f *followedHub) rights() {
	f.t.Helper()
	user := "system:serviceaccount:" + f.namespace + ":" + f.pod().Spec.ServiceAccountName
	for _, a := range []authorization.ResourceAttributes{
		{Verb: "list", Resource: "secrets"},
		{Verb: "get", Resource: "secrets", Namespace: "default"},
		{Verb: "create", Resource: "pods", Namespace: "kube-system"},
		{Verb: "list", Resource: "nodes"},
		{Verb: "create", Resource: "namespaces"},
		{Verb: "delete", Resource: "namespaces", Name: f.namespace},
		{Verb: "delete", Resource: "namespaces", Name: f.sessions, Namespace: f.sessions},
		{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
		{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "roles", Namespace: f.namespace},
		{Verb: "bind", Group: "rbac.authorization.k8s.io", Resource: "roles", Namespace: f.namespace},
		{Verb: "impersonate", Resource: "users"},
		{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: f.namespace},
	} {
		review := &authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{User: user, ResourceAttributes: &a}}
		got, err := f.Client.AuthorizationV1().SubjectAccessReviews().Create(f.t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		if got.Status.Allowed {
			f.t.Errorf("who follows the repository may %s %s in %q", a.Verb, a.Resource, a.Namespace)
		}
	}
}

// end lets nobody follow any more.
func (f *followedHub) end() {
	f.t.Helper()
	delete(f.file, "watch")
	f.push(nil)
	if out := f.deploy(f.t, 0, "up", "--yes", "--no-verify"); !strings.Contains(out, "delete  token") {
		f.t.Error("the token stays")
	}
	if _, err := f.Client.AppsV1().Deployments(f.namespace).Get(f.t.Context(), f.namespace+"-binnacle-watch", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		f.t.Errorf("it still follows: %v", err)
	}
}
