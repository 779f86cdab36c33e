package kube_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/binnacle-hub/binnacle/test/kube"
	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

// TestCluster starts a cluster of its own, uses what the other tests will, and
// looks for what is left of it afterwards.
func TestCluster(t *testing.T) {
	kube.Need(t)
	dir := filepath.Join("/var/tmp", fmt.Sprintf("bnk%d", os.Getpid()))
	before := kernelPanic(t)
	begun := time.Now()
	c, err := kube.Start(t.Context(), kube.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %s", time.Since(begun).Round(100*time.Millisecond))
	stopped := false
	stop := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := kube.Stop(ctx, dir); err != nil {
			t.Errorf("stop: %v", err)
		}
		stopped = true
	}
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	t.Run("use", func(t *testing.T) {
		w := world{Cluster: c, namespace: c.Namespace(t)}
		t.Run("nodes", w.nodes)
		t.Run("service", w.service)
		t.Run("limits", w.limits)
		t.Run("import", w.importImage)
		t.Run("policy", w.policy)
		t.Run("storage", w.storage)
		t.Run("registry", w.registry)
		t.Run("faults", w.faults)
	})
	begun = time.Now()
	stop()
	t.Logf("stopped in %s", time.Since(begun).Round(100*time.Millisecond))
	leftovers(t, dir, c.Registry, before)
}

// kernelPanic is what the setting is without any cluster: another test's may
// run, and its kubelets have changed it. What it noted is asked before the
// kernel is, since it ends with that cluster.
func kernelPanic(t *testing.T) string {
	t.Helper()
	noted := map[string]string{}
	b, err := os.ReadFile(cluster.KernelNote)
	if err == nil {
		err = json.Unmarshal(b, &noted)
	}
	if value, ok := noted["kernel/panic"]; ok {
		return value
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	value, err := os.ReadFile("/proc/sys/kernel/panic")
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

type world struct {
	*kube.Cluster
	namespace string
}

func (w world) nodes(t *testing.T) {
	list, err := w.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ready := 0
	for _, node := range list.Items {
		for _, cond := range node.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready != 2 {
		t.Errorf("%d of %d nodes are ready, want 2", ready, len(list.Items))
	}
	version, err := w.Client.Discovery().ServerVersion()
	if err != nil || version.Minor == "" || !strings.HasPrefix(version.GitVersion, "v1."+version.Minor+".") {
		t.Errorf("the server says that it is %+v (%v)", version, err)
	}
}

// service: one pod on each node, behind a Service that is reached by name from
// a pod and by the load balancer's address from this machine.
func (w world) service(t *testing.T) {
	labels := map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
			}},
			Containers: []corev1.Container{{Name: "web", Image: w.Box, Args: []string{"serve", ":8080", "hello"}}},
		}},
	}}
	if _, err := w.Client.AppsV1().Deployments(w.namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if _, err := w.Client.CoreV1().Services(w.namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var address string
	eventually(t, "the load balancer gives an address", func() error {
		svc, err := w.Client.CoreV1().Services(w.namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) != 1 {
			return errors.New("there is none")
		}
		address = svc.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	eventually(t, "the service answers this machine", func() error { return get(t.Context(), "http://"+address, "hello") })
	pods, err := w.Client.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil || len(pods.Items) != 2 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	for _, pod := range pods.Items {
		for _, url := range []string{"http://web", "http://web." + w.namespace + ".svc.cluster.local"} {
			eventually(t, "the service answers a pod on "+pod.Spec.NodeName+" by name", func() error {
				out, err := w.exec(t.Context(), pod.Name, "/box", "get", url)
				if err == nil && out != "hello" {
					err = fmt.Errorf("it answers %q", out)
				}
				return err
			})
		}
		for _, other := range pods.Items { // also from one node to the other
			if _, err := w.exec(t.Context(), pod.Name, "/box", "dial", other.Status.PodIP+":8080"); err != nil {
				t.Errorf("from %s to %s: %v", pod.Spec.NodeName, other.Spec.NodeName, err)
			}
		}
	}
}

// limits: memory is limited, and the reason is told.
func (w world) limits(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "eater"}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{
			Name: "eater", Image: w.Box, Args: []string{"eat", "10"},
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse("64Mi"), "cpu": resource.MustParse("500m")}},
		}},
	}}
	pods := w.Client.CoreV1().Pods(w.namespace)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log is read", func() error {
		log, err := pods.GetLogs("eater", &corev1.PodLogOptions{}).DoRaw(t.Context())
		if err == nil && string(log) != "ate 10 MB\n" {
			err = fmt.Errorf("the log is %q", log)
		}
		return err
	})
	if _, err := w.exec(t.Context(), "eater", "/box", "eat", "200"); err == nil {
		t.Error("200 MB fit into a limit of 64 MiB")
	}
}

// importImage: an image that is in no registry.
func (w world) importImage(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "image.tar")
	const ref = "example.org/imported:1"
	if err := saveBox(archive, w.Box, ref); err != nil {
		t.Fatal(err)
	}
	if err := w.Import(t.Context(), ref, archive); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"node1", "node2"} {
		w.run(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "imported-" + node}, Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "box", Image: ref, ImagePullPolicy: corev1.PullNever}},
		}})
	}
}

// exec runs a program in a pod and returns what it prints.
func (w world) exec(ctx context.Context, pod string, command ...string) (string, error) {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req := w.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(w.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	e, err := remotecommand.NewSPDYExecutor(w.Config, http.MethodPost, req.URL())
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, &stderr)
	}
	return stdout.String(), nil
}

func get(ctx context.Context, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && string(b) != want {
		err = fmt.Errorf("it answers %q", b)
	}
	return err
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	const patience, pause = 30 * time.Second, 100 * time.Millisecond
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(pause)
	}
}

// leftovers looks for processes, mounts, interfaces, routes, rules, control
// groups and files of a cluster that has been stopped.
func leftovers(t *testing.T, dir, registry, before string) {
	t.Helper()
	var number int
	if _, err := fmt.Sscanf(registry, "10.%d.", &number); err != nil {
		t.Fatal(err)
	}
	number -= 64
	bridge := fmt.Sprintf("bnk%d", number)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if name := link.Attrs().Name; name == bridge || strings.HasPrefix(name, bridge+"n") {
			t.Errorf("left of the cluster: the interface %s", name)
		}
	}
	rules, err := exec.CommandContext(t.Context(), "nft", "list", "tables").Output()
	if err != nil || strings.Contains(string(rules), "binnacle_"+bridge+"\n") {
		t.Errorf("left of the cluster: rules of nftables (%v)\n%s", err, rules)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("left of the cluster: mounts (%v)\n%s", err, mounts)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if args, err := os.ReadFile(p); err == nil && strings.Contains(string(args), dir) {
			t.Errorf("left of the cluster: the process %s", strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	if value, err := os.ReadFile("/proc/sys/kernel/panic"); err != nil || string(value) != before {
		if others, err := filepath.Glob("/sys/class/net/bnk*"); err == nil && len(others) == 0 {
			t.Errorf("left of the cluster: kernel.panic is %s, and was %s (%v)", value, before, err)
		}
	}
	for _, pattern := range []string{dir + "*", fmt.Sprintf("/sys/fs/cgroup/*/binnacle-kube%d-*", number), fmt.Sprintf("/sys/fs/cgroup/binnacle-kube%d-*", number)} {
		left, err := filepath.Glob(pattern)
		if err != nil || len(left) > 0 {
			t.Errorf("left of the cluster: %v %v", left, err)
		}
	}
}
