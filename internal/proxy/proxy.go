// Package proxy carries a browser's requests to the session they belong to:
// HTTP/1.1 and HTTP/2 in front, HTTP/1.1 over [Backend.Dial] behind, and
// WebSockets.
//
// A session answers under /user/<id>/ on the hub's host, or under the same
// path on its own host <id>.<session domain> where a wildcard domain is
// configured. The id is read from the raw request target; everything else of
// the target passes unmodified.
//
// The backend leg is written by hand because the standard library's
// ReverseProxy costs two goroutine switches a request and 42 KiB an idle
// WebSocket: here a request is written and its answer read by the goroutine
// that serves it, and an idle WebSocket is two file descriptors in an epoll set
// (see [parker]) without goroutine or buffer.
//
// A [Proxy] must see requests before an [http.ServeMux] does, which would clean
// their paths: ask [Proxy.Handles] first.
package proxy

import (
	"context"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Backend connects to the server of a session. A session.Spawner is one.
type Backend interface {
	// Dial waits, within ctx, for a server that is still starting. It returns
	// not_found for a session that is not there, unavailable for one that has
	// exited and timeout (or ctx's error) for one that is still starting.
	Dial(ctx context.Context, id string) (net.Conn, error)
}

// Reasons is what may be known about sessions that are gone. A Backend that has
// it is asked.
type Reasons interface {
	// Gone says why the session ended, a sentence for people; false when
	// nothing is known of it or it still runs.
	Gone(id string) (string, bool)
}

// Keys of our log lines.
const (
	keySession = "session_id"
	keyError   = "err"
	keyCode    = "code"
)

// Proxy is an [http.Handler] for sessions. It is safe for concurrent use.
type Proxy struct {
	cfg     Config
	backend Backend
	log     *slog.Logger
	domain  string // host part of cfg.SessionDomain, lower case; "" in path mode
	page    *template.Template
	reasons atomic.Pointer[Reasons]

	mu      sync.RWMutex
	targets map[string]*target
	closed  bool

	heads   sync.Pool // *[]byte: requests as they are written
	readers sync.Pool // *bufio.Reader of responses
	buffers sync.Pool // *[bufferSize]byte of bodies
	pieces  sync.Pool // *piece of WebSocket data

	// always are header values that every answer shares.
	always struct {
		referrer, resource []string
		ancestors          string
	}

	parker *parker
	stats  counters
}

// New makes a proxy. cfg must be valid (see [Config.Validate]). Close ends it.
func New(cfg Config, b Backend, log *slog.Logger) *Proxy {
	p := &Proxy{
		cfg:     cfg,
		backend: b,
		log:     log,
		domain:  hostname(cfg.SessionDomain),
		page:    template.Must(template.New("page").Parse(pageHTML)),
		targets: map[string]*target{},
		parker:  newParker(),
	}
	p.always.referrer = []string{"same-origin"}
	p.always.resource = []string{"same-origin"}
	if len(cfg.FrameAncestors) > 0 {
		p.always.ancestors = "frame-ancestors " + strings.Join(cfg.FrameAncestors, " ")
	}
	if r, ok := b.(Reasons); ok {
		p.SetReasons(r)
	}
	return p
}

// SetReasons says who knows why sessions ended.
func (p *Proxy) SetReasons(r Reasons) { p.reasons.Store(&r) }

// Handles says whether a request is for a session: by its host, or by its path.
func (p *Proxy) Handles(r *http.Request) bool {
	if p.domain != "" && strings.HasSuffix(hostname(r.Host), "."+p.domain) {
		return true
	}
	return strings.HasPrefix(rawTarget(r), userPrefix)
}

// ServeHTTP carries one request. When the session's answer breaks off it
// panics with [http.ErrAbortHandler], which a recovering middleware must pass
// on, so that the client sees a broken answer and not a short one.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.stats.requests.Add(1)
	rt, verdict := p.route(r)
	switch verdict {
	case routeForward:
	case routeRedirect:
		w.Header().Set("Location", rt.location)
		w.Header().Set("Referrer-Policy", "same-origin")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	case routeMethod:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		p.fail(w, r, rt, http.StatusMethodNotAllowed, binnacle.Errorf(binnacle.CodeInvalid, "This method is not supported here."))
		return
	case routeBad:
		p.fail(w, r, rt, http.StatusBadRequest, binnacle.Errorf(binnacle.CodeInvalid, "This request is malformed."))
		return
	default:
		p.fail(w, r, rt, http.StatusNotFound, &binnacle.Error{
			Code: binnacle.CodeNotFound, Message: "There is no session at this address.",
			Hint: "It may have ended. Launch the repository again.",
		})
		return
	}
	if isUpgrade(r) {
		p.upgrade(w, r, rt)
		return
	}
	p.forward(w, r, rt)
}

// LastActivity is when a person last did something in the session through this
// proxy: a request that is not a poll, or a WebSocket message. Zero when never.
func (p *Proxy) LastActivity(id string) time.Time {
	t := p.lookup(id)
	if t == nil {
		return time.Time{}
	}
	if ns := t.last.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Forget closes every connection of a session, WebSockets too, and drops what
// is known of it. Call it when the session is stopped.
func (p *Proxy) Forget(id string) {
	p.mu.Lock()
	t := p.targets[id]
	delete(p.targets, id)
	p.mu.Unlock()
	if t != nil {
		t.close()
	}
}

// Close closes every connection of every session and waits for what served
// them. Requests that come later are answered with an error page.
func (p *Proxy) Close() error {
	p.mu.Lock()
	targets := p.targets
	p.targets = map[string]*target{}
	p.closed = true
	p.mu.Unlock()
	for _, t := range targets {
		t.close()
	}
	return p.parker.close()
}

func (p *Proxy) lookup(id string) *target {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.targets[id]
}

// target makes the session's state. Only a session that answered a Dial gets
// one: made-up ids cost no memory. nil once the proxy is closed.
func (p *Proxy) target(id string) *target {
	if t := p.lookup(id); t != nil {
		return t
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	t := p.targets[id]
	if t == nil {
		t = newTarget(p.cfg)
		p.targets[id] = t
	}
	return t
}
