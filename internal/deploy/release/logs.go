package release

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle"
)

// Components are the parts of a release that have logs.
func Components() []string { return []string{"hub", "builders", "sessions", "watch"} }

// labelOf is what pods of a component are labelled with: one of the builders is a
// builder.
func labelOf(component string) string {
	if component == "builders" {
		return "builder"
	}
	return component
}

// LogOptions say which logs.
type LogOptions struct {
	// Component is one of [Components]; empty is the hub and the builders.
	Component string
	Follow    bool
	// Previous is what the last run of a container said before it ended.
	Previous bool
	// Since is how far back; 0 is everything.
	Since time.Duration
	// Tail is how many lines of each pod; 0 is all.
	Tail int64
}

// Logs writes the logs of a release's pods, each line with its pod's name.
// Returns not_found when there is no such pod.
func (c *Client) Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error {
	pods, err := c.pods(ctx, name, o.Component)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: "release.logs", Message: "There is no pod to read the log of.",
			Hint: "binnacle deploy info shows what runs; after binnacle deploy sleep nothing does.",
		}
	}
	opt := &corev1.PodLogOptions{Follow: o.Follow, Previous: o.Previous}
	if o.Since > 0 {
		opt.SinceSeconds = new(int64(max(1, o.Since/time.Second)))
	}
	if o.Tail > 0 {
		opt.TailLines = &o.Tail
	}
	out := &lines{w: w}
	group, ctx := errgroup.WithContext(ctx)
	if !o.Follow {
		group.SetLimit(1) // one pod after the other
	}
	for _, p := range pods {
		for _, container := range p.Spec.Containers {
			one := *opt
			one.Container = container.Name
			group.Go(func() error { return c.copyLog(ctx, p, &one, out) })
		}
	}
	return group.Wait()
}

// pods are those of a component.
func (c *Client) pods(ctx context.Context, name, component string) ([]corev1.Pod, error) {
	namespace, chosen := c.namespace, selector(name)
	switch {
	case component == "sessions":
		namespace, chosen = c.namespace+"-sessions", metav1.ListOptions{}
	case component == "":
		chosen.LabelSelector += "," + componentLabel + " in (hub, builder)"
	case slices.Contains(Components(), component):
		chosen.LabelSelector += "," + componentLabel + "=" + labelOf(component)
	default:
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "There is no component %q; there are %s.", component, strings.Join(Components(), ", "))
	}
	list, err := c.client.CoreV1().Pods(namespace).List(ctx, chosen)
	if err != nil {
		return nil, explain("look at the pods", err)
	}
	return list.Items, nil
}

// copyLog copies the log of one container. A container that has not begun, or has no
// earlier run, has none.
func (c *Client) copyLog(ctx context.Context, p corev1.Pod, o *corev1.PodLogOptions, out *lines) error {
	r, err := c.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, o).Stream(ctx)
	if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) {
		return out.write(p.Name, fmt.Sprintf("(no log: %s)", short(err)))
	}
	if err != nil {
		return explain("read the log of "+p.Name, err)
	}
	defer r.Close()
	scanner := bufio.NewScanner(r)
	const first, longest = 64 << 10, 1 << 20
	scanner.Buffer(make([]byte, 0, first), longest)
	for scanner.Scan() {
		if err := out.write(p.Name, scanner.Text()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return scanner.Err()
}

func short(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// lines keeps lines of several pods whole.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) write(pod, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.w, "%s | %s\n", pod, text)
	return err
}

// Events are what Kubernetes noted in the release's namespaces, oldest first.
func (c *Client) Events(ctx context.Context) ([]string, error) {
	var list []corev1.Event
	for _, ns := range []string{c.namespace, c.namespace + "-sessions"} {
		events, err := c.client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, explain("read the events", err)
		}
		list = append(list, events.Items...)
	}
	when := func(e corev1.Event) time.Time {
		if e.LastTimestamp.IsZero() {
			return e.EventTime.Time
		}
		return e.LastTimestamp.Time
	}
	slices.SortFunc(list, func(a, b corev1.Event) int { return when(a).Compare(when(b)) })
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = fmt.Sprintf("%s %s %s/%s %s: %s", when(e).UTC().Format(time.RFC3339), e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return out, nil
}

// Secrets are all values of Secrets in the release's namespaces, for taking them
// out of what is shown.
func (c *Client) Secrets(ctx context.Context) ([]string, error) {
	var out []string
	for _, ns := range []string{c.namespace, c.namespace + "-sessions"} {
		list, err := c.client.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, explain("list secrets", err)
		}
		for _, s := range list.Items {
			for _, v := range s.Data {
				out = append(out, string(v))
			}
		}
	}
	return out, nil
}
