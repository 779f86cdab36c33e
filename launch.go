package binnacle

import "time"

// Phase is where a launch stands.
type Phase string

// The phases in their order. Ready, Failed and Canceled are final.
const (
	PhaseWaiting   Phase = "waiting"   // in the queue
	PhaseResolving Phase = "resolving" // which commit is meant
	PhaseFetching  Phase = "fetching"  // its files are fetched, its recipe is read
	PhaseBuilding  Phase = "building"
	PhaseLaunching Phase = "launching" // the session starts
	PhaseReady     Phase = "ready"     // built (build only) or the session answers
	PhaseFailed    Phase = "failed"
	PhaseCanceled  Phase = "canceled"
)

// Final says that nothing follows.
func (p Phase) Final() bool {
	return p == PhaseReady || p == PhaseFailed || p == PhaseCanceled
}

// EventKind says how to read an Event.
type EventKind string

// The kinds of event.
const (
	EventPhase EventKind = "phase" // a phase began; Millis is how long the one before took
	EventLog   EventKind = "log"   // one line of log in Message, colours kept, no newline
	EventStep  EventKind = "step"  // a build step ended: Step, Millis, Cached
	EventQueue EventKind = "queue" // Position changed
	EventNote  EventKind = "note"  // a warning about the repository, with File and Line in Error
	EventEnd   EventKind = "end"   // the last one: Phase is final, Error set when failed
)

// Event is one thing that happened in a launch. Events of a launch are numbered
// from 1 without gaps and survive a restart of the hub.
type Event struct {
	ID       int64     `json:"id"`
	Time     time.Time `json:"time"`
	Kind     EventKind `json:"kind"`
	Phase    Phase     `json:"phase"`
	Message  string    `json:"message,omitempty"`
	Step     string    `json:"step,omitempty"`
	Cached   bool      `json:"cached,omitempty"`
	Millis   int64     `json:"millis,omitempty"`
	Position int       `json:"position,omitempty"` // in the queue, from 1
	Image    string    `json:"image,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// Limits bound a session or a build. Zero means the hub's default.
type Limits struct {
	Memory int64   `json:"memory,omitempty"` // bytes
	CPU    float64 `json:"cpu,omitempty"`    // cores
	PIDs   int64   `json:"pids,omitempty"`
	Disk   int64   `json:"disk,omitempty"` // bytes written
}

// LaunchRequest asks for a running repository.
type LaunchRequest struct {
	// Repo is whatever a person pastes: an address, a page of a forge, a spec.
	Repo string `json:"repo"`
	// Ref overrides the ref that Repo names; empty keeps it.
	Ref string `json:"ref,omitempty"`
	// Subdir overrides the folder that Repo names; empty keeps it.
	Subdir string `json:"subdir,omitempty"`
	// Path is where to land in the session, e.g. "lab/tree/index.ipynb"; empty
	// is the repository's own choice or JupyterLab.
	Path   string            `json:"path,omitempty"`
	Env    map[string]string `json:"env,omitempty"`
	Limits Limits            `json:"limits,omitzero"`
	// Class is a kind of machine that the hub's operator offers, such as "gpu";
	// empty is the usual one.
	Class     string `json:"class,omitempty"`
	Editable  bool   `json:"editable,omitempty"`   // mount the directory live; dir only
	BuildOnly bool   `json:"build_only,omitempty"` // stop when the image is there
	Rebuild   bool   `json:"rebuild,omitempty"`    // do not take an image that is already there
}

// Launch is one request's way from Spec to Session.
type Launch struct {
	ID       string      `json:"id"`
	Spec     Spec        `json:"spec"`
	Revision *Revision   `json:"revision,omitempty"` // once resolved
	Phase    Phase       `json:"phase"`
	Phases   []PhaseTime `json:"phases"`
	Created  time.Time   `json:"created"`
	Ended    time.Time   `json:"ended,omitzero"`
	Position int         `json:"position,omitempty"` // in the queue, from 1
	Image    string      `json:"image,omitempty"`
	Path     string      `json:"path,omitempty"`
	Session  *Session    `json:"session,omitempty"` // once ready, for its owner only
	Error    *Error      `json:"error,omitempty"`
}

// Resolved is a file of an image that says what was installed: exact versions,
// with hashes where there are any, one file for each ecosystem.
type Resolved struct {
	Name    string `json:"name"` // "requirements.txt", "apt.txt"; no slash
	Content string `json:"content"`
}

// PhaseTime is how long a phase took; Millis is 0 while it lasts.
type PhaseTime struct {
	Phase  Phase     `json:"phase"`
	Start  time.Time `json:"start"`
	Millis int64     `json:"millis,omitempty"`
}

// Session is a running server as its owner sees it.
type Session struct {
	ID       string    `json:"id"`
	LaunchID string    `json:"launch_id,omitempty"`
	Repo     string    `json:"repo"` // the Spec as written
	State    string    `json:"state"`
	URL      string    `json:"url"`             // ends with a slash; add Path and ?token=
	Token    string    `json:"token,omitempty"` // for the owner only
	Path     string    `json:"path,omitempty"`
	Started  time.Time `json:"started"`
	// IdleEnds is when it is stopped unless somebody works in it; Ends is when
	// it is stopped in any case. Zero: never.
	IdleEnds time.Time `json:"idle_ends,omitzero"`
	Ends     time.Time `json:"ends,omitzero"`
}
