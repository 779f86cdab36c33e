package cli_test

import (
	"bytes"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/binnacle-hub/binnacle/test/kube"
	"github.com/binnacle-hub/binnacle/test/kubesim"
)

// in is the doom in the first request that fits.
func in(pattern string, after bool) func(int, string) (bool, bool) {
	re := regexp.MustCompile(pattern)
	return func(_ int, request string) (bool, bool) { return re.MatchString(request), after }
}

// The program itself, killed by the kernel, with a real cluster: once in each phase of
// up, each time further, then in each phase of down. A stand-in is what the other test
// has for a cluster; both are asked for the same changes.
func TestDeployKilledOnCluster(t *testing.T) {
	k := kube.Shared(t)
	gone(t, k, "my-hub")
	transport, err := rest.TransportFor(k.Config)
	if err != nil {
		t.Fatal(err)
	}
	api, err := url.Parse(k.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	d := &doomed{target: "azure"}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(api)
		r.Out.Header.Del("Authorization") // the transport has better
	}}
	front := httptest.NewServer(d.front(proxy))
	t.Cleanup(front.Close)
	d.access = kubesim.Kubeconfig(front.URL)
	resolver := parentZone(t, new(atomic.Bool))
	d.describe(t, resolver, small(k.StandIn(t)), false)
	made := map[string]bool{}
	for _, phase := range []struct {
		request string
		after   bool
	}{
		{`^PUT .*/managedClusters/my-hub$`, true},
		{`^PUT .*/publicIPAddresses/my-hub$`, false},
		{`^POST /api/v1/namespaces$`, true},
		{`^POST .*/leases$`, true},
		{`generateCredentials$`, true},
		{`^POST /api/v1/namespaces/my-hub/secrets$`, true}, // the registry's
		{`^POST /api/v1/namespaces/my-hub/secrets$`, true}, // Helm's, before it begins
		{`^PATCH .*/services/`, true},
		{`^PATCH .*/(deployments|statefulsets)/`, true},
		{`^PUT .*/secrets/sh.helm.release`, false}, // it was about to say that it is done
		{`^POST /api/v1/namespaces/my-hub-sessions/secrets$`, false},
	} {
		d.slain(t, k, phase.request, phase.after, made, commands()["up"]...)
	}
	if code, said := d.process(t, made, nil, commands()["up"]...); code != 0 {
		t.Fatalf("exit %d\n%s", code, said)
	}
	d.release(t)
	if open := d.open(t); len(open) > 0 {
		t.Errorf("left open: %q", open)
	}
	for request, times := range d.changed() {
		if times > 1 && !strings.Contains(request, "/registries/tokens/") && !strings.Contains(request, "generateCredentials") {
			t.Errorf("%d times %s", times, request)
		}
	}
	before := len(d.azure.Writes())
	if code, said := d.process(t, made, nil, commands()["up"]...); code != 0 || !strings.Contains(said, "Nothing to do") || len(d.azure.Writes()) != before {
		t.Errorf("up on top of up: exit %d\n%s", code, said)
	}
	sim := newDoomed(t, "azure", resolver, false)
	sim.arm(nil, nil)
	if code, said := sim.run(t.Context(), commands()["up"]...); code != 0 {
		t.Fatal(said)
	}
	simulated := map[string]bool{}
	for _, request := range sim.asked {
		keep(simulated, request)
	}
	if diff := cmp.Diff(made, simulated); diff != "" {
		t.Errorf("the stand-in is asked for other changes than a cluster (-cluster +stand-in):\n%s", diff)
	}

	// The same hub as one on a cluster that is there, and away with it.
	down := &doomed{target: "cluster", access: d.access}
	down.describe(t, resolver, small(k.StandIn(t)), false)
	proxied := httptest.NewServer(down.front(proxy))
	t.Cleanup(proxied.Close)
	if err := os.WriteFile(filepath.Join(filepath.Dir(down.file), "kubeconfig"), kubesim.Kubeconfig(proxied.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []struct {
		request string
		after   bool
	}{
		{`^PUT .*/secrets/sh.helm.release`, true},
		{`^DELETE .*/services/`, true}, // Helm removes them first
		{`^DELETE .*/(deployments|statefulsets)/`, false},
		{`^DELETE .*/secrets/sh.helm.release`, false},
		{`^DELETE .*/persistentvolumeclaims/`, true},
		{`^DELETE .*/secrets/my-hub-registry`, true},
		{`^DELETE /api/v1/namespaces/my-hub$`, true},
	} {
		down.slain(t, k, phase.request, phase.after, map[string]bool{}, commands()["down"]...)
	}
	if code, said := down.process(t, map[string]bool{}, nil, commands()["down"]...); code != 0 || !strings.Contains(said, "nothing of the deployment my-hub is left") {
		t.Errorf("down: exit %d\n%s", code, said)
	}
	if open := down.open(t); len(open) > 0 {
		t.Errorf("down leaves open: %q", open)
	}
	for _, ns := range []string{"my-hub", "my-hub-sessions"} {
		if _, err := k.Client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the namespace %s: %v", ns, err)
		}
	}
}

// keep notes a change that was asked for, without what counts tries, the hour of
// a log, and the locks.
func keep(made map[string]bool, request string) {
	if writes(request) && !strings.Contains(request, "/leases") {
		made[regexp.MustCompile(`v\d+$|runs/\d+T\d+Z`).ReplaceAllString(request, "v")] = true
	}
}

// process runs the program as a process, which is killed in the request that doom
// says. made collects what it changed.
func (d *doomed) process(t *testing.T, made map[string]bool, doom func(int, string) (bool, bool), args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"deploy", "--file", d.file}, args...)...)
	cmd.Env = append(slices.Clone(d.environ), asProgram+"=1", "PATH="+os.Getenv("PATH"))
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	started := make(chan struct{})
	d.arm(doom, func() {
		<-started
		_ = cmd.Process.Kill()
	})
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	err = cmd.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, request := range d.asked { // the last too: it was carried out, or is asked again
		keep(made, request)
	}
	if d.dead && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it was not killed: %v", err)
	}
	return cmd.ProcessState.ExitCode(), both.String()
}

// slain is a process that must meet its death in a request; half a minute goes by
// after that, for the lock that it held.
func (d *doomed) slain(t *testing.T, k *kube.Cluster, request string, after bool, made map[string]bool, args ...string) {
	t.Helper()
	code, said := d.process(t, made, in(request, after), args...)
	if !d.dead {
		t.Errorf("%s: there was no such request: exit %d\n%s", request, code, said)
	}
	leases := k.Client.CoordinationV1().Leases("my-hub")
	lease, err := leases.Get(t.Context(), "my-hub-deploy", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	if err == nil {
		lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now().Add(-time.Minute)}
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
}
