package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Step is one resource of a plan.
type Step struct {
	Action      Action       `json:"action"`
	Resource    Resource     `json:"resource"`
	Differences []Difference `json:"differences,omitempty"`
	Price       *Price       `json:"price,omitempty"`
}

// Shown are the differences that say something to people: a digest does only where
// nothing else differs.
func (s Step) Shown() []Difference {
	if len(s.Differences) < 2 {
		return s.Differences
	}
	return slices.DeleteFunc(slices.Clone(s.Differences), func(d Difference) bool { return d.Field == FieldDigest })
}

// Plan is what a run would do, in order.
type Plan struct {
	Steps []Step `json:"steps"`
	// Foreign are resources in the same place that are not ours; they are left
	// alone.
	Foreign []Resource `json:"foreign,omitempty"`
	// Kept are ours and would be deleted, were nothing foreign in them.
	Kept []Resource `json:"kept,omitempty"`
	// PriceNote says why there are no prices.
	PriceNote string `json:"price_note,omitempty"`
}

// Writes is how many steps change something.
func (p Plan) Writes() int {
	n := 0
	for _, s := range p.Steps {
		if s.Action.Writes() {
			n++
		}
	}
	return n
}

// Total is the sum of the prices that are known; ok is false when none is.
func (p Plan) Total() (t Price, ok bool) {
	for _, s := range p.Steps {
		if s.Price != nil && s.Action != ActionDelete {
			t.Currency, ok = s.Price.Currency, true
			t.Idle += s.Price.Idle
			t.Full += s.Price.Full
		}
	}
	return t, ok
}

// Plan compares what is wanted with what is there. It changes nothing. Returns
// conflict, with all of them, when something can't become what is wanted.
func (e *Engine) Plan(ctx context.Context) (Plan, error) {
	p, err := e.compareAll(ctx)
	if err == nil {
		e.price(ctx, &p)
	}
	return p, err
}

// compareAll is a plan without prices.
func (e *Engine) compareAll(ctx context.Context) (Plan, error) {
	wanted, err := e.Cloud.Wanted(ctx)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	var problems []string
	for _, want := range wanted {
		s, problem, err := e.compare(ctx, want)
		if err != nil {
			return Plan{}, err
		}
		if problem != "" {
			problems = append(problems, problem)
		}
		p.Steps = append(p.Steps, s)
	}
	if len(problems) > 0 {
		return Plan{}, &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "deploy.plan", Message: "This can't be done:\n  " + strings.Join(problems, "\n  "),
			Hint: "Change the file, or remove the deployment and create it anew.",
		}
	}
	if err := e.superfluous(ctx, wanted, &p); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// compare decides what is to be done with one resource; problem says why nothing
// can be.
func (e *Engine) compare(ctx context.Context, want Resource) (s Step, problem string, err error) {
	have, err := e.Cloud.Find(ctx, want)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return Step{Action: ActionCreate, Resource: want}, "", nil
	}
	if err != nil {
		return Step{}, "", err
	}
	r := want
	r.ID, r.Ours, r.State, r.Outputs, r.Reason, r.Labels = have.ID, have.Ours, have.State, have.Outputs, have.Reason, have.Labels
	s = Step{Resource: r, Differences: have.diff(want)}
	if !have.Ours {
		s.Action = ActionUse
		if !want.Shared {
			return s, fmt.Sprintf("%s %s is there already and was not created by this deployment.", want.Kind, want.Name), nil
		}
		s.Differences = nil
		return s, "", nil
	}
	for _, d := range s.Differences {
		if slices.Contains(want.Fixed, d.Field) && have.State != StateDeleting {
			return s, fmt.Sprintf("%s %s has %s %s, which can't be changed to %s.", want.Kind, want.Name, d.Field, d.From, d.To), nil
		}
	}
	switch {
	case have.State == StateDeleting:
		s.Action, s.Differences = ActionCreate, nil
	case have.State == StateWorking:
		s.Action = ActionWait
	case have.State == StateFailed:
		s.Action = ActionRepair
	case len(s.Differences) > 0:
		s.Action = ActionChange
	default:
		s.Action = ActionKeep
	}
	return s, "", nil
}

// superfluous finds what is ours and no longer wanted, and what is foreign.
func (e *Engine) superfluous(ctx context.Context, wanted []Resource, p *Plan) error {
	there, err := e.Cloud.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range there {
		isWanted := slices.ContainsFunc(wanted, func(w Resource) bool { return w.Key() == r.Key() })
		switch {
		case isWanted:
		case r.Ours:
			p.Steps = append(p.Steps, Step{Action: ActionDelete, Resource: r})
		default:
			p.Foreign = append(p.Foreign, r)
		}
	}
	return nil
}

// price adds what things cost. A plan without prices is still a plan.
func (e *Engine) price(ctx context.Context, p *Plan) {
	pricer, ok := e.Cloud.(Pricer)
	if !ok {
		return
	}
	rs := make([]Resource, len(p.Steps))
	for i, s := range p.Steps {
		rs[i] = s.Resource
	}
	prices, err := pricer.Prices(ctx, rs)
	if err != nil {
		p.PriceNote = "prices are not known: " + binnacle.Public(err).Message
		return
	}
	for i, s := range p.Steps {
		if price, ok := prices[s.Resource.Key()]; ok {
			p.Steps[i].Price = &price
		}
	}
}
