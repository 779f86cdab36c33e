package deploy

import (
	"context"
	"slices"
)

// Stack is one cloud on top of another: what runs on a cluster, and the cluster.
type Stack struct {
	Below, Above Cloud
	// Kinds are those of Above; all others are of Below.
	Kinds []string
}

var (
	_ Cloud      = (*Stack)(nil)
	_ Pricer     = (*Stack)(nil)
	_ Identifier = (*Stack)(nil)
)

func (s *Stack) of(r Resource) Cloud {
	if slices.Contains(s.Kinds, r.Kind) {
		return s.Above
	}
	return s.Below
}

// Check checks what is below. What is above is not there yet, or was checked when it
// was created: of it only what needs nothing to be there.
func (s *Stack) Check(ctx context.Context) ([]Finding, error) {
	found, err := s.Below.Check(ctx)
	if c, ok := s.Above.(interface {
		CheckSettings(ctx context.Context) []Finding
	}); ok && err == nil {
		found = append(found, c.CheckSettings(ctx)...)
	}
	return found, err
}

// Wanted is all of both.
func (s *Stack) Wanted(ctx context.Context) ([]Resource, error) {
	return both(ctx, s, Cloud.Wanted)
}

// List is all of both.
func (s *Stack) List(ctx context.Context) ([]Resource, error) {
	return both(ctx, s, Cloud.List)
}

func both(ctx context.Context, s *Stack, ask func(Cloud, context.Context) ([]Resource, error)) ([]Resource, error) {
	below, err := ask(s.Below, ctx)
	if err != nil {
		return nil, err
	}
	above, err := ask(s.Above, ctx)
	return slices.Concat(below, above), err
}

// Find asks the cloud that has the kind.
func (s *Stack) Find(ctx context.Context, r Resource) (Resource, error) { return s.of(r).Find(ctx, r) }

// Begin asks the cloud that has the kind.
func (s *Stack) Begin(ctx context.Context, a Action, r Resource) (string, error) {
	return s.of(r).Begin(ctx, a, r)
}

// Wait asks the cloud that has the kind.
func (s *Stack) Wait(ctx context.Context, r Resource, token string) error {
	return s.of(r).Wait(ctx, r, token)
}

// Prices are those of what is below.
func (s *Stack) Prices(ctx context.Context, rs []Resource) (map[string]Price, error) {
	if p, ok := s.Below.(Pricer); ok {
		return p.Prices(ctx, rs)
	}
	return nil, nil
}

// Who is signed in below.
func (s *Stack) Who(ctx context.Context) (string, error) {
	if i, ok := s.Below.(Identifier); ok {
		return i.Who(ctx)
	}
	return "", nil
}
