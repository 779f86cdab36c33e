package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy"
)

// errKilled is what a call returns when the process would have died in it.
var errKilled = errors.New("killed")

// memory is a cloud for tests of the engine. Operations take two looks to end.
// Its state outlives any number of engines.
type memory struct {
	mu     sync.Mutex
	wanted []deploy.Resource
	there  map[string]*thing
	begun  []string       // "create network/n", in order
	ops    map[string]int // looks until the end, by token
	// calls counts; the process dies in call number killAt, before or after the
	// cloud has carried it out.
	calls, killAt int
	killAfter     bool
	// failNext makes the next operation on the key end in failure.
	failNext map[string]string
	forgets  bool // tokens are lost
}

type thing struct {
	deploy.Resource
	looks int // until the operation ends
}

func newMemory() *memory {
	return &memory{
		wanted: []deploy.Resource{
			{Kind: "group", Name: "g", Shared: true, Holds: true},
			{Kind: "network", Name: "n", Spec: map[string]string{"range": "10.0.0.0/16"}, Fixed: []string{"range"}},
			{Kind: "cluster", Name: "c", Spec: map[string]string{"nodes": "3"}},
			{Kind: "address", Name: "a"},
		},
		there: map[string]*thing{}, ops: map[string]int{}, failNext: map[string]string{},
	}
}

// call runs f as a call that the process may die in.
func (m *memory) call(ctx context.Context, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.calls++
	if m.killAt > 0 && m.calls > m.killAt {
		return errKilled
	}
	if m.calls == m.killAt {
		if m.killAfter {
			_ = f()
		}
		return errKilled
	}
	return f()
}

func (m *memory) Check(ctx context.Context) ([]deploy.Finding, error) {
	return []deploy.Finding{{Name: "memory", OK: true, Message: "there is enough"}}, m.call(ctx, func() error { return nil })
}

func (m *memory) Wanted(context.Context) ([]deploy.Resource, error) {
	return slices.Clone(m.wanted), nil
}

func (m *memory) look(r deploy.Resource) (*thing, error) {
	t, ok := m.there[r.Key()]
	if ok && t.State == deploy.StateDeleting && t.looks <= 0 {
		delete(m.there, r.Key())
		ok = false
	}
	if !ok {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "There is no %s.", r.Key())
	}
	if t.State == deploy.StateWorking && t.looks <= 0 {
		t.State = deploy.StateReady
		if reason, ok := m.failNext[r.Key()]; ok {
			t.State, t.Reason = deploy.StateFailed, reason
			delete(m.failNext, r.Key())
		}
	}
	t.looks--
	return t, nil
}

func (m *memory) Find(ctx context.Context, r deploy.Resource) (out deploy.Resource, err error) {
	err = m.call(ctx, func() error {
		t, err := m.look(r)
		if err == nil {
			out = t.Resource
			out.Spec = maps.Clone(t.Spec)
		}
		return err
	})
	return out, err
}

func (m *memory) List(ctx context.Context) (out []deploy.Resource, err error) {
	err = m.call(ctx, func() error {
		for _, key := range slices.Sorted(maps.Keys(m.there)) {
			out = append(out, m.there[key].Resource)
		}
		return nil
	})
	return out, err
}

func (m *memory) Begin(ctx context.Context, a deploy.Action, r deploy.Resource) (token string, err error) {
	err = m.call(ctx, func() error {
		m.begun = append(m.begun, fmt.Sprintf("%s %s", a, r.Key()))
		t, there := m.there[r.Key()]
		if a == deploy.ActionDelete {
			if !there {
				return nil
			}
			if !t.Ours {
				return binnacle.Errorf(binnacle.CodeInternal, "%s is not ours.", r.Key())
			}
			t.State = deploy.StateDeleting
		} else {
			if there && t.State != deploy.StateReady && t.State != deploy.StateFailed {
				return binnacle.Errorf(binnacle.CodeConflict, "An operation on %s is under way.", r.Key())
			}
			t = &thing{Resource: deploy.Resource{
				Kind: r.Kind, Name: r.Name, ID: "/" + r.Key(), Spec: maps.Clone(r.Spec), Ours: true, Holds: r.Holds, State: deploy.StateWorking,
			}}
			m.there[r.Key()] = t
		}
		t.looks = 2
		token = fmt.Sprintf("%s#%d", r.Key(), len(m.begun))
		m.ops[token] = 0
		return nil
	})
	return token, err
}

func (m *memory) Wait(ctx context.Context, r deploy.Resource, token string) error {
	return m.call(ctx, func() error {
		if _, ok := m.ops[token]; !ok || m.forgets {
			return binnacle.Errorf(binnacle.CodeNotFound, "No such operation.")
		}
		t, ok := m.there[r.Key()]
		if !ok {
			return nil
		}
		t.looks = 0
		t, err := m.look(r)
		if err == nil && t.State == deploy.StateFailed {
			return binnacle.Errorf(binnacle.CodeUnavailable, "%s", t.Reason)
		}
		return nil
	})
}

// state is everything that exists, for comparing.
func (m *memory) state() map[string]deploy.Resource {
	out := map[string]deploy.Resource{}
	for key, t := range m.there {
		out[key] = t.Resource
	}
	return out
}
