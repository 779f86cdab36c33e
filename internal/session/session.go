// Package session runs an image as a live Jupyter server. [Spawner] is the
// contract; session/containerd keeps it on one machine, sessiontest checks it.
package session

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// State of a session.
type State string

// The states a runtime can tell apart.
const (
	Starting State = "starting" // created, its process may not run yet
	Running  State = "running"  // its process runs; whether it answers is for the caller to find out
	Exited   State = "exited"   // its process is gone; only Stop is left
)

// Spec says what to run.
type Spec struct {
	// ID names the session everywhere: [a-z0-9-], at most 50 characters,
	// starting with a letter. Never reused.
	ID    string
	Image string // name in the runtime's image store
	// BaseURL is the path prefix the server answers under, e.g. "/user/x/".
	BaseURL string
	// Token authenticates people to the server. It never appears on a command
	// line or in a log.
	Token  string
	Env    map[string]string
	Limits binnacle.Limits // all set
	// Mount binds a directory of this machine over the repository's; else "".
	Mount string
	// AllowOrigin is the server's Access-Control-Allow-Origin; "" for none.
	AllowOrigin string
	// Labels are kept by the runtime and come back in Status: what the hub must
	// know about the session after a restart.
	Labels map[string]string
	// Waiting is told why Start takes its time, in a sentence for people, when a
	// runtime knows ("The cluster has no room; a machine may be added."); nil when
	// nobody wants to know.
	Waiting func(why string)
}

// Labels with a meaning to a runtime: profiles of resources are chosen by them.
const (
	LabelRepo  = "binnacle.repo"  // the spec of the repository
	LabelOwner = "binnacle.owner" // whose session it is
	LabelClass = "binnacle.class" // the class of machine that was asked for
)

// Status is what the runtime knows.
type Status struct {
	ID      string
	State   State
	Image   string
	BaseURL string
	Token   string
	Labels  map[string]string
	Started time.Time
	// Exit is why it ended, a sentence for people ("It used more than 2 GiB of
	// memory and was stopped."); empty while it runs.
	Exit string
}

// Spawner starts and stops sessions. The truth about them is in the runtime: a
// new Spawner on the same runtime sees and serves every session of the old one.
// Implementations are safe for concurrent use; sessiontest.Run is their test.
type Spawner interface {
	// Start creates the session and its process and returns once the process
	// runs. It leaves nothing behind when it fails. Returns not_found when the
	// image is missing, conflict when the ID is taken, unavailable when the
	// runtime is.
	Start(ctx context.Context, spec Spec) (Status, error)
	// Get returns not_found for a session that is not there.
	Get(ctx context.Context, id string) (Status, error)
	// List returns all sessions, oldest first.
	List(ctx context.Context) ([]Status, error)
	// Dial connects to the session's server. It waits, within ctx, for a server
	// that is still starting; unavailable once the session has exited,
	// not_found when it is not there.
	Dial(ctx context.Context, id string) (net.Conn, error)
	// Logs copies what the session's process wrote; with follow it goes on
	// until the session ends or ctx does.
	Logs(ctx context.Context, id string, follow bool, w io.Writer) error
	// Stop ends the process (a request first, force after a grace period) and
	// removes everything the session had. Stopping what is not there is no error.
	Stop(ctx context.Context, id string) error
}
