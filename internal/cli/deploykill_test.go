package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/deploy/azure"
	"github.com/binnacle-hub/binnacle/internal/deploy/release"
	"github.com/binnacle-hub/binnacle/test/azuresim"
	"github.com/binnacle-hub/binnacle/test/kubesim"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

// reaper stands before clouds and ends a run in one of its requests: nothing that
// comes after it gets through, whoever asks.
type reaper struct {
	mu sync.Mutex
	// doom says that a request is the last one, and whether it is still carried out;
	// nil lets all through.
	doom  func(n int, request string) (last, after bool)
	kill  func()
	dead  bool
	asked []string // "PUT /path", since the last arm
	// disk says what the run has written here; disks are its answers, for each request.
	disk  func() int64
	disks []int64
}

// arm lets requests through again, until doom says otherwise.
func (r *reaper) arm(doom func(n int, request string) (last, after bool), kill func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doom, r.kill, r.dead, r.asked, r.disks = doom, kill, false, nil, nil
}

// at is the doom in the n-th request.
func at(n int, after bool) func(int, string) (bool, bool) {
	return func(i int, _ string) (bool, bool) { return i == n, after }
}

func (r *reaper) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.dead {
			request := req.Method + " " + req.URL.Path
			r.asked = append(r.asked, request)
			if r.disk != nil {
				r.disks = append(r.disks, r.disk())
			}
			if r.doom != nil {
				var after bool
				if r.dead, after = r.doom(len(r.asked), request); r.dead && after {
					next.ServeHTTP(httptest.NewRecorder(), req)
				}
			}
			if r.dead {
				r.kill()
			}
		}
		if r.dead {
			kubesim.Refuse(w, "this process is dead")
			return
		}
		next.ServeHTTP(w, req)
	})
}

// writes says that a request may change something.
func writes(request string) bool {
	method, path, _ := strings.Cut(request, " ")
	path = strings.ToLower(path)
	for _, harmless := range []string{"/oauth2/", "checknameavailability", "listclusterusercredential", "selfsubjectaccessreviews"} {
		if strings.Contains(path, harmless) {
			return false
		}
	}
	return method != http.MethodGet && method != http.MethodHead
}

// keepsNothing is a storage account that keeps nothing. Azurite is what the archive is held
// against elsewhere.
type keepsNothing struct{}

func (keepsNothing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("X-Ms-Error-Code", "BlobNotFound")
	w.WriteHeader(http.StatusNotFound)
}

// doomed is a deployment whose runs die.
type doomed struct {
	reaper

	target  string
	azure   *azuresim.Server // nil on a cluster that is there
	kube    *kubesim.Cluster
	access  []byte
	account string // the address of the blobs
	file    string
	environ []string
}

// newDoomed has things of others beside the deployment; more of them are where it
// will be.
func newDoomed(t *testing.T, target, resolver string, more bool) *doomed {
	t.Helper()
	d := &doomed{target: target, kube: &kubesim.Cluster{}}
	d.kube.Front = d.front
	d.access = kubesim.Start(t, d.kube)
	d.describe(t, resolver, small("registry.example.org/binnacle:1"), more)
	return d
}

// describe writes the deployment's file, and puts others' things there.
func (d *doomed) describe(t *testing.T, resolver, hub string, more bool) {
	t.Helper()
	object := func() map[string]any { return map[string]any{"metadata": map[string]any{}} }
	if d.kube != nil {
		d.kube.Add("/api/v1/namespaces/somebodys", object())
		d.kube.Add("/api/v1/namespaces/somebodys/configmaps/theirs", object())
	}
	if d.target == "cluster" {
		file := filepath.Join(t.TempDir(), "binnacle.yaml")
		kubeconfig := filepath.Join(filepath.Dir(file), "kubeconfig")
		text := "name: my-hub\ntarget: cluster\ncluster: {kubeconfig: " + kubeconfig + ", context: sim}\n" +
			"registry: {kind: other, host: registry.example.org, username: ada, password_from: env:REGISTRY_PASSWORD}\n" + hub
		for path, content := range map[string][]byte{file: []byte(text), kubeconfig: d.access} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if more {
			d.kube.Add("/api/v1/namespaces/my-hub", object())
			d.kube.Add("/api/v1/namespaces/my-hub/secrets/theirs", object())
		}
		d.file, d.environ = file, []string{"REGISTRY_PASSWORD=" + registryPassword}
		return
	}
	account := httptest.NewServer(d.front(keepsNothing{}))
	t.Cleanup(account.Close)
	d.account = account.URL
	d.azure = azuresim.Start(t, &azuresim.Azure{Kubeconfig: d.access, Front: d.front, Blobs: account.URL, BlobKey: blobKey})
	d.azure.Add("NetworkWatcherRG", "Microsoft.Resources/resourceGroups", "NetworkWatcherRG", nil)
	d.azure.Add("NetworkWatcherRG", "Microsoft.Network/networkWatchers", "w", nil)
	if more {
		d.azure.Add("binnacle-my-hub", "Microsoft.Resources/resourceGroups", "binnacle-my-hub", map[string]string{"owner": "grace"})
		d.azure.Add("binnacle-my-hub", "Microsoft.Compute/disks", "theirs", nil)
		d.azure.Add("binnacle-my-hub", "Microsoft.ContainerService/managedClusters", "other", map[string]string{azure.Tag: "other-hub"})
	}
	d.file, d.environ = onAzure(t, d.azure, "dns: {label: my-hub-label}\n", "dns: {label: my-hub-label, domain: hub.example.org, resolver: '"+resolver+"'}\n"+hub, "  region: westeurope\n", "  region: westeurope\n  storage: true\n  pools: {builds: {size: Standard_D4s_v5}}\n")
}

func (d *doomed) journal() string {
	return filepath.Join(filepath.Dir(d.file), ".binnacle", "my-hub", "journal")
}

// run is a process of its own.
func (d *doomed) run(ctx context.Context, args ...string) (code int, said string) {
	var both bytes.Buffer
	code = cli.Run(ctx, cli.Env{
		Args: append([]string{"deploy", "--file", d.file}, args...), In: strings.NewReader(""), Out: &both, Err: &both,
		Environ: d.environ, Width: func() int { return 80 }, Version: "1.2.3", Poll: time.Millisecond, Registries: registryhost.Nowhere(),
	})
	return code, both.String()
}

// killed is a run that dies. What it writes to its journal after that is not
// written, as no other clean-up is; half a minute goes by.
func (d *doomed) killed(t *testing.T, doom func(int, string) (bool, bool), args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var journal []byte
	var err error
	d.arm(doom, func() {
		journal, err = os.ReadFile(d.journal())
		cancel()
	})
	d.run(ctx, args...)
	if d.dead && os.IsNotExist(err) {
		_ = os.Remove(d.journal())
	} else if d.dead {
		err = os.WriteFile(d.journal(), journal, 0o600)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	d.arm(nil, nil)
	d.kube.Edit("/apis/coordination.k8s.io/", func(_ string, o map[string]any) {
		if spec, ok := o["spec"].(map[string]any); ok {
			spec["renewTime"] = "2026-01-02T03:04:05.000000Z"
		}
	})
}

// whole is everything that there is, without what is random or counts tries: the
// content of Secrets and the revisions that Helm keeps.
func (d *doomed) whole() map[string]string {
	out := map[string]string{}
	if d.azure != nil {
		out = d.azure.Whole()
	}
	if _, there := out[clusterID]; there || d.azure == nil { // its machines go with it
		maps.Copy(out, d.kube.State())
	}
	for path, text := range out {
		text = strings.ReplaceAll(text, d.account, "ACCOUNT")
		out[path] = text
		var o struct {
			Metadata map[string]any
			Data     map[string]any
		}
		if strings.Contains(path, "/secrets/") && json.Unmarshal([]byte(text), &o) == nil {
			for key := range o.Data {
				o.Data[key] = "…"
			}
			out[path] = fmt.Sprint(o)
		}
		out[path] = checksum.ReplaceAllString(out[path], "…") // of Secrets with random content
		if strings.Contains(path, "/secrets/sh.helm.release") {
			delete(out, path)
		}
	}
	return out
}

// clusterID is the id of the cluster on the simulator.
const clusterID = "/subscriptions/" + azuresim.Subscription + "/resourcegroups/binnacle-my-hub/providers/microsoft.containerservice/managedclusters/my-hub"

var checksum = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// release is the newest revision: it must be in use, and the only one that is.
func (d *doomed) release(t *testing.T) release.Release {
	t.Helper()
	c, err := release.New(release.Access{Kubeconfig: d.access}, "my-hub", "1.2.3", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.History("my-hub")
	if err != nil {
		t.Error(err)
		return release.Release{}
	}
	for i, r := range all {
		if r.Pending() || r.Deployed() != (i == len(all)-1) {
			t.Errorf("revision %d of %d is %s", r.Revision, len(all), r.Status)
		}
	}
	return all[len(all)-1]
}

// open says which operations the journal has not seen the end of.
func (d *doomed) open(t *testing.T) (open []string) {
	t.Helper()
	b, err := os.ReadFile(d.journal())
	if err != nil {
		t.Error(err)
	}
	last := map[string]string{}
	for line := range strings.Lines(string(b)) {
		var e struct{ Step, Kind, Name string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Error(err)
		}
		last[e.Kind+"/"+e.Name] = e.Step
	}
	for key, step := range last {
		if step != "done" && step != "failed" {
			open = append(open, key+": "+step)
		}
	}
	return open
}

// changed are the requests that changed something, by how often they were made.
func (d *doomed) changed() (out map[string]int) {
	out = map[string]int{}
	if d.kube != nil {
		for _, w := range d.kube.Writes() {
			out[w]++
		}
	}
	if d.azure != nil {
		for _, w := range d.azure.Writes() {
			out[w]++
		}
	}
	return out
}

// fate is what a deployment comes to when nothing dies.
type fate struct {
	up, down map[string]string
	release  release.Release
	calls    map[string][]string // by command
	disks    map[string][]int64
}

// same says that who dies in the n-th request leaves what who died in the one before
// left: in the clouds, because that one only read, and here.
func (f fate) same(command string, n int) bool {
	return n > 1 && !writes(f.calls[command][n-2]) && f.disks[command][n-1] == f.disks[command][n-2]
}

func commands() map[string][]string {
	return map[string][]string{"up": {"up", "--yes", "--no-verify"}, "down": {"down", "--confirm", "my-hub"}}
}

// unbroken runs up, up again and down.
func unbroken(t *testing.T, target, resolver string, more bool) fate {
	t.Helper()
	d := newDoomed(t, target, resolver, more)
	before := d.whole()
	d.disk = func() int64 {
		info, err := os.Stat(d.journal())
		if err != nil {
			return 0
		}
		return info.Size()
	}
	f := fate{calls: map[string][]string{}, disks: map[string][]int64{}}
	for _, step := range []string{"up", "again", "down"} {
		writes := d.changed()
		d.arm(nil, nil)
		args := commands()[strings.Replace(step, "again", "up", 1)]
		if code, said := d.run(t.Context(), args...); code != 0 {
			t.Fatalf("%s: exit %d\n%s", step, code, said)
		}
		f.calls[step], f.disks[step] = d.asked, d.disks
		if open := d.open(t); len(open) > 0 {
			t.Errorf("%s leaves open: %q", step, open)
		}
		switch step {
		case "up":
			f.up, f.release = d.whole(), d.release(t)
		case "again":
			if diff := cmp.Diff(writes, d.changed()); diff != "" {
				t.Errorf("up on top of up wrote:\n%s", diff)
			}
		case "down":
			f.down = d.whole()
		}
	}
	if diff := cmp.Diff(before, f.down); diff != "" {
		t.Errorf("after down it is not as it was before up (-before +after):\n%s", diff)
	}
	return f
}

// Killed in every request of up and of down, to the cloud, its storage and the cluster,
// before it is carried out or (when it changes something) after that, and run again:
// the same end, nothing made twice, nothing left open, and others' things as they were.
// A request that finds everything, here and there, as the request before it did is left
// out, unless BINNACLE_TEST_KILL=every.
func TestDefect08KilledAtEveryRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	every := os.Getenv("BINNACLE_TEST_KILL") == "every"
	resolver := parentZone(t, new(atomic.Bool))
	for _, target := range []string{"azure", "cluster"} {
		t.Run(target, func(t *testing.T) { killedEverywhere(t, target, resolver, every) })
	}
}

// killedEverywhere kills up and down on one target.
func killedEverywhere(t *testing.T, target, resolver string, every bool) {
	t.Helper()
	fates := map[bool]fate{false: unbroken(t, target, resolver, false), true: unbroken(t, target, resolver, true)}
	if t.Failed() {
		return
	}
	points := 0
	var g errgroup.Group
	g.SetLimit(4)
	for _, command := range []string{"up", "down"} {
		calls := fates[false].calls[command]
		t.Logf("%s on %s: %d requests", command, target, len(calls))
		for n := 1; n <= len(calls); n++ {
			for _, after := range []bool{false, true} {
				if after && !writes(calls[n-1]) {
					continue // whoever dies after reading has changed as little as before
				}
				if !after && !every && fates[false].same(command, n) {
					continue
				}
				points++
				g.Go(func() error {
					more := n%3 == 0
					killedOnce(t, fates[more], target, resolver, command, n, after, more)
					return nil
				})
			}
		}
	}
	_ = g.Wait()
	t.Logf("%s: killed %d times", target, points)
	if points < 60 {
		t.Errorf("only %d times killed", points)
	}
}

// killedOnce kills a command in its n-th request and runs it again.
func killedOnce(t *testing.T, f fate, target, resolver, command string, n int, after, more bool) {
	t.Helper()
	where := fmt.Sprintf("%s on %s, request %d, after %v, more %v", command, target, n, after, more)
	if n <= len(f.calls[command]) {
		where += ", " + f.calls[command][n-1]
	}
	d := newDoomed(t, target, resolver, more)
	want := f.up
	if command == "down" {
		want = f.down
		if code, said := d.run(t.Context(), commands()["up"]...); code != 0 {
			t.Errorf("%s: up: exit %d\n%s", where, code, said)
			return
		}
	}
	d.killed(t, at(n, after), commands()[command]...)
	if d.azure != nil {
		d.azure.Forget = n%2 == 0
	}
	if code, said := d.run(t.Context(), commands()[command]...); code != 0 {
		t.Errorf("%s: run again: exit %d\n%s", where, code, said)
		return
	}
	if diff := cmp.Diff(want, d.whole()); diff != "" {
		t.Errorf("%s (-unbroken +killed):\n%s", where, diff)
	}
	if open := d.open(t); len(open) > 0 {
		t.Errorf("%s leaves open: %q", where, open)
	}
	if command == "up" {
		r := d.release(t)
		if diff := cmp.Diff(f.release.Values, r.Values); diff != "" || r.Revision > f.release.Revision+1 {
			t.Errorf("%s: revision %d, not %d: %s", where, r.Revision, f.release.Revision, diff)
		}
	}
	for request, times := range d.changed() {
		// Azure tells the password of a registry's token once, when it makes it: who died
		// before it was kept asks for another in its place.
		again := strings.Contains(request, "/registries/tokens/") || strings.Contains(request, "generateCredentials")
		if times > 1 && strings.Contains(request, "Microsoft.") && (!again || times != 2) {
			t.Errorf("%s: %d times %s", where, times, request)
		}
	}
}
