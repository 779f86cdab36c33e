package deploy

import (
	"context"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Receipt says what was removed and that nothing of ours is left.
type Receipt struct {
	Deleted []Resource `json:"deleted"`
	// Foreign are resources in the same place that are not ours; they were left
	// alone.
	Foreign []Resource `json:"foreign,omitempty"`
	// Kept are ours, and stay because foreign resources are in them.
	Kept []Resource `json:"kept,omitempty"`
}

// PlanDown lists what Down would delete, in order. What is not ours is in
// Foreign.
func (e *Engine) PlanDown(ctx context.Context) (Plan, error) {
	wanted, err := e.Cloud.Wanted(ctx)
	if err != nil {
		return Plan{}, err
	}
	there, err := e.Cloud.List(ctx)
	if err != nil {
		return Plan{}, err
	}
	order := func(r Resource) int {
		return slices.IndexFunc(wanted, func(w Resource) bool { return w.Key() == r.Key() })
	}
	doomed := func(key string) bool {
		return slices.ContainsFunc(there, func(r Resource) bool { return r.Ours && r.Key() == key })
	}
	var p Plan
	var holders []Step
	foreign := false
	for _, r := range there {
		switch {
		case !r.Ours:
			p.Foreign = append(p.Foreign, r)
			foreign = foreign || !r.Holds
		case r.Within != "" && doomed(r.Within):
			// It goes with what it lives in; while that is there it may be in use.
		case r.Holds:
			holders = append(holders, Step{Action: ActionDelete, Resource: r})
		default:
			p.Steps = append(p.Steps, Step{Action: ActionDelete, Resource: r})
		}
	}
	// Last created, first deleted; what is not wanted any more goes before all.
	slices.SortStableFunc(p.Steps, func(a, b Step) int {
		ia, ib := order(a.Resource), order(b.Resource)
		if (ia < 0) != (ib < 0) {
			return ia - ib
		}
		return ib - ia
	})
	if !foreign {
		p.Steps = append(p.Steps, holders...)
		return p, nil
	}
	for _, h := range holders {
		p.Kept = append(p.Kept, h.Resource)
	}
	return p, nil
}

// Down deletes what is ours and nothing else, waits, and looks again. It may be
// stopped at any moment and run again.
func (e *Engine) Down(ctx context.Context) (Receipt, error) {
	p, err := e.PlanDown(ctx)
	if err != nil {
		return Receipt{}, err
	}
	receipt := Receipt{Foreign: p.Foreign, Kept: p.Kept}
	for _, s := range p.Steps {
		if _, err := e.apply(ctx, s); err != nil {
			return receipt, err
		}
		receipt.Deleted = append(receipt.Deleted, s.Resource)
	}
	if err := e.closeGone(ctx); err != nil {
		return receipt, err
	}
	left, err := e.PlanDown(ctx)
	if err != nil {
		return receipt, err
	}
	if len(left.Steps) > 0 {
		names := make([]string, len(left.Steps))
		for i, s := range left.Steps {
			names[i] = s.Resource.Key()
		}
		return receipt, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "deploy.down", Message: "Still there: " + strings.Join(names, ", ") + ".", Hint: "Run the same command again.",
		}
	}
	return receipt, nil
}
