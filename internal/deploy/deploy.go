// Package deploy takes a hub from a description to a running service, and back
// to nothing: check, plan, apply, verify, report.
//
// A [Cloud] knows one kind of place. The [Engine] compares what is wanted with
// what is there, writes each operation into a [Journal] before it waits for it,
// and continues where an earlier run ended, however it ended. It changes and
// deletes only what is ours.
package deploy

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// ErrAsleep is in the errors of a place that was stopped to save money.
var ErrAsleep = errors.New("it was stopped and sleeps")

// State is how far a resource is.
type State string

// The states of a resource.
const (
	StateReady    State = "ready"
	StateWorking  State = "working"  // an operation on it is under way
	StateDeleting State = "deleting" // it will be gone
	StateFailed   State = "failed"   // it exists and its last operation failed
)

// Resource is one thing of a cloud: as it is wanted, or as it is.
type Resource struct {
	Kind string `json:"kind"` // "cluster"; what people call it
	Name string `json:"name"`
	// ID is the cloud's own name for it; empty when it was never seen.
	ID string `json:"id,omitempty"`
	// Spec are its settings in words, without secrets: a difference is a change.
	// Clouds report the settings that they were asked about, and no others.
	Spec map[string]string `json:"spec,omitempty"`
	// Fixed are the settings that can't be changed once it exists.
	Fixed []string `json:"-"`
	// Shared may exist without being ours, and is then used as it is and never
	// changed or deleted: a resource group.
	Shared bool `json:"-"`
	// Holds says that others live in it: it is deleted only when nothing foreign
	// is left.
	Holds bool `json:"-"`
	// Within is the key of another resource that takes this one with it when it is
	// deleted; empty for none.
	Within string `json:"-"`
	// Ours says that we created it. State is empty for what is only wanted, and
	// Reason says why it failed.
	Ours   bool   `json:"ours,omitempty"`
	State  State  `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Labels are what is written on it, by others too: changes keep them.
	Labels map[string]string `json:"-"`
	// Outputs are what others need to know of it: addresses, name servers.
	Outputs map[string]string `json:"outputs,omitempty"`
}

// Key names a resource within a deployment.
func (r Resource) Key() string { return r.Kind + "/" + r.Name }

// diff lists the settings of want that r has otherwise.
func (r Resource) diff(want Resource) []Difference {
	var out []Difference
	for _, field := range slices.Sorted(maps.Keys(want.Spec)) {
		if r.Spec[field] != want.Spec[field] {
			out = append(out, Difference{Field: field, From: r.Spec[field], To: want.Spec[field]})
		}
	}
	return out
}

// Difference is one setting that is not as wanted.
type Difference struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// FieldDigest is a setting that tells about those that went away: their digest.
const FieldDigest = "digest of all settings"

// Action is what is done to a resource.
type Action string

// The actions of a plan. Keep and Use write nothing.
const (
	ActionCreate Action = "create"
	ActionChange Action = "change"
	ActionRepair Action = "repair" // its last operation failed; ask again
	ActionWait   Action = "wait"   // an operation of an earlier run is under way
	ActionDelete Action = "delete"
	ActionKeep   Action = "keep" // ours, and as wanted
	ActionUse    Action = "use"  // not ours, and used
)

// Writes says that the action changes something.
func (a Action) Writes() bool { return a != ActionKeep && a != ActionUse }

// Finding is one result of a check.
type Finding struct {
	Name    string `json:"name"` // "quota"; what was looked at
	OK      bool   `json:"ok"`
	Warning bool   `json:"warning,omitempty"` // it may be well or not, which can't be told from here; OK is set
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // how to mend it
}

// Cloud is a place that has resources. The conformance suite is in
// internal/deploy/cloudtest.
type Cloud interface {
	// Check looks for what would go wrong later. It creates nothing. An error
	// means that checking itself failed; what it finds wrong are findings.
	Check(ctx context.Context) ([]Finding, error)
	// Wanted lists the resources of the deployment in the order they are created
	// in. The same configuration gives the same list.
	Wanted(ctx context.Context) ([]Resource, error)
	// Find reads a resource as it is, by kind and name. Returns not_found.
	Find(ctx context.Context, r Resource) (Resource, error)
	// List has all that is in the deployment's place, ours and foreign; of a
	// place that is not there, nothing. It may leave out Spec and Outputs.
	List(ctx context.Context) ([]Resource, error)
	// Begin starts to create, change or delete r and returns a token to wait with,
	// empty when it is done already. Create and change give the same end state
	// however often they are asked; deleting what is not there is no error. What it
	// creates is marked as ours at once, not when it is ready.
	Begin(ctx context.Context, a Action, r Resource) (token string, err error)
	// Wait returns when the operation of the token has ended, well or not. Returns
	// not_found when the cloud does not know the token any more.
	Wait(ctx context.Context, r Resource, token string) error
}

// Pricer is a cloud that knows what resources cost.
type Pricer interface {
	// Prices returns prices by key; what costs nothing or is not known is missing.
	Prices(ctx context.Context, rs []Resource) (map[string]Price, error)
}

// Identifier is a cloud that knows who is signed in.
type Identifier interface {
	// Who is a line for people: the account, its kind, and where.
	Who(ctx context.Context) (string, error)
}

// Price is what one resource costs by the hour, when nobody works and when as
// many work as it is made for.
type Price struct {
	Currency string  `json:"currency"`
	Idle     float64 `json:"idle_per_hour"`
	Full     float64 `json:"full_per_hour"`
	// Of is what was priced: "1 to 3 × Standard_D4s_v5".
	Of string `json:"of,omitempty"`
}

// HoursPerMonth is what clouds count.
const HoursPerMonth = 730
