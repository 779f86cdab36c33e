package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/githost"
)

// hostileBuild: the code of a repository reaches nothing of the cluster while its
// image is built either, and is nobody on the node.
func (h *clusterHub) hostileBuild(t *testing.T) {
	t.Helper()
	api, err := url.Parse(h.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{api.Host, "169.254.169.254:80", h.Registry}
	pods, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		targets = append(targets, p.Status.HostIP+":10250", p.Status.PodIP+":8585", p.Status.PodIP+":8372", "127.0.0.1:8372")
	}
	services, err := h.Client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range services.Items {
		targets = append(targets, fmt.Sprintf("%s:%d", svc.Spec.ClusterIP, svc.Spec.Ports[0].Port))
	}
	if len(targets) < 12 {
		t.Fatalf("too little is tried: %q", targets)
	}
	// The first server is the step's own, or nothing of this would show anything.
	dir := plainDir(t, map[string]string{"requirements.txt": read(t, "../../examples/requirements/requirements.txt"), "postBuild": `#!/usr/bin/env python3
import concurrent.futures, os, socket
def reach(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        return address
    except OSError:
        return None
own = socket.create_server(("127.0.0.1", 0))
mine = "127.0.0.1:%d" % own.getsockname()[1]
targets = [mine] + "` + strings.Join(targets, " ") + `".split()
with concurrent.futures.ThreadPoolExecutor(40) as pool:
    found = [a for a in pool.map(reach, targets) if a]
print("reached", found == [mine] or found, os.path.exists("/var/run/secrets"), open("/proc/self/uid_map").read().split()[1] != "0")
`})
	if err := os.Chmod(filepath.Join(dir, "postBuild"), 0o755); err != nil {
		t.Fatal(err)
	}
	repo, err := h.git.Repo(t.Context(), "hostile", dir)
	if err != nil {
		t.Fatal(err)
	}
	l, events := launch(t, h.person, binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
	if l.Phase != binnacle.PhaseReady || !strings.Contains(logOf(events), "reached True False True") {
		t.Errorf("%+v\n%s", l.Error, logOf(events))
	}
}

// tokens: a session's WebSocket is nobody's without its token, nor with another
// session's; and no log has a token.
func (h *clusterHub) tokens(t *testing.T, repo *githost.Repo) {
	t.Helper()
	one, s := ready(t, h.person, launchOf(repo.URL))
	other, _ := ready(t, dial(h.url), launchOf(repo.URL))
	k, err := s.StartKernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	address := "ws" + strings.TrimPrefix(one.Session.URL, "http") + "api/kernels/" + k.ID + "/channels"
	for who, header := range map[string]http.Header{
		"nobody": {}, "another session": {"Authorization": {"token " + other.Session.Token}}, "another's cookie": {"Cookie": {"token=" + other.Session.Token}},
	} {
		c, res, err := websocket.Dial(t.Context(), address, &websocket.DialOptions{HTTPHeader: header})
		if err == nil {
			_ = c.CloseNow()
			t.Errorf("%s may speak to a kernel", who)
		} else if res == nil || res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v", who, err)
		}
	}
	runCell(t, k, "print(6 * 7)", "42")
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	for _, ns := range []string{h.namespace, h.sessions} {
		pods, err := h.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			b, err := h.Client.CoreV1().Pods(ns).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, token := range []string{one.Session.Token, other.Session.Token} {
				if strings.Contains(string(b), token) {
					t.Errorf("the log of %s has a session's token", p.Name)
				}
			}
		}
	}
	for _, l := range []binnacle.Launch{one, other} {
		if err := h.Client.CoreV1().Pods(h.sessions).Delete(t.Context(), l.Session.ID, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}
