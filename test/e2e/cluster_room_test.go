package e2e_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientv1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/binnacle-hub/binnacle"
)

// room: what is there before a session needs it. A popular image is on every node,
// sessions go where sessions are, placeholders give way and come back, and the
// dashboard shows all of it.
func (h *clusterHub) room(t *testing.T) {
	repo, err := h.git.Repo(t.Context(), "popular", plainDir(t, map[string]string{
		"requirements.txt": read(t, "../../examples/requirements/requirements.txt"), "popular.txt": "yes",
	}))
	if err != nil {
		t.Fatal(err)
	}
	l, _ := launch(t, h.person, binnacle.LaunchRequest{Repo: repo.URL, BuildOnly: true})
	image := h.imageOf(t, l)
	if on := h.nodesWith(t, image); len(on) > 0 {
		t.Fatalf("nobody has used %s yet, and it is on %v", image, on)
	}
	scheduling := h.values["scheduling"].(map[string]any)
	scheduling["userPlaceholder"] = map[string]any{"replicas": 2, "resources": map[string]any{"requests": map[string]any{"memory": "256Mi"}}}
	h.values["prePuller"] = map[string]any{"images": []any{image}}
	h.values["metrics"] = map[string]any{"dashboard": map[string]any{"enabled": true}}
	h.upgrade(t)
	defer func() { // the next upgrade removes them
		delete(scheduling, "userPlaceholder")
		delete(h.values, "prePuller")
		delete(h.values, "metrics")
	}()
	eventually(t, "the popular image is on both nodes", func() bool { return len(h.nodesWith(t, image)) == 2 })
	h.packed(t, repo.URL, image)
	h.gaveWay(t, repo.URL)
	h.dashboard(t)
}

// scaled: a hub that is busier than it should be gets another replica, and an upgrade
// leaves it. Any work is too much here: nobody waits for a hub to be really busy.
func (h *clusterHub) scaled(t *testing.T) {
	h.Metrics(t)
	const most = 3
	h.values["autoscaling"] = map[string]any{"enabled": true, "maxReplicas": most, "targetCPUUtilizationPercentage": 1}
	defer delete(h.values, "autoscaling") // the next upgrade removes it
	h.upgrade(t)
	deployments, scalers := h.Client.AppsV1().Deployments(h.namespace), h.Client.AutoscalingV2().HorizontalPodAutoscalers(h.namespace)
	name := h.namespace + "-binnacle"
	ready := func() bool {
		d, err := deployments.Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == most && *d.Spec.Replicas == most
	}
	eventually(t, "the hub has a third replica", ready)
	scaler, err := scalers.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil || len(scaler.Status.CurrentMetrics) != 1 || scaler.Status.CurrentMetrics[0].Resource.Current.AverageUtilization == nil {
		t.Errorf("how busy the hub is: %+v %v", scaler, err)
	}
	h.hub["launch"].(map[string]any)["max_sessions"] = 50
	defer delete(h.hub["launch"].(map[string]any), "max_sessions")
	h.upgrade(t)
	eventually(t, "the upgrade has left it", ready)
}

// nodesWith are the nodes that say that they have an image.
func (h *clusterHub) nodesWith(t *testing.T, image string) (names []string) {
	t.Helper()
	for _, n := range h.nodes(t) {
		if slices.ContainsFunc(n.Status.Images, func(i corev1.ContainerImage) bool { return slices.Contains(i.Names, image) }) {
			names = append(names, n.Name)
		}
	}
	return names
}

// packed: sessions go to the node that has sessions, though it is the fuller one,
// and to the other when it is full. None of them waits for its image.
func (h *clusterHub) packed(t *testing.T, repo, image string) {
	t.Helper()
	start := func() (binnacle.Launch, string) {
		l, _ := ready(t, h.person, launchOf(repo))
		p, err := h.Client.CoreV1().Pods(h.sessions).Get(t.Context(), l.Session.ID, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return l, p.Spec.NodeName
	}
	first, node := start()
	fillers := h.fill(t, "600Mi", node) // for two sessions of 256 MiB
	started, on := []binnacle.Launch{first}, []string{node}
	for range 3 {
		l, n := start()
		started, on = append(started, l), append(on, n)
	}
	if on[1] != node || on[2] != node || on[3] == node {
		t.Errorf("the sessions are on %v", on)
	}
	for _, l := range started {
		eventually(t, "the kubelet says that the image was there", func() bool {
			events, err := h.Client.CoreV1().Events(h.sessions).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=Pulled,involvedObject.name=" + l.Session.ID})
			return err == nil && len(events.Items) == 1 && strings.Contains(events.Items[0].Message, image+`" already present`)
		})
		if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
			t.Error(err)
		}
		gone(t, h.Client.CoreV1().Pods(h.sessions), l.Session.ID)
	}
	h.remove(t, fillers)
}

// gaveWay: on full nodes a session takes the room of a placeholder, which waits
// until there is room again.
func (h *clusterHub) gaveWay(t *testing.T, repo string) {
	t.Helper()
	placeholders := func(running, waiting int) func() bool {
		return func() bool {
			list, err := h.Client.CoreV1().Pods(h.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=placeholder"})
			if err != nil {
				t.Fatal(err)
			}
			r, w := 0, 0
			for _, p := range list.Items {
				switch {
				case p.DeletionTimestamp != nil:
				case isReady(&p):
					r++
				case slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable }):
					w++
				}
			}
			return r == running && w == waiting
		}
	}
	eventually(t, "two placeholders keep room", placeholders(2, 0))
	fillers := h.fill(t, "64Mi")
	l, _ := ready(t, h.person, launchOf(repo))
	eventually(t, "one placeholder has given way, and waits", placeholders(1, 1))
	if err := h.person.Stop(t.Context(), l.Session.ID); err != nil {
		t.Error(err)
	}
	eventually(t, "it is back", placeholders(2, 0))
	h.remove(t, fillers)
}

// dashboard: whatever it asks for is there, from all replicas together: names,
// labels and their values.
func (h *clusterHub) dashboard(t *testing.T) {
	t.Helper()
	board, err := h.Client.CoreV1().ConfigMaps(h.namespace).Get(t.Context(), h.namespace+"-binnacle-dashboard", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string][]string{} // labels of a series, by its name
	for _, r := range h.each(t) {
		_, text := fetch(t, r.url+"metrics")
		for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(text, -1) {
			there[m[1]] = append(there[m[1]], m[2])
		}
	}
	asked := map[string]bool{}
	for _, expr := range regexp.MustCompile(`"expr": "(.*)"`).FindAllStringSubmatch(board.Data["binnacle.json"], -1) {
		text := strings.ReplaceAll(expr[1], `\"`, `"`)
		// A metric has an underscore in its name, and what is a function a parenthesis behind it.
		for _, m := range regexp.MustCompile(`([a-z]+(?:_[a-z]+)+)(\(|\{[^}]*\})?`).FindAllStringSubmatch(text, -1) {
			name, labels := m[1], strings.Trim(m[2], "{}")
			switch {
			case m[2] == "(":
			case strings.HasPrefix(name, "kube_"): // of kube-state-metrics, which is not here: its objects are
				is := regexp.MustCompile(`deployment=~"(.*)"`).FindStringSubmatch(labels)
				if is == nil || !regexp.MustCompile("^(?:"+is[1]+")$").MatchString(h.namespace+"-binnacle-placeholder") {
					t.Errorf("%s{%s} is not of the placeholders", name, labels)
				}
			case !slices.ContainsFunc(there[name], func(has string) bool { return matches(has, labels) }):
				t.Errorf("the dashboard asks for %s{%s}, and there is only %q", name, labels, there[name])
			default:
				asked[name] = true
			}
		}
	}
	if len(asked) < 15 {
		t.Errorf("it asks only for %v", slices.Sorted(maps.Keys(asked)))
	}
}

// matches says whether a series has the labels that are asked for.
func matches(series, asked string) bool {
	for _, m := range regexp.MustCompile(`([a-z]+)(!?=)("[^"]*")`).FindAllStringSubmatch(asked, -1) {
		if has := strings.Contains(","+series, ","+m[1]+"="); !has || strings.Contains(","+series, ","+m[1]+"="+m[3]) != (m[2] == "=") {
			return false
		}
	}
	return true
}

// nodes are those of the cluster.
func (h *clusterHub) nodes(t *testing.T) []corev1.Node {
	t.Helper()
	list, err := h.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// fill puts a pod on each node, or on those that are named, that leaves so much
// memory there.
func (h *clusterHub) fill(t *testing.T, leave string, only ...string) []string {
	t.Helper()
	pods, err := h.Client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range h.nodes(t) {
		if len(only) > 0 && !slices.Contains(only, n.Name) {
			continue
		}
		free := n.Status.Allocatable.Memory().DeepCopy()
		free.Sub(resource.MustParse(leave))
		for _, p := range pods.Items {
			for _, c := range p.Spec.Containers {
				if p.Spec.NodeName == n.Name && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
					free.Sub(*c.Resources.Requests.Memory())
				}
			}
		}
		filler := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "filler-" + n.Name}, Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: n.Name},
			Containers: []corev1.Container{{
				Name: "box", Image: h.Box, Args: []string{"wait"},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: free}},
			}},
		}}
		if _, err := h.Client.CoreV1().Pods(h.namespace).Create(t.Context(), filler, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, filler.Name)
		eventually(t, filler.Name+" has its node", func() bool {
			p, err := h.Client.CoreV1().Pods(h.namespace).Get(t.Context(), filler.Name, metav1.GetOptions{})
			return err == nil && p.Spec.NodeName == n.Name
		})
	}
	return names
}

// remove ends pods, and waits until they are gone.
func (h *clusterHub) remove(t *testing.T, names []string) {
	t.Helper()
	pods := h.Client.CoreV1().Pods(h.namespace)
	for _, name := range names {
		if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		gone(t, pods, name)
	}
}

// gone waits until a pod takes no room any more.
func gone(t *testing.T, pods clientv1.PodInterface, name string) {
	t.Helper()
	eventually(t, name+" is gone", func() bool {
		_, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
