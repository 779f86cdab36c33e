package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
)

// clusterFigure is one measured thing of bench/kubernetes.json.
type clusterFigure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Note   string    `json:"note,omitempty"`
}

// TestBenchKubernetes is `make bench-kube`: it measures a hub on the cluster of the
// tests beside what the cluster itself takes, in the same run. It asserts no figure.
func TestBenchKubernetes(t *testing.T) {
	out := os.Getenv("BINNACLE_BENCH_KUBE")
	if out == "" {
		t.Skip("a benchmark: make bench-kube")
	}
	h := installHub(t, func(h *clusterHub) { // with the usual ones fifty sessions do not fit two small nodes
		// Simulated sessions belong to no launch.
		h.hub["launch"].(map[string]any)["orphan_grace"] = "10h"
		h.hub["kubernetes"] = map[string]any{
			"registry": map[string]any{"timeout": "10s"},
			"session":  map[string]any{"guarantee": map[string]any{"memory": 0.1, "cpu": 0.01, "disk": 0}},
		}
	})
	b := &clusterBench{clusterHub: h, figures: figures{t: t}, repo: h.example.URL}
	l, _ := ready(t, h.person, launchOf(b.repo))
	b.image = h.imageOf(t, l)
	b.template, b.launch = b.pod(l.Session.ID), l.ID
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Fatal(err)
	}
	b.warm()
	const rounds = 5
	for _, n := range []int{1, 10, 50} {
		for range map[bool]int{true: rounds, false: 1}[n == 1] {
			b.add(fmt.Sprintf("bare pod of the image Ready, %d at once", n), "s", "the cluster's floor: the image's own layers, sleep", b.bare(n)...)
			own, since := b.own(n)
			b.add(fmt.Sprintf("server's own start in a pod, %d at once", n), "s", "jupyter-lab to its first answer, measured inside", own...)
			b.add(fmt.Sprintf("pod to its server's first answer, %d at once", n), "s", "the same pods from their creation: no hub", since...)
			b.add(fmt.Sprintf("launch to a server that answers, %d at once", n), "s", "image present on the nodes", b.launches(n)...)
		}
	}
	b.load()
	b.write(out)
	b.remove()
}

type clusterBench struct {
	*clusterHub
	figures

	repo, image string
	launch      string // the template's
	address     string // of the servers of simulated sessions
	template    *corev1.Pod
}

// figures are what a benchmark measured so far.
type figures struct {
	t    *testing.T
	list []clusterFigure
}

func (b *figures) add(name, unit, note string, values ...float64) {
	b.t.Helper()
	b.t.Logf("%s: %.3f %s", name, values, unit)
	for i := range b.list {
		if b.list[i].Name == name {
			b.list[i].Values = append(b.list[i].Values, values...)
			return
		}
	}
	b.list = append(b.list, clusterFigure{name, unit, values, note})
}

func (b *figures) write(path string) {
	b.t.Helper()
	cpus, err := exec.CommandContext(b.t.Context(), "sh", "-c", `echo "$(nproc) cores, $(awk '/MemTotal/ {printf "%d", $2/1048576}' /proc/meminfo) GiB, Linux $(uname -r)"`).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	data, err := json.MarshalIndent(map[string]any{"machine": strings.TrimSpace(string(cpus)), "time": time.Now().UTC(), "figures": b.list}, "", "  ")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("../..", path), append(data, '\n'), 0o600); err != nil {
		b.t.Fatal(err)
	}
	for _, f := range b.list {
		v := slices.Sorted(slices.Values(f.Values))
		b.t.Logf("| %s | %.2f %s | %.2f to %.2f | %d |", f.Name, v[len(v)/2], f.Unit, v[0], v[len(v)-1], len(v))
	}
}

// pod reads a session's pod.
func (b *clusterBench) pod(id string) *corev1.Pod {
	b.t.Helper()
	p, err := b.Client.CoreV1().Pods(b.sessions).Get(b.t.Context(), id, metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// like is a pod as sessions are, which no hub knows.
func (b *clusterBench) like(name string, command ...string) *corev1.Pod {
	spec := b.template.Spec.DeepCopy()
	spec.NodeName, spec.RestartPolicy = "", corev1.RestartPolicyNever
	spec.Containers[0].Command, spec.Containers[0].Args, spec.Containers[0].Env = command, nil, nil
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.sessions, Labels: map[string]string{"bench": "bare"}}, Spec: *spec}
}

// run creates pods and waits until each is in a state; it returns how long each took.
func (b *clusterBench) run(pods []*corev1.Pod, is func(*corev1.Pod) bool) []float64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	api := b.Client.CoreV1().Pods(b.sessions)
	which := metav1.ListOptions{LabelSelector: "bench=bare"}
	watch, err := api.Watch(ctx, which)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { watch.Stop() }()
	var mu sync.Mutex
	began, took := map[string]time.Time{}, map[string]float64{}
	var creating sync.WaitGroup
	for _, p := range pods {
		creating.Go(func() {
			mu.Lock()
			began[p.Name] = time.Now()
			mu.Unlock()
			if _, err := api.Create(ctx, p, metav1.CreateOptions{}); err != nil {
				b.t.Error(err)
			}
		})
	}
	for len(took) < len(pods) {
		e, ok := <-watch.ResultChan()
		if !ok { // an API server under load ends watches; a new one begins with what is there
			if watch, err = api.Watch(ctx, which); err != nil {
				b.t.Fatalf("%d of %d pods came: %v", len(took), len(pods), err)
			}
			continue
		}
		p, fine := e.Object.(*corev1.Pod)
		if _, known := took[p.Name]; fine && !known && is(p) {
			mu.Lock()
			took[p.Name] = time.Since(began[p.Name]).Seconds()
			mu.Unlock()
		}
	}
	creating.Wait()
	var all []float64
	for _, s := range took {
		all = append(all, s)
	}
	return all
}

// remove takes the pods of run away.
func (b *clusterBench) remove() {
	b.t.Helper()
	api, which := b.Client.CoreV1().Pods(b.sessions), metav1.ListOptions{LabelSelector: "bench"}
	eventually(b.t, "the pods of the benchmark are gone", func() bool {
		// Thousands take longer than one request may, and the API server ends it in more than one way.
		deleting := api.DeleteCollection(b.t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, which)
		list, err := api.List(b.t.Context(), which)
		if deleting != nil {
			b.t.Logf("pods are still being deleted: %v", deleting)
		}
		return err == nil && len(list.Items) == 0
	})
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// warm brings the image to every node.
func (b *clusterBench) warm() {
	b.t.Helper()
	nodes, err := b.Client.CoreV1().Nodes().List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var pods []*corev1.Pod
	for _, n := range nodes.Items {
		p := b.like("warm-"+n.Name, "sleep", "1000")
		p.Spec.NodeName = n.Name
		pods = append(pods, p)
	}
	b.run(pods, isReady)
	b.remove()
}

// bare is the cluster's floor.
func (b *clusterBench) bare(n int) []float64 {
	b.t.Helper()
	defer b.remove()
	var pods []*corev1.Pod
	for i := range n {
		pods = append(pods, b.like(fmt.Sprintf("bare-%d", i), "sleep", "1000"))
	}
	return b.run(pods, isReady)
}

// own is how long servers take that no hub knows: by themselves, and from the
// creation of their pods.
func (b *clusterBench) own(n int) (own, since []float64) {
	b.t.Helper()
	defer b.remove()
	const code = `import os, subprocess, time, urllib.request
began = time.time()
server = subprocess.Popen(["jupyter-lab", "--ip", "127.0.0.1", "--port", "8888", "--no-browser", "--ServerApp.token=x"], stderr=subprocess.DEVNULL)
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:8888/api").read()
        break
    except OSError:
        time.sleep(0.02)
now = time.time()
print("took", now - began, now - float(os.environ["BEGAN"]))
server.kill()`
	var pods []*corev1.Pod
	for i := range n {
		p := b.like(fmt.Sprintf("own-%d", i), "/usr/local/bin/repo2docker-entrypoint", "python3", "-c", code)
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "HOME", Value: "/home/jovyan"}, {Name: "BEGAN", Value: strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', -1, 64)}}
		pods = append(pods, p)
	}
	b.run(pods, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	for _, p := range pods {
		text, err := b.Client.CoreV1().Pods(b.sessions).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		_, said, _ := strings.Cut(string(text), "took ")
		var inside, outside float64
		if _, err := fmt.Sscan(said, &inside, &outside); err != nil {
			b.t.Fatalf("%v: %s", err, text)
		}
		own, since = append(own, inside), append(since, outside)
	}
	return own, since
}

// launches asks for n sessions at once and returns how long each took. They end
// when all are there.
func (b *clusterBench) launches(n int) []float64 {
	b.t.Helper()
	took, stops := make([]float64, n), make([]func() error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			c := dial(b.url)
			began := time.Now()
			l, err := c.Launch(b.t.Context(), binnacle.LaunchRequest{Repo: b.repo, Env: map[string]string{"N": strconv.Itoa(i)}})
			if err == nil {
				err = c.Events(b.t.Context(), l.ID, 0, func(binnacle.Event) error { return nil })
			}
			took[i] = time.Since(began).Seconds()
			if err == nil {
				l, err = c.Get(b.t.Context(), l.ID)
			}
			if err == nil && l.Session == nil {
				err = l.Error
			}
			if err != nil {
				b.t.Error(err)
				return
			}
			stops[i] = func() error { return c.Stop(b.t.Context(), l.Session.ID) } // by the same browser
		})
	}
	all.Wait()
	for _, stop := range stops {
		if stop == nil {
			continue // said above
		}
		all.Go(func() {
			if err := stop(); err != nil {
				b.t.Error(err)
			}
		})
	}
	all.Wait()
	return took
}

// cost is the resident memory of one replica in MiB, and its CPU in percent of a core over some seconds.
func (b *clusterBench) cost(what string) {
	b.t.Helper()
	pids := b.processes()
	pid := pids[len(pids)-1]
	const over = 15 * time.Second
	before := b.cpuOf(pid)
	<-time.After(over)
	b.add("hub CPU "+what, "%", "of one core, over 15 s", (b.cpuOf(pid)-before)/over.Seconds()*100)
	b.add("hub memory "+what, "MiB", "resident", b.memoryOf(pid))
}

// load is the hub with sessions: pods as sessions have them, on a node that is
// only an entry, because this machine carries no thousand servers.
func (b *clusterBench) load() {
	b.t.Helper()
	b.cost("without sessions")
	b.backend()
	// It stays until the cluster ends: without it its pods would be collected.
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "simulated"}, Spec: corev1.NodeSpec{Unschedulable: true}}
	if _, err := b.Client.CoreV1().Nodes().Create(b.t.Context(), node, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	have := 0
	for _, n := range []int{100, 1000, 10_000} {
		took := b.simulate(have, n)
		b.add(fmt.Sprintf("pods made and marked ready, up to %d", n), "1/s", "by 20 at once: the API server's pace; the hub follows", float64(n-have)/took.Seconds())
		have = n
		b.cost(fmt.Sprintf("with %d simulated sessions", n))
		if n >= 1000 {
			b.routes(n)
			b.resync(n)
			began := time.Now()
			b.kill(b.t, "app.kubernetes.io/component=hub")
			b.add(fmt.Sprintf("new hub is Ready, %d sessions there", n), "s", "all replicas killed to Ready, their first list of all pods included", time.Since(began).Seconds())
			b.cost(fmt.Sprintf("with %d simulated sessions, just started", n))
		}
	}
}

// simulate brings the number of simulated sessions from have to n.
func (b *clusterBench) simulate(have, n int) time.Duration {
	b.t.Helper()
	began := time.Now()
	next := make(chan int)
	var all sync.WaitGroup
	api := b.Client.CoreV1().Pods(b.sessions)
	for range 20 {
		all.Go(func() {
			for i := range next {
				p := &corev1.Pod{ObjectMeta: *b.template.ObjectMeta.DeepCopy(), Spec: *b.template.Spec.DeepCopy()}
				id := fmt.Sprintf("simulated-%d", i)
				p.ObjectMeta = metav1.ObjectMeta{Name: id, Annotations: map[string]string{}}
				for k, v := range b.template.Annotations {
					p.Annotations[k] = strings.ReplaceAll(strings.ReplaceAll(v, b.template.Name, id), b.launch, id)
				}
				p.Labels = map[string]string{"bench": "simulated"}
				for k, v := range b.template.Labels {
					p.Labels[k] = strings.ReplaceAll(v, b.template.Name, id)
				}
				p.Spec.NodeName = "simulated"
				p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
				made, err := api.Create(b.t.Context(), p, metav1.CreateOptions{})
				if err == nil {
					made.Status = *b.template.Status.DeepCopy()
					b.simulated(&made.Status)
					_, err = api.UpdateStatus(b.t.Context(), made, metav1.UpdateOptions{})
				}
				if err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	for i := have; i < n; i++ {
		next <- i
	}
	close(next)
	all.Wait()
	return time.Since(began)
}

// simulated makes the status of a pod one whose server is the benchmark's.
func (b *clusterBench) simulated(s *corev1.PodStatus) {
	s.PodIP, s.PodIPs, s.HostIP, s.HostIPs = b.address, []corev1.PodIP{{IP: b.address}}, "", nil
}
