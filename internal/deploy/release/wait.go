package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
)

// Workload is one set of pods of the release.
type Workload struct {
	Name      string `json:"name"`
	Component string `json:"component"` // hub, builders, …
	Want      int    `json:"want"`
	Ready     int    `json:"ready"`
	// Trouble is why it is not ready, empty when only time is needed.
	Trouble string `json:"trouble,omitempty"`
	// Stuck says that waiting longer does not help: Kubernetes has given up, or
	// its newest pod fails in a way that time does not mend.
	Stuck bool `json:"stuck,omitempty"`
}

// OK says that all of it runs, in its newest form.
func (w Workload) OK() bool { return w.Ready >= w.Want && w.Trouble == "" }

const componentLabel = "app.kubernetes.io/component"

func selector(name string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=binnacle,app.kubernetes.io/instance=" + name}
}

// Workloads are the sets of pods of a release and how they are.
func (c *Client) Workloads(ctx context.Context, name string) ([]Workload, error) {
	var out []Workload
	deployments, err := c.client.AppsV1().Deployments(c.namespace).List(ctx, selector(name))
	if err != nil {
		return nil, explain("look at the pods", err)
	}
	for _, d := range deployments.Items {
		w := Workload{Name: d.Name, Component: d.Labels[componentLabel], Want: replicas(d.Spec.Replicas), Ready: int(d.Status.ReadyReplicas)}
		if d.Status.ObservedGeneration < d.Generation || int(d.Status.UpdatedReplicas) < w.Want || d.Status.Replicas > d.Status.UpdatedReplicas {
			w.Trouble = "it is being replaced"
		}
		w.Stuck = slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse
		})
		out = append(out, w)
	}
	sets, err := c.client.AppsV1().StatefulSets(c.namespace).List(ctx, selector(name))
	if err != nil {
		return nil, explain("look at the pods", err)
	}
	for _, s := range sets.Items {
		w := Workload{Name: s.Name, Component: s.Labels[componentLabel], Want: replicas(s.Spec.Replicas), Ready: int(s.Status.ReadyReplicas)}
		if s.Status.ObservedGeneration < s.Generation || s.Status.UpdateRevision != s.Status.CurrentRevision && int(s.Status.UpdatedReplicas) < w.Want {
			w.Trouble = "it is being replaced"
		}
		out = append(out, w)
	}
	if slices.ContainsFunc(out, func(w Workload) bool { return !w.OK() }) {
		if err := c.troubles(ctx, name, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// troubles finds out what keeps pods from running.
func (c *Client) troubles(ctx context.Context, name string, list []Workload) error {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, selector(name))
	if err != nil {
		return explain("look at the pods", err)
	}
	// The newest pod comes last: older ones may be of a revision that is left behind.
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for i, w := range list {
		if w.OK() {
			continue
		}
		stuck := false
		for _, p := range pods.Items {
			if p.Labels[componentLabel] != w.Component {
				continue
			}
			if text := trouble(p); text != "" {
				list[i].Trouble = text
			}
			stuck = hopeless(p, time.Now())
		}
		list[i].Stuck = w.Stuck || stuck
	}
	return nil
}

// hopeless says that time does not mend what is wrong with a pod: its image is
// not there, or its program ended again and again.
func hopeless(p corev1.Pod, now time.Time) bool {
	const (
		tries    = 4               // of a program; with Kubernetes' pauses they take more than a minute
		patience = 3 * time.Minute // with a registry
	)
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		w := s.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ErrImageNeverPull", "InvalidImageName":
			return true
		case "CrashLoopBackOff":
			if s.RestartCount >= tries {
				return true
			}
		case "ImagePullBackOff", "CreateContainerConfigError":
			if start := p.Status.StartTime; start != nil && now.Sub(start.Time) > patience {
				return true
			}
		}
	}
	return false
}

// trouble says what is wrong with a pod; empty when it only needs time.
func trouble(p corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "no node can take it: " + c.Message
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			text := w.Reason
			if w.Message != "" {
				text += ": " + w.Message
			}
			if last := s.LastTerminationState.Terminated; last != nil {
				text += fmt.Sprintf(" (its last run ended with code %d)", last.ExitCode)
			}
			return text
		}
	}
	return ""
}

// Wait returns when everything of the release runs and its Service has its
// address, and tells about each change. The context bounds it. Returns
// unavailable with what is wrong when it was not ready in time, or can't be.
func (c *Client) Wait(ctx context.Context, name string, tell func(string)) error {
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	told := ""
	var list []Workload
	for {
		now, err := c.Workloads(ctx, name)
		if err == nil {
			list = now
			addressed, err := c.addressed(ctx, name)
			if err == nil && addressed && !slices.ContainsFunc(list, func(w Workload) bool { return !w.OK() }) {
				return nil
			}
			if text := progress(list, addressed); text != told && tell != nil {
				tell(text)
				told = text
			}
			if slices.ContainsFunc(list, func(w Workload) bool { return w.Stuck && !w.OK() }) {
				return notReady(list, addressed)
			}
		} else if ctx.Err() == nil && binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return notReady(list, true)
		case <-tick.C:
		}
	}
}

// addressed says that every load balancer of the release has its address.
func (c *Client) addressed(ctx context.Context, name string) (bool, error) {
	list, err := c.client.CoreV1().Services(c.namespace).List(ctx, selector(name))
	if err != nil {
		return false, explain("look at the services", err)
	}
	for _, s := range list.Items {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) == 0 {
			return false, nil
		}
	}
	return true, nil
}

func progress(list []Workload, addressed bool) string {
	var parts []string
	for _, w := range list {
		text := fmt.Sprintf("%s %d of %d", w.Component, w.Ready, w.Want)
		if w.Trouble != "" {
			text += " (" + w.Trouble + ")"
		}
		parts = append(parts, text)
	}
	if !addressed {
		parts = append(parts, "the address is awaited")
	}
	return strings.Join(parts, ", ")
}

func notReady(list []Workload, addressed bool) error {
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "release.wait", Message: "The hub does not run yet: " + progress(list, addressed) + ".",
		Hint: "binnacle deploy logs shows what it says; mend the cause and run the same command again.",
	}
}

// Address is where the load balancer of a release is reached, empty when it has
// none (yet).
func (c *Client) Address(ctx context.Context, name string) (string, error) {
	list, err := c.client.CoreV1().Services(c.namespace).List(ctx, selector(name))
	if err != nil {
		return "", explain("look at the services", err)
	}
	for _, s := range list.Items {
		if in := s.Status.LoadBalancer.Ingress; len(in) > 0 {
			return cmp.Or(in[0].Hostname, in[0].IP), nil
		}
	}
	return "", nil
}
