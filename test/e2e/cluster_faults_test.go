package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/jupyter"
	"github.com/binnacle-hub/binnacle/test/workshop"
)

// second: an image that is in the registry is not built again.
func (h *clusterHub) second(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, events := launch(t, h.person, launchOf(repo.URL))
	if l.Phase != binnacle.PhaseReady || !strings.Contains(logOf(events), "Found built image") {
		t.Fatalf("%+v\n%s", l.Error, logOf(events))
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
	gone(t, h.Client.CoreV1().Pods(h.sessions), l.Session.ID)
}

// killedHubs: a session and its kernel go on when all of the hub goes away.
func (h *clusterHub) killedHubs(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, s := ready(t, h.person, launchOf(repo.URL))
	k := kernelWith12Knots(t, s)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	h.kill(t, "app.kubernetes.io/component=hub")
	eventually(t, "the hub answers again", func() bool {
		res, err := http.Get(h.url + "versions")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	again, err := s.Attach(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, again, "print(knots + 1)", "13")
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// kernelWith12Knots is a kernel with a variable that is lost when it ends.
func kernelWith12Knots(t *testing.T, s jupyter.Server) *jupyter.Kernel {
	t.Helper()
	k, err := s.StartKernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, k, "knots = 12; print(knots)", "12")
	return k
}

// kill removes pods at once, as a machine that is lost would.
func (h *clusterHub) kill(t *testing.T, selector string) {
	t.Helper()
	old, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range old.Items {
		h.killPod(t, p.Name)
	}
	eventually(t, "killed pods are replaced", func() bool {
		now, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(now.Items) != len(old.Items) {
			return false
		}
		for i, p := range now.Items {
			if p.UID == old.Items[i].UID || len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready {
				return false
			}
		}
		return true
	})
}

// lostPod: whose session was deleted, as docs/kubernetes-sessions.md says, is told so. It
// is one of a class, as its pod shows.
func (h *clusterHub) lostPod(t *testing.T, repo *githost.Repo) {
	t.Helper()
	req := launchOf(repo.URL)
	req.Class = "large"
	l, _ := ready(t, h.person, req)
	pod, err := h.Client.CoreV1().Pods(h.sessions).Get(t.Context(), l.Session.ID, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := pod.Spec.Containers[0].Resources.Limits.Memory().String(); got != "1280Mi" {
		t.Errorf("a session of the class has %s of memory", got)
	}
	lesson := workshop.Lesson{
		Page: "../../docs/kubernetes-sessions.md", Dir: h.dir, Programs: kubectl(t), Env: []string{"KUBECONFIG=" + h.Kubeconfig},
		Replace: map[string]string{"binnacle-sessions": h.sessions, "pod NAME": "pod " + l.Session.ID},
	}
	lesson.Run(t)
	eventually(t, "the page of a lost session says so", func() bool {
		res, body := fetch(t, l.Session.URL+"lab?token="+l.Session.Token)
		return res.StatusCode >= http.StatusBadRequest && strings.Contains(body, "deleted in the cluster") && !strings.Contains(body, l.Session.Token)
	})
}

// machines: sessions go on while the API server of the cluster is away, and when
// the container runtime of their machine is killed.
func (h *clusterHub) machines(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, s := ready(t, h.person, launchOf(repo.URL))
	k, err := s.StartKernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	resume := h.Pause(t, "kube-apiserver")
	away := time.After(time.Minute)
	runCell(t, k, "knots = 6 * 7; print(knots)", "42")
	cell(t, s, "print('a second kernel')", "a second kernel")
	list, err := h.person.Sessions(t.Context())
	if err != nil || !slices.ContainsFunc(list, func(o binnacle.Session) bool { return o.ID == l.Session.ID && o.State == "running" }) {
		t.Errorf("the person's sessions: %v %v", list, err)
	}
	<-away
	runCell(t, k, "print(knots - 1)", "41")
	resume()
	for _, node := range []string{"node1", "node2"} {
		if err := h.Signal(node+"/containerd", syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	runCell(t, k, "print(knots + 1)", "43")
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "a session is stopped by a runtime that was restarted", func() bool {
		err := h.person.Stop(t.Context(), l.Session.ID)
		return err == nil || binnacle.CodeOf(err) == binnacle.CodeNotFound
	})
}

// lostNode: a machine of the cluster is gone with all that ran there, and nothing
// ends its connections. Who worked there is told, a launch that was under way ends well,
// and the next ones start elsewhere.
func (h *clusterHub) lostNode(t *testing.T, repo *githost.Repo) {
	t.Helper()
	eventually(t, "the hub runs on both machines", func() bool { return h.spread(t) })
	l, s := ready(t, h.person, launchOf(repo.URL))
	k := kernelWith12Knots(t, s)
	pod, err := h.Client.CoreV1().Pods(h.sessions).Get(t.Context(), l.Session.ID, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := pod.Spec.NodeName
	b, err := h.person.Launch(t.Context(), binnacle.LaunchRequest{Repo: h.slow(t), BuildOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Signal(node, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "whose session was there is told", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		res, body, err := tryFetch(ctx, l.Session.URL+"lab?token="+l.Session.Token)
		return err == nil && res.StatusCode >= http.StatusBadRequest && strings.Contains(body, "machine") && !strings.Contains(body, l.Session.Token)
	})
	within(t, 2*patience, "a replica has taken the place of the lost one", func() bool { return len(h.ready(t)) == 2 })
	h.person.Close() // its connections lead to nowhere
	h.ends(t, b.ID)
	next, there := ready(t, h.person, launchOf(repo.URL))
	cell(t, there, "print(6 * 7)", "42")
	if err := h.person.Stop(t.Context(), next.Session.ID); err != nil {
		t.Error(err)
	}
	_ = k.Close() // it is gone
	eventually(t, "the machine is back", func() bool { return h.StartNode(t.Context(), node) == nil })
	eventually(t, "the lost session is no more", func() bool {
		list, err := h.person.Sessions(t.Context())
		return err == nil && !slices.ContainsFunc(list, func(o binnacle.Session) bool { return o.ID == l.Session.ID && o.State == "running" })
	})
	eventually(t, "the hub and its builders are whole again", func() bool {
		pods, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (hub, builder)"})
		return err == nil && len(pods.Items) == 4 && !slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return !isReady(&p) })
	})
	eventually(t, "the hub runs on both machines again", func() bool { return h.spread(t) })
}

// spread says whether the hub's replicas are on different machines. When they are not,
// it removes one: the scheduler only prefers it so.
func (h *clusterHub) spread(t *testing.T) bool {
	t.Helper()
	on := map[string]string{}
	for _, r := range h.ready(t) {
		pod, err := h.Client.CoreV1().Pods(h.namespace).Get(t.Context(), r.name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		if on[pod.Spec.NodeName] != "" {
			h.killPod(t, r.name)
			return false
		}
		on[pod.Spec.NodeName] = r.name
	}
	return len(on) == 2
}

// strangers: a session reaches nothing of the cluster but its DNS, and nobody
// reaches a session without its token.
func (h *clusterHub) strangers(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, s := ready(t, h.person, launchOf(repo.URL))
	api, err := url.Parse(h.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{api.Host, "169.254.169.254:80", h.Registry}
	for _, ns := range []string{h.namespace, h.sessions} {
		pods, err := h.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			targets = append(targets, p.Status.HostIP+":10250")
			if p.Name != l.Session.ID {
				targets = append(targets, p.Status.PodIP+":8888", p.Status.PodIP+":8585", p.Status.PodIP+":8372")
			}
		}
	}
	for _, ns := range []string{h.namespace, "default"} {
		services, err := h.Client.CoreV1().Services(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, svc := range services.Items {
			if svc.Spec.ClusterIP != corev1.ClusterIPNone {
				targets = append(targets, fmt.Sprintf("%s:%d", svc.Spec.ClusterIP, svc.Spec.Ports[0].Port))
			}
		}
	}
	if len(targets) < 12 {
		t.Fatalf("too little is tried: %q", targets)
	}
	// The last answers, or nothing of this would show anything: DNS over TCP.
	cell(t, s, `import concurrent.futures, os, re, socket
def reach(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        return address
    except OSError:
        return None
dns = re.search(r"nameserver (\S+)", open("/etc/resolv.conf").read())[1] + ":53"
targets = "`+strings.Join(targets, " ")+`".split() + [dns]
with concurrent.futures.ThreadPoolExecutor(40) as pool:
    found = [a for a in pool.map(reach, targets) if a]
print(found == [dns] or found, os.path.exists("/var/run/secrets"))`, "True False")
	for _, path := range []string{"api/contents", "lab", "api/kernels"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.Session.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := noRedirects().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode < http.StatusMultipleChoices {
			t.Errorf("%s answers a stranger: %s", path, res.Status)
		}
	}
	if err := dial(h.url).Stop(t.Context(), l.Session.ID); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("a stranger may stop a session: %v", err)
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// lostImage: an image that somebody deleted in the registry is built again, also when
// a launch had found it and its session only waits for room.
func (h *clusterHub) lostImage(t *testing.T, repo *githost.Repo) {
	t.Helper()
	l, _ := ready(t, h.person, launchOf(repo.URL))
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
	h.deleteImage(t, l.ID)
	again, events := launch(t, h.person, launchOf(repo.URL))
	if again.Phase != binnacle.PhaseReady || strings.Contains(logOf(events), "Found built image") {
		t.Fatalf("%+v\n%s", again.Error, logOf(events))
	}
	if err := h.person.Stop(t.Context(), again.Session.ID); err != nil {
		t.Error(err)
	}
	// No node has this one.
	made, _ := launch(t, h.person, binnacle.LaunchRequest{Repo: h.slow(t), BuildOnly: true})
	fillers := h.fill(t, "64Mi")
	late, err := h.person.Launch(t.Context(), launchOf(made.Revision.URL))
	if err != nil {
		t.Fatal(err)
	}
	deleted, text := false, ""
	err = h.person.Events(t.Context(), late.ID, 0, func(e binnacle.Event) error {
		text += e.Message + "\n"
		if strings.Contains(e.Message, "no room") && !deleted {
			deleted = true
			h.deleteImage(t, made.ID)
			h.remove(t, fillers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	late, err = h.person.Get(t.Context(), late.ID)
	if err != nil || late.Phase != binnacle.PhaseReady || !deleted || !strings.Contains(text, "Found built image") || !strings.Contains(text, "It is built again, so this launch takes longer") {
		t.Fatalf("%+v %v\n%s", late, err, text)
	}
	cell(t, server(late), "print(6 * 7)", "42")
	if err := h.person.Stop(t.Context(), late.Session.ID); err != nil {
		t.Error(err)
	}
}

// deleteImage deletes a launch's image in the registry.
func (h *clusterHub) deleteImage(t *testing.T, launch string) {
	t.Helper()
	l, err := h.person.Get(t.Context(), launch)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(h.imageOf(t, l), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(ref, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// imageOf is what the end of a launch says of its image.
func (h *clusterHub) imageOf(t *testing.T, l binnacle.Launch) string {
	t.Helper()
	image := ""
	err := h.person.Events(t.Context(), l.ID, 0, func(e binnacle.Event) error {
		image = cmp.Or(e.Image, image)
		return nil
	})
	if err != nil || !strings.HasPrefix(image, h.Registry+"/"+h.namespace+"/") {
		t.Fatalf("the image is %q %v", image, err)
	}
	return image
}

// killedBuilder: a build whose builder is killed begins again, from what is in the cache,
// and says why it takes longer.
func (h *clusterHub) killedBuilder(t *testing.T) {
	// Its environment is in the registry's cache: the builders' own is gone with them.
	wants := read(t, "../../examples/requirements/requirements.txt")
	dir := plainDir(t, map[string]string{"requirements.txt": wants, "postBuild": "#!/bin/bash\necho it runs\nsleep 8\n"})
	if err := os.Chmod(filepath.Join(dir, "postBuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	repo, err := h.git.Repo(t.Context(), "killed", dir)
	if err != nil {
		t.Fatal(err)
	}
	c := h.person
	l, err := c.Launch(t.Context(), binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	const why = " went away in the middle of the build. The build begins again on another one, so it takes longer; steps that are in the cache are not repeated."
	killed, text := false, ""
	again := map[string]bool{} // the steps of the second time, whether they came from the cache
	err = c.Events(t.Context(), l.ID, 0, func(e binnacle.Event) error {
		text += e.Message + "\n"
		if e.Kind == binnacle.EventStep && strings.Contains(text, why) {
			again[e.Step] = e.Cached
		}
		if e.Kind == binnacle.EventLog && strings.Contains(e.Message, "it runs") && !killed {
			killed = true
			h.kill(t, "app.kubernetes.io/component=builder")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = c.Get(t.Context(), l.ID); err != nil || l.Phase != binnacle.PhaseReady || !killed || !strings.Contains(text, why) {
		t.Errorf("%+v %v; killed %v\n%s", l, err, killed, text)
	}
	if !again["pip: requirements.txt"] || again["postBuild"] {
		t.Errorf("steps of the build that began again, and whether they were in the cache: %v\n%s", again, text)
	}
}

// brokenRegistry: what is wrong with the registry is said, and running sessions go on.
func (h *clusterHub) brokenRegistry(t *testing.T) {
	session, s := ready(t, h.person, launchOf(h.example.URL))
	k := kernelWith12Knots(t, s)
	for how, want := range map[string]string{"down": "registry", "slow": "registry", "denied": "does not let this hub", "limited": "limits"} {
		t.Run(how, func(t *testing.T) {
			repo, err := h.git.Repo(t.Context(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), plainDir(t, map[string]string{"a.txt": "one"}))
			if err != nil {
				t.Fatal(err)
			}
			h.SpoilRegistry(t, how)
			l, _ := launch(t, h.person, launchOf(repo.URL))
			runCell(t, k, "print(knots)", "12")
			if l.Error == nil || !strings.Contains(l.Error.Message, want) || strings.Contains(l.Error.Message, "goroutine") {
				t.Errorf("%+v", l.Error)
			}
		})
	}
	if err := errors.Join(k.Close(), h.person.Stop(t.Context(), session.Session.ID)); err != nil {
		t.Error(err)
	}
}

// full: who launches when no node has room is told so, and gets the session as
// soon as there is some.
func (h *clusterHub) full(t *testing.T, repo *githost.Repo) {
	t.Helper()
	fillers := h.fill(t, "64Mi")
	l, err := h.person.Launch(t.Context(), launchOf(repo.URL))
	if err != nil {
		t.Fatal(err)
	}
	told := false
	err = h.person.Events(t.Context(), l.ID, 0, func(e binnacle.Event) error {
		if strings.Contains(e.Message, "no room") && !told {
			told = true
			h.remove(t, fillers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = h.person.Get(t.Context(), l.ID); err != nil || l.Phase != binnacle.PhaseReady || !told {
		t.Fatalf("%+v %v; told %v", l, err, told)
	}
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}
