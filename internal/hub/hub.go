// Package hub is the HTTP face of Binnacle: its pages, its API under /api/, and
// the addresses BinderHub's clients know (/build, /v2, /versions, badges…).
//
// [Hub.Handler] is for the network: everybody on it is anonymous and owns only
// what their own cookie or token began. [Hub.TrustedHandler] is for the unix
// socket of the machine: whoever may open it is the operator.
//
// The hub holds no state of its own but the key that signs cookies: launches
// and sessions are the [Service]'s.
package hub

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Caller is who asks. launch has the same words.
type Caller struct {
	// Owner is the opaque id of a person; what one owner began no other sees.
	Owner string
	// Trusted is the operator: sees and may stop everything, and may ask for
	// directories and private addresses.
	Trusted bool
	// Address is where the request came from, for limits; empty when trusted.
	Address string
}

// Launches is what the hub needs to know of launches.
type Launches interface {
	Launch(ctx context.Context, c Caller, req binnacle.LaunchRequest) (binnacle.Launch, error)
	// Get returns not_found for a launch that is not there or not the caller's.
	Get(ctx context.Context, c Caller, id string) (binnacle.Launch, error)
	List(ctx context.Context, c Caller) ([]binnacle.Launch, error)
	Cancel(ctx context.Context, c Caller, id string) error
	// Resolved tells the exact versions in a launch's image.
	Resolved(ctx context.Context, c Caller, id string) ([]binnacle.Resolved, error)
	// Watched says whether anybody follows the launch's events, through any replica.
	Watched(ctx context.Context, c Caller, id string) (bool, error)
	// Events calls yield with the events after the given one, then with new
	// ones until the end event; it returns yield's error.
	Events(ctx context.Context, c Caller, id string, after int64, yield func(binnacle.Event) error) error
}

// Sessions is what the hub needs to know of running sessions.
type Sessions interface {
	Sessions(ctx context.Context, c Caller) ([]binnacle.Session, error)
	// Session returns not_found for one that is not there or not the caller's.
	Session(ctx context.Context, c Caller, id string) (binnacle.Session, error)
	Stop(ctx context.Context, c Caller, id string) error
	KeepAlive(ctx context.Context, c Caller, id string) (binnacle.Session, error)
	Logs(ctx context.Context, c Caller, id string, follow bool, w io.Writer) error
}

// Service is what launches and runs. Its methods are safe for concurrent use.
type Service interface {
	Launches
	Sessions
}

// Janitor tells and frees disk space; only the operator reaches it.
type Janitor interface {
	Usage(ctx context.Context) (Usage, error)
	Clean(ctx context.Context, req CleanRequest) (CleanReport, error)
}

// Usage is what takes disk.
type Usage struct {
	Total  int64       `json:"total"`            // bytes
	Budget int64       `json:"budget,omitempty"` // bytes the hub keeps to; 0 is none
	Parts  []UsagePart `json:"parts"`
}

// UsagePart is one kind of thing that takes disk.
type UsagePart struct {
	Name        string `json:"name"` // "images", "build cache", "git mirrors"
	Count       int    `json:"count,omitempty"`
	Bytes       int64  `json:"bytes"`
	Reclaimable int64  `json:"reclaimable"` // bytes nobody uses now
}

// CleanRequest says how far to clean.
type CleanRequest struct {
	// Budget is how many bytes may stay; 0 means the configured budget.
	Budget int64 `json:"budget,omitempty"`
	// All removes whatever no session uses, whatever the budget.
	All    bool `json:"all,omitempty"`
	DryRun bool `json:"dry_run,omitempty"`
}

// CleanReport is what was removed.
type CleanReport struct {
	Freed int64       `json:"freed"` // bytes
	Parts []UsagePart `json:"parts"` // what went, by kind; Reclaimable is unused
	After Usage       `json:"after"`
}

// Target is what a person pasted: a repository and where to land in it. It has
// source.Target's fields so that the one converts to the other.
type Target struct {
	Spec binnacle.Spec
	// RefAndPath says that Spec.Ref may go on with the path of a file.
	RefAndPath bool
	Path       string // file or folder of the repository
	URLPath    string // where to land in the session
}

// Deps are the parts the hub speaks to.
type Deps struct {
	Service Service
	// Proxy answers everything below /user/ and on the hosts of sessions.
	Proxy http.Handler
	// Parse tells what a pasted text names. Required.
	Parse func(input string) (Target, error)
	// Checks are asked by /health.
	Checks []Check
	// Quota is told by /health to BinderHub's federation; nil leaves it out.
	Quota func(ctx context.Context) (Quota, error)
	// Rate is how many launches an address may ask for, how many are left and when
	// all will be, for the headers of /build; nil or !ok leaves them out.
	Rate func(ctx context.Context, address string) (limit, left int, full time.Time, ok bool)
	// Metrics are those of other parts.
	Metrics []Metric
	// Janitor may be nil: then its routes are not_found.
	Janitor Janitor
	// Web holds the pages and their parts; nil means those in the binary.
	Web fs.FS
	Log *slog.Logger
}

// Hub serves a Service over HTTP.
type Hub struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	keys    keys
	web     *web
	origin  *http.CrossOriginProtection
	metrics *metrics
	health  healthCache
	watch   *watchers
	public  http.Handler
	trusted http.Handler
	api     []route

	stop  context.CancelCauseFunc
	tasks sync.WaitGroup
}

// keys sign what the hub hands out; each is derived from the configured secret.
type keys struct {
	owner []byte
	build []byte
}

var errHubClosed = errors.New("the hub is shutting down")

// New makes a hub. Close it after its servers have shut down.
func New(ctx context.Context, cfg Config, deps Deps) (*Hub, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Service == nil || deps.Parse == nil || deps.Log == nil {
		return nil, errors.New("hub: a service, a parser and a logger are needed")
	}
	if deps.Proxy == nil {
		deps.Proxy = http.NotFoundHandler()
	}
	h := &Hub{cfg: cfg, deps: deps, log: deps.Log, origin: http.NewCrossOriginProtection()}
	if cfg.URL != "" {
		if err := h.origin.AddTrustedOrigin(strings.TrimSuffix(cfg.URL, "/")); err != nil {
			return nil, err
		}
	}
	var err error
	if h.keys, err = deriveKeys(cfg.Secret); err != nil {
		return nil, err
	}
	if h.web, err = newWeb(deps.Web); err != nil {
		return nil, err
	}
	ctx, h.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	h.metrics = newMetrics(deps.Service, deps.Metrics)
	h.watch = newWatchers(ctx, h)
	h.api = h.apiRoutes()
	h.public = h.headers(h.publicMux())
	h.trusted = h.trust(h.headers(h.trustedMux()))
	return h, nil
}

// Handler serves people and programs on the network.
func (h *Hub) Handler() http.Handler { return h.public }

// TrustedHandler serves the operator; never bind it to a network address.
func (h *Hub) TrustedHandler() http.Handler { return h.trusted }

// Close ends what the hub does on its own account and waits for it. The
// launches go on: they are the service's.
func (h *Hub) Close() {
	h.watch.close()
	h.stop(errHubClosed)
	h.tasks.Wait()
}

func deriveKeys(secret []byte) (keys, error) {
	if len(secret) == 0 {
		secret = make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
	}
	var k keys
	var err error
	if k.owner, err = hkdf.Key(sha256.New, secret, nil, "binnacle owner", 32); err != nil {
		return keys{}, err
	}
	k.build, err = hkdf.Key(sha256.New, secret, nil, "binnacle build token", 32)
	return k, err
}

// quick is the request's context bounded for short calls, so that a stuck
// service does not hold requests for ever.
func (h *Hub) quick(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), 30*time.Second, binnacle.Errorf(binnacle.CodeTimeout, "The hub took too long to answer."))
}
