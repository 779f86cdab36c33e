package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/binnacle-hub/binnacle/internal/hub/client"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/jupyter"
	"github.com/binnacle-hub/binnacle/test/tryout"
	"github.com/binnacle-hub/binnacle/test/workshop"
)

const tryoutPage = "../../docs/kubernetes-try.md"

// trial is a release of the chart as somebody installs it who tries it out.
type trial struct {
	*clusterHub

	values string // a file of values beside those of the page
	token  string // who we are to the hub
}

// tryOut: somebody follows docs/kubernetes-try.md, which has the chart make a registry
// and a PostgreSQL and leaves the rest as the chart has it. The images of these two
// stand in for those that the chart names (see test/tryout).
func (h *clusterHub) tryOut(t *testing.T) {
	repo, err := h.git.Repo(t.Context(), "plain", "../../examples/plain")
	if err != nil {
		t.Fatal(err)
	}
	r := h.trial(t)
	r.lesson(t, "## Install")
	values := r.given(t)
	before := r.work(t, repo)
	t.Run("Restarted", func(t *testing.T) { r.restarted(t, repo, before, "builder", "hub", "postgresql", "registry") })
	t.Run("Mail", func(t *testing.T) { r.noMail(t, before.Server) })
	t.Run("Policies", r.enforced)
	t.Run("HTTPS", func(t *testing.T) { r.https(t, repo, before) })
	t.Run("InstalledAgain", func(t *testing.T) { r.installedAgain(t, repo, before, values) })
	t.Run("SQLite", func(t *testing.T) {
		r.helm(t, "upgrade", "hub", "../../internal/deploy/chart/binnacle", "--reuse-values", "--set", "postgresql.enabled=false", "--wait", "--timeout", "3m")
		r.token = "" // another database, which knows nobody
		r.restarted(t, repo, r.work(t, repo), "hub")
	})
	r.lesson(t, "## Remove")
	r.nothingLeft(t)
}

// trial prepares what a test has to, because its machine is not on the internet as
// others are: images, authorities, and that the git server is at a private address.
func (h *clusterHub) trial(t *testing.T) *trial {
	t.Helper()
	r := &trial{clusterHub: &clusterHub{Cluster: h.Cluster, namespace: "binnacle", sessions: "binnacle-sessions", imageData: h.imageData}, values: filepath.Join(t.TempDir(), "values.yaml")}
	namespaces := h.Client.CoreV1().Namespaces()
	if _, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.logs(t)
		}
		for _, name := range []string{r.namespace, r.sessions} { // of a test that did not come to its end
			err := namespaces.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
	r.authorities(t)
	host, _, _ := strings.Cut(h.Registry, ":")
	b, err := yaml.Marshal(map[string]any{
		"caBundle":          map[string]any{"configMap": "site-ca"},
		"postgresql":        map[string]any{"image": r.push(t, "postgres:18", tryout.Postgres(t))},
		"inClusterRegistry": map[string]any{"image": r.push(t, "registry:3", tryout.Registry(t))},
		"config":            map[string]any{"source": map[string]any{"allow": []any{host + "/32"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.values, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// push brings an image to where the nodes fetch it.
func (r *trial) push(t *testing.T, as string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(r.Registry+"/"+as, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// lesson runs the commands of a section of the page. All nodes have what the reader
// writes on each.
func (r *trial) lesson(t *testing.T, section string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(r.Dir, "node1", "etc", "registries")
	programs := kubectl(t)
	programs["helm"] = "case \" $* \" in *' install '*) set -- \"$@\" -f " + r.values + " ;; esac\n" + programs["helm"]
	// Not set up and built: other tests are using the program.
	programs["make"] = "exec /usr/bin/make -s -o setup -o build \"$@\" IMAGE_DATA=" + r.imageData + "\n"
	lesson := workshop.Lesson{
		Page: tryoutPage, Section: section, Dir: root, Binnacle: "exec " + the.bin + " \"$@\"\n", Programs: programs,
		Env:     []string{"KUBECONFIG=" + r.Kubeconfig},
		Replace: map[string]string{"/etc/containerd/certs.d": hosts},
	}
	others, err := filepath.Glob(filepath.Join(r.Dir, "node*", "etc", "registries"))
	if err != nil || len(others) < 2 {
		t.Fatal(others, err)
	}
	address := r.nodeAddress(t) + ":30500"
	for _, dir := range others {
		if dir == hosts {
			continue
		}
		if err := os.Symlink(filepath.Join(hosts, address), filepath.Join(dir, address)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	lesson.Run(t)
}

func (r *trial) nodeAddress(t *testing.T) string {
	t.Helper()
	for _, a := range r.nodes(t)[0].Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	t.Fatal("a node has no address")
	return ""
}

// forwarded reaches the hub as the page says, by kubectl, while use runs.
func (r *trial) forwarded(t *testing.T, use func(hub *client.Client, through func(string) string)) {
	t.Helper()
	const own = "8585:"
	command := regexp.MustCompile(`(?m)^    kubectl (.* port-forward .*) ` + own + `(\d+)$`).FindStringSubmatch(read(t, tryoutPage))
	if command == nil {
		t.Fatal("the page does not tell how to open the hub")
	}
	cmd := exec.CommandContext(t.Context(), "../../.tools/kube/bin/kubernetes", append(append([]string{"kubectl"}, strings.Fields(command[1])...), ":"+command[2])...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.Kubeconfig)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if address == "" {
		t.Fatalf("kubectl port-forward: %q %v", line, err)
	}
	hub := dial("http://" + address + "/").WithToken(r.token)
	use(hub, func(url string) string {
		t.Helper()
		if !strings.HasPrefix(url, "http://127.0.0.1:8585/") {
			t.Fatalf("a session is at %s, where nobody who uses port-forward gets", url)
		}
		return strings.Replace(url, "127.0.0.1:8585", address, 1)
	})
	r.token = hub.Token()
}

// working is somebody in the middle of a notebook.
type working struct {
	jupyter.Server

	kernel, launch string
}

// work launches a repository, and leaves a variable in a kernel.
func (r *trial) work(t *testing.T, repo *githost.Repo) (w working) {
	t.Helper()
	r.forwarded(t, func(hub *client.Client, through func(string) string) {
		l, s := ready(t, hub, launchOf(repo.URL))
		w = working{Server: s, launch: l.ID}
		s.URL = through(s.URL)
		k := kernelWith12Knots(t, s)
		w.kernel = k.ID
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// restarted: these pods of the release begin anew. The session, what the hub knew, and
// the images are there.
func (r *trial) restarted(t *testing.T, repo *githost.Repo, w working, components ...string) {
	t.Helper()
	before := r.pods(t, components...)
	if len(before) != len(components) {
		t.Fatalf("%d pods are %v", len(before), components)
	}
	for name := range before {
		if err := r.Client.CoreV1().Pods(r.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are new, and ready", func() bool {
		now := r.pods(t, components...)
		for name, p := range now {
			if old, ok := before[name]; ok && old.UID == p.UID || !isReady(&p) {
				return false
			}
		}
		return len(now) == len(before)
	})
	r.forwarded(t, func(hub *client.Client, through func(string) string) {
		s := w.Server
		s.URL = through(s.URL)
		k := r.attach(t, s, w.kernel)
		runCell(t, k, "print(knots + 1)", "13")
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		r.remembers(t, hub, repo, w.launch)
	})
}

// pods are those of these components, by name.
func (r *trial) pods(t *testing.T, components ...string) map[string]corev1.Pod {
	t.Helper()
	list, err := r.Client.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if slices.Contains(components, p.Labels["app.kubernetes.io/component"]) {
			out[p.Name] = p
		}
	}
	return out
}

// noMail: a session sends no mail, and reaches other ports of the same machine.
func (r *trial) noMail(t *testing.T, s jupyter.Server) {
	t.Helper()
	const smtp = 25
	mail, err := the.far.ListenOn(smtp) // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer mail.Close()
	other, err := the.far.ListenOn(0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.forwarded(t, func(_ *client.Client, through func(string) string) {
		s.URL = through(s.URL)
		cell(t, s, `import socket
def reach(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        return True
    except OSError:
        return False
print(reach("`+mail.Addr().String()+`"), reach("`+other.Addr().String()+`"))`, "False True")
	})
}

// enforced: `helm test` says whether the cluster enforces the policies of sessions. When
// the programs that do so stand still, it does not for new pods.
func (r *trial) enforced(t *testing.T) {
	if out, err := r.try(t, "test", "hub"); err != nil || !strings.Contains(out, "Sessions reach none of: the API server=") {
		t.Errorf("with policies: %v\n%s", err, out)
	}
	resume := r.Pause(t, "network") // of all nodes
	out, err := r.try(t, "test", "hub")
	resume()
	if err == nil || !strings.Contains(out, "A session reaches the API server (kubernetes.default.svc:443), the hub (") {
		t.Errorf("without policies: %v\n%s", err, out)
	}
}

// remembers: the hub knows an earlier launch, and the registry its image.
func (r *trial) remembers(t *testing.T, hub *client.Client, repo *githost.Repo, launched string) {
	t.Helper()
	if l, err := hub.Get(t.Context(), launched); err != nil || l.ID != launched {
		t.Errorf("what the hub knows of an earlier launch: %+v %v", l, err)
	}
	l, events := launch(t, hub, launchOf(repo.URL))
	if l.Session == nil || !strings.Contains(logOf(events), "Found built image") {
		t.Fatalf("the image was there: %+v\n%s", l.Error, logOf(events))
	}
	if err := hub.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
}

// installedAgain: a release that was removed left its claims, and the same release
// goes on with them: the database knows its password.
func (r *trial) installedAgain(t *testing.T, repo *githost.Repo, w working, values string) {
	t.Helper()
	r.helm(t, "uninstall", "hub", "--wait")
	r.claims(t, "data-hub-binnacle-postgresql-0", "data-hub-binnacle-registry-0")
	r.gone(t, r.sessions)
	r.helm(t, "install", "hub", "../../internal/deploy/chart/binnacle", "-f", values)
	eventually(t, "hub and registry are ready", func() bool {
		pods := r.pods(t, "hub", "registry")
		for _, p := range pods {
			if !isReady(&p) {
				return false
			}
		}
		return len(pods) == 2 && r.answers(t, "http://"+r.nodeAddress(t)+":30500/v2/")
	})
	r.forwarded(t, func(hub *client.Client, _ func(string) string) { r.remembers(t, hub, repo, w.launch) })
}

// answers says whether there is a server at an address, by way of the node's port.
func (r *trial) answers(t *testing.T, address string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// given is a file with the values of the release.
func (r *trial) given(t *testing.T) string {
	t.Helper()
	values, err := r.try(t, "get", "values", "hub", "-o", "yaml")
	if err != nil {
		t.Fatal(err, values)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// claims are those that there are, and no others.
func (r *trial) claims(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	eventually(t, "the claims are as the page says", func() bool {
		list, err := r.Client.CoreV1().PersistentVolumeClaims(r.namespace).List(t.Context(), metav1.ListOptions{})
		got = nil
		for _, c := range list.Items {
			got = append(got, c.Name)
		}
		slices.Sort(got)
		return err == nil && slices.Equal(want, got)
	})
}

func (r *trial) gone(t *testing.T, namespace string) {
	t.Helper()
	eventually(t, namespace+" is removed", func() bool {
		_, err := r.Client.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// nothingLeft: neither namespaces nor volumes.
func (r *trial) nothingLeft(t *testing.T) {
	t.Helper()
	r.gone(t, r.namespace)
	r.gone(t, r.sessions)
	eventually(t, "all volumes are removed", func() bool {
		list, err := r.Client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
		return err == nil && !slices.ContainsFunc(list.Items, func(v corev1.PersistentVolume) bool { return v.Spec.ClaimRef.Namespace == r.namespace })
	})
}

// helm runs Helm on the release's namespace.
func (r *trial) helm(t *testing.T, args ...string) {
	t.Helper()
	if out, err := r.try(t, args...); err != nil {
		t.Fatalf("helm %q: %v\n%s", args, err, out)
	}
}

func (r *trial) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../.tools/kube/bin/helm", append([]string{"-n", r.namespace}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.Kubeconfig)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
