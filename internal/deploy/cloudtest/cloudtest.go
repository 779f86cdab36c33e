// Package cloudtest is what every cloud must do: run it from the tests of each.
package cloudtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// Run holds a cloud against the contract of [deploy.Cloud]. fresh returns one
// whose place is empty.
func Run(t *testing.T, fresh func(t *testing.T) deploy.Cloud) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, deploy.Cloud){
		"wanted": wanted, "absent": absent, "create": create, "delete": remove, "lost token": lost, "canceled": canceled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

func list(t *testing.T, c deploy.Cloud) []deploy.Resource {
	t.Helper()
	rs, err := c.Wanted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) == 0 {
		t.Fatal("nothing is wanted")
	}
	return rs
}

func wanted(t *testing.T, c deploy.Cloud) {
	t.Helper()
	a, b := list(t, c), list(t, c)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("asked twice:\n%s", diff)
	}
	seen := map[string]bool{}
	for _, r := range a {
		if seen[r.Key()] {
			t.Errorf("%s is wanted twice", r.Key())
		}
		seen[r.Key()] = true
	}
}

func absent(t *testing.T, c deploy.Cloud) {
	t.Helper()
	for _, r := range list(t, c) {
		if _, err := c.Find(t.Context(), r); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("find %s in an empty place: %v", r.Key(), err)
		}
		token, err := c.Begin(t.Context(), deploy.ActionDelete, r)
		if err == nil && token != "" {
			err = c.Wait(t.Context(), r, token)
		}
		if err != nil {
			t.Errorf("delete %s that is not there: %v", r.Key(), err)
		}
	}
	if rs, err := c.List(t.Context()); err != nil || len(rs) > 0 {
		t.Errorf("list of an empty place: %v, %v", rs, err)
	}
}

// carryOut does an action and waits for its end.
func carryOut(t *testing.T, c deploy.Cloud, a deploy.Action, r deploy.Resource) {
	t.Helper()
	token, err := c.Begin(t.Context(), a, r)
	if err != nil {
		t.Fatalf("%s %s: %v", a, r.Key(), err)
	}
	have, err := c.Find(t.Context(), r)
	switch {
	case a == deploy.ActionDelete: // not every service says that it is deleting
	case err != nil:
		t.Errorf("find %s while it is created: %v", r.Key(), err)
	case !have.Ours || have.State != deploy.StateWorking && have.State != deploy.StateReady:
		t.Errorf("while it is created: %+v", have)
	}
	if token != "" {
		if err := c.Wait(t.Context(), r, token); err != nil {
			t.Fatalf("wait for %s: %v", r.Key(), err)
		}
	}
}

func create(t *testing.T, c deploy.Cloud) {
	t.Helper()
	rs := list(t, c)
	for _, r := range rs {
		// Asked twice, as after a crash.
		for _, a := range []deploy.Action{deploy.ActionCreate, deploy.ActionChange} {
			carryOut(t, c, a, r)
			have, err := c.Find(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if have.Key() != r.Key() || !have.Ours || have.State != deploy.StateReady || have.ID == "" {
				t.Errorf("created: %+v", have)
			}
			if diff := cmp.Diff(r.Spec, have.Spec); diff != "" {
				t.Errorf("%s is not as wanted (-want +have):\n%s", r.Key(), diff)
			}
		}
	}
	there, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, r := range there {
		ours[r.Key()] = r.Ours
	}
	for _, r := range rs {
		if !ours[r.Key()] {
			t.Errorf("%s is not listed as ours", r.Key())
		}
	}
	if len(ours) != len(rs) {
		t.Errorf("%d were created, and the list has %d: %v", len(rs), len(ours), ours)
	}
}

func remove(t *testing.T, c deploy.Cloud) {
	t.Helper()
	rs := list(t, c)
	for _, r := range rs {
		carryOut(t, c, deploy.ActionCreate, r)
	}
	for _, r := range slices.Backward(rs) {
		carryOut(t, c, deploy.ActionDelete, r)
		if _, err := c.Find(t.Context(), r); binnacle.CodeOf(err) != binnacle.CodeNotFound {
			t.Errorf("find %s after it was deleted: %v", r.Key(), err)
		}
	}
	if there, err := c.List(t.Context()); err != nil || len(there) > 0 {
		t.Errorf("left: %v, %v", there, err)
	}
}

func lost(t *testing.T, c deploy.Cloud) {
	t.Helper()
	r := list(t, c)[0]
	if err := c.Wait(t.Context(), r, "a token nobody gave out"); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("wait with an unknown token: %v", err)
	}
}

func canceled(t *testing.T, c deploy.Cloud) {
	t.Helper()
	rs := list(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Find(ctx, rs[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("find with a canceled context: %v", err)
	}
	start := time.Now()
	for _, r := range rs {
		token, err := c.Begin(t.Context(), deploy.ActionCreate, r)
		if err != nil {
			t.Fatal(err)
		}
		if token == "" {
			continue
		}
		if err := c.Wait(ctx, r, token); !errors.Is(err, context.Canceled) {
			t.Errorf("wait for %s with a canceled context: %v", r.Key(), err)
		}
		// The operation goes on and can still be waited for.
		if err := c.Wait(t.Context(), r, token); err != nil {
			t.Errorf("wait again: %v", err)
		}
	}
	const soon = time.Minute
	if took := time.Since(start); took > soon {
		t.Errorf("took %v", took)
	}
}
