package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/binnacle-hub/binnacle"
)

// The annotations that we put on workloads.
const (
	// asleep has how many replicas there were before.
	asleep = "binnacle.dev/asleep"
	// restarted makes Kubernetes replace the pods.
	restarted = "binnacle.dev/restarted"
)

// Restart replaces the pods of the hub and of the builders, or of one component
// only. Returns not_found when there is no such component.
func (c *Client) Restart(ctx context.Context, name, component string, now time.Time) error {
	return c.patch(ctx, name, component, func(Workload, string) map[string]any {
		return map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]string{restarted: now.UTC().Format(time.RFC3339)}}}}
	}, nil)
}

// Sleep removes all pods of the release and remembers how many there were. What
// is on volumes stays; sessions that run go on until they end.
// Returns when Kubernetes counts none any more; the context bounds it.
func (c *Client) Sleep(ctx context.Context, name string) error {
	err := c.patch(ctx, name, "", func(w Workload, was string) map[string]any {
		if was != "" {
			return nil
		}
		return map[string]any{"replicas": 0}
	}, func(w Workload) any { return strconv.Itoa(w.Want) })
	if err != nil {
		return err
	}
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		list, err := c.Workloads(ctx, name)
		if err == nil && !slices.ContainsFunc(list, func(w Workload) bool { return w.Ready > 0 }) {
			return nil
		}
		if err != nil && binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(binnacle.Errorf(binnacle.CodeUnavailable, "The hub is told to sleep, and still has pods."), context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Wake brings back what [Client.Sleep] removed.
func (c *Client) Wake(ctx context.Context, name string) error {
	return c.patch(ctx, name, "", func(_ Workload, was string) map[string]any {
		n, err := strconv.Atoi(was)
		if err != nil {
			return nil
		}
		return map[string]any{"replicas": n}
	}, func(Workload) any { return nil })
}

// patch changes the workloads of a release: their spec, unless that is nil, and
// what is noted on them.
func (c *Client) patch(ctx context.Context, name, component string, spec func(w Workload, was string) map[string]any, note func(Workload) any) error {
	apps, chosen := c.client.AppsV1(), selector(name)
	deployments, err := apps.Deployments(c.namespace).List(ctx, chosen)
	if err != nil {
		return explain("look at the pods", err)
	}
	sets, err := apps.StatefulSets(c.namespace).List(ctx, chosen)
	if err != nil {
		return explain("look at the pods", err)
	}
	type target struct {
		Workload
		was   string
		apply func(b []byte) error
	}
	var list []target
	for _, d := range deployments.Items {
		list = append(list, target{Workload{Name: d.Name, Component: d.Labels[componentLabel], Want: replicas(d.Spec.Replicas)}, d.Annotations[asleep], func(b []byte) error {
			_, err := apps.Deployments(c.namespace).Patch(ctx, d.Name, types.MergePatchType, b, metav1.PatchOptions{})
			return err
		}})
	}
	for _, s := range sets.Items {
		list = append(list, target{Workload{Name: s.Name, Component: s.Labels[componentLabel], Want: replicas(s.Spec.Replicas)}, s.Annotations[asleep], func(b []byte) error {
			_, err := apps.StatefulSets(c.namespace).Patch(ctx, s.Name, types.MergePatchType, b, metav1.PatchOptions{})
			return err
		}})
	}
	found := false
	for _, t := range list {
		if component != "" && t.Component != labelOf(component) {
			continue
		}
		found = true
		change := spec(t.Workload, t.was)
		if change == nil {
			continue
		}
		body := map[string]any{"spec": change}
		if note != nil {
			body["metadata"] = map[string]any{"annotations": map[string]any{asleep: note(t.Workload)}}
		}
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the change: %w", err)
		}
		if err := t.apply(b); err != nil {
			return explain("change "+t.Name, err)
		}
	}
	if !found {
		return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "release.change", Message: "There is nothing of that kind in the release " + name + ".", Hint: "binnacle deploy info shows what there is."}
	}
	return nil
}
