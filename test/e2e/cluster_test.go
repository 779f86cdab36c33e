package e2e_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"helm.sh/helm/v4/pkg/action"
	helmcli "helm.sh/helm/v4/pkg/cli"
	helmkube "helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/githost"
	"github.com/binnacle-hub/binnacle/test/kube"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

// clusterHub is a hub with Binnacle's own image on a real cluster, brought there
// by `binnacle deploy`. Azure, of which the cluster is said to be, is simulated.
type clusterHub struct {
	*kube.Cluster

	namespace, sessions string         // the first is the deployment's name too
	values              map[string]any // of the chart
	hub                 map[string]any // its configuration
	azure               *azuresim.Server
	dir                 string // of the deployment's file
	example             *githost.Repo
	git                 *githost.Host
	own                 string // Binnacle's own image
	imageData           string // where it was made
	url                 string // as browsers reach it, with a slash at the end
	person              *person
	postgres            *postgres.Server
	made                int // repositories
}

// person is somebody whose launches are counted.
type person struct {
	*client.Client

	asked []string // launches
}

// Launch counts what the hub has said yes to.
func (p *person) Launch(ctx context.Context, req binnacle.LaunchRequest) (binnacle.Launch, error) {
	l, err := p.Client.Launch(ctx, req)
	if err == nil {
		p.asked = append(p.asked, l.ID)
	}
	return l, err
}

// patience is how long a cluster may take for one thing.
const patience = 3 * time.Minute

// installHub makes the image as `make image` does, and deploys it, with what changes
// its settings.
func installHub(t *testing.T, changes ...func(*clusterHub)) *clusterHub {
	t.Helper()
	room(t)
	h := &clusterHub{Cluster: kube.Alone(t), dir: t.TempDir()}
	h.namespace = h.Namespace(t)
	h.sessions = h.namespace + "-sessions"
	h.image(t)
	h.base(t)
	host, _, err := net.SplitHostPort(h.Registry)
	if err != nil {
		t.Fatal(err)
	}
	if h.git, err = githost.On(host + ":0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.git.Close(); err != nil {
			t.Error(err)
		}
	})
	if h.example, err = h.git.Repo(t.Context(), "requirements", "../../examples/requirements"); err != nil {
		t.Fatal(err)
	}
	h.database(t, host)
	h.authorities(t)
	t.Cleanup(func() {
		if t.Failed() {
			h.logs(t)
		}
		h.uninstall(t)
	})
	h.settings(os.Getpid()%100 + 100)
	for _, change := range changes {
		change(h)
	}
	h.onAzure(t)
	h.person = &person{Client: dial(h.url)}
	h.up(t)
	return h
}

// authorities makes this machine's known in the cluster.
func (h *clusterHub) authorities(t *testing.T) {
	t.Helper()
	known := read(t, "/etc/ssl/certs/ca-certificates.crt")
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "site-ca"}, Data: map[string]string{"ca.pem": known}}
	if _, err := h.Client.CoreV1().ConfigMaps(h.namespace).Create(t.Context(), ca, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// settings are what this hub needs beside what `binnacle deploy` decides. Its
// address is the load balancer's of that number.
func (h *clusterHub) settings(number int) {
	address := h.Address(number)
	host, _, _ := net.SplitHostPort(h.Registry)
	h.url = "http://" + address + "/"
	small := map[string]any{"requests": map[string]any{"cpu": "50m", "memory": "128Mi"}}
	h.values = map[string]any{
		"url":        strings.TrimSuffix(h.url, "/"), // the cloud's own name for it is nobody's here
		"registry":   map[string]any{"insecure": true},
		"caBundle":   map[string]any{"configMap": "site-ca"},
		"service":    map[string]any{"loadBalancerIP": address},
		"hub":        map[string]any{"resources": small, "persistence": map[string]any{"size": "1Gi"}},
		"replicas":   2,
		"scheduling": map[string]any{"podPriority": map[string]any{"enabled": true}},
		"database":   map[string]any{"existingSecret": "hub-database"},
		"builders": map[string]any{
			"replicas": 2, "resources": small, "persistence": map[string]any{"enabled": false}, "terminationGracePeriodSeconds": 30,
			"userNamespace": true,
		},
	}
	h.hub = map[string]any{
		"base":   map[string]any{"image": h.Registry + "/hub/debian:test"},
		"source": map[string]any{"allow": []any{host + "/32"}},
		"kubernetes": map[string]any{
			"registry": map[string]any{"timeout": "10s"},
			"session":  map[string]any{"profiles": []any{map[string]any{"class": "large", "memory": "1280Mi"}}},
		},
		"launch": map[string]any{"per_owner": 0, "address_rate": 0, "limits": map[string]any{"memory": 1 << 30}},
	}
}

// uninstall removes what a cloud takes with the cluster that it deletes.
func (h *clusterHub) uninstall(t *testing.T) {
	t.Helper()
	settings := helmcli.New()
	settings.KubeConfig = h.Kubeconfig
	settings.SetNamespace(h.namespace)
	helm := action.NewConfiguration()
	if err := helm.Init(settings.RESTClientGetter(), h.namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	u := action.NewUninstall(helm)
	u.Timeout, u.WaitStrategy, u.DeletionPropagation, u.IgnoreNotFound = patience, helmkube.LegacyStrategy, "foreground", true
	if _, err := u.Run(h.namespace); err != nil {
		t.Error(err)
	}
}

// image makes Binnacle's own image as docs/kubernetes.md says, and pushes it to where
// the nodes fetch it. It is made twice, in two data directories: both are the same, byte
// for byte.
func (h *clusterHub) image(t *testing.T) {
	t.Helper()
	h.own = h.Registry + "/" + h.namespace + "/binnacle:e2e"
	base := filepath.Join(t.TempDir(), "base.tar")
	var digests []string
	for _, tag := range []string{h.own + "-again", h.own} {
		data, err := os.MkdirTemp("/tmp", "bm")
		if err != nil {
			t.Fatal(err)
		}
		h.imageData = data
		t.Cleanup(func() {
			if err := os.RemoveAll(data); err != nil {
				t.Error(err)
			}
		})
		// Not set up and built: other tests are using the program.
		cmd := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "-o", "setup", "-o", "build", "image", "IMAGE="+tag, "PUSH=1", "PLAIN_HTTP=1", "IMAGE_DATA="+data)
		cmd.Env = append(os.Environ(), "BINNACLE_BASE_ARCHIVE="+base)
		out, err := cmd.Output() // a name, and the digest
		if err != nil {
			t.Fatalf("make the image: %v\n%s", err, out)
		}
		digests = append(digests, strings.Split(string(out), "\n")[1])
	}
	if !strings.HasPrefix(digests[0], "sha256:") || digests[0] != digests[1] {
		t.Errorf("two images of the same: %q", digests)
	}
	ref, err := name.ParseReference(h.own, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	checkAttestations(t, ref, "pkg:deb/debian/tini@", "pkg:deb/debian/mmdebstrap@")
}

// base puts the base image of all tests into the registry: as a site's own.
func (h *clusterHub) base(t *testing.T) {
	t.Helper()
	layer, err := tarball.LayerFromFile(filepath.Join(os.TempDir(), "binnacle-test-base.tar"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(h.Registry+"/hub/debian:test", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// logs shows what the pods of a failed test said.
func (h *clusterHub) logs(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, ns := range []string{h.namespace, h.sessions} {
		pods, err := h.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Log(err)
			continue
		}
		for _, p := range pods.Items {
			b, err := h.Client.CoreV1().Pods(ns).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: new(int64(60))}).DoRaw(ctx)
			t.Logf("%s/%s %s %+v: %v\n%s", ns, p.Name, p.Status.Phase, p.Status.ContainerStatuses, err, b)
		}
		events, err := h.Client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for _, e := range events.Items {
			t.Log(ns, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
}

// eventually asks until what is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	within(t, patience, what, is)
}

func within(t *testing.T, patience time.Duration, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// TestKubernetes is the whole story on a real cluster: `binnacle deploy` brings the
// hub there, a person opens the page, launches a repository, runs a cell and stops
// it; what breaks meanwhile is told and mended; what the institute commits is
// followed; what can't be made again is backed up; in the end nothing is left.
func TestKubernetes(t *testing.T) {
	h := installHub(t)
	repo := h.example
	pods := h.Client.CoreV1().Pods(h.sessions)
	b := newBrowser(t)
	b.do("home", chromedp.Navigate(h.url))
	b.do("launch", chromedp.SendKeys("#repo", repo.URL), chromedp.SendKeys("#path", "index.ipynb"), chromedp.SendKeys("#repo", kb.Enter))
	b.runExample("kubernetes")
	b.shot("kubernetes-ran")
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Status.Phase != corev1.PodRunning {
		t.Fatalf("%d pods %v", len(list.Items), err)
	}
	b = b.newTab()
	b.do("sessions", chromedp.Navigate(h.url+"sessions"))
	b.until(`document.querySelector("#sessions li")`)
	t.Run("SecondLaunch", func(t *testing.T) { h.second(t, repo) })
	t.Run("Browser", func(t *testing.T) { h.browserGoesOn(t, repo) })
	t.Run("KilledHubs", func(t *testing.T) { h.killedHubs(t, repo) })
	t.Run("Replicas", func(t *testing.T) { h.replicas(t, repo) })
	t.Run("Together", func(t *testing.T) { h.together(t, repo) })
	t.Run("Database", h.withoutDatabase)
	t.Run("LostPod", func(t *testing.T) { h.lostPod(t, repo) })
	t.Run("Strangers", func(t *testing.T) { h.strangers(t, repo) })
	t.Run("HostileBuild", h.hostileBuild)
	t.Run("Tokens", func(t *testing.T) { h.tokens(t, repo) })
	t.Run("Machines", func(t *testing.T) { h.machines(t, repo) })
	t.Run("LostNode", func(t *testing.T) { h.lostNode(t, repo) })
	t.Run("Full", func(t *testing.T) { h.full(t, repo) })
	t.Run("LostImage", func(t *testing.T) { h.lostImage(t, repo) })
	t.Run("KilledBuilder", h.killedBuilder)
	t.Run("Registry", h.brokenRegistry)
	t.Run("Ways", h.ways)
	t.Run("Room", h.room)
	t.Run("Scaled", h.scaled)
	t.Run("Rolling", h.rolling)
	t.Run("Counted", h.counted)
	t.Run("Commits", h.commits)
	t.Run("Inside", h.inside)
	t.Run("Builds", h.builds)
	t.Run("Backup", h.backup)
	t.Run("Handbook", h.handbook)
	t.Run("Down", h.down)
	h.uninstall(t)
	eventually(t, "the namespace of sessions is removed", func() bool {
		_, err := h.Client.CoreV1().Namespaces().Get(t.Context(), h.sessions, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	eventually(t, "all pods are gone", func() bool {
		list, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 0
	})
	t.Run("TryOut", h.tryOut)
}
