package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// fake is a service whose launches do what their script says. It keeps owners
// apart as the real one does.
type fake struct {
	mu       sync.Mutex
	changed  chan struct{}
	launches []*fakeLaunch
	sessions map[string]fakeSession
	script   func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch)
	err      error // every call's answer
	canceled []string
	callers  []hub.Caller
	requests []binnacle.LaunchRequest
	eventErr error  // what Events ends with after the history
	base     string // before the addresses of sessions
	// The first elsewhere times that somebody asks, a launch is watched through
	// another replica.
	elsewhere, asked int
}

type fakeLaunch struct {
	launch binnacle.Launch
	owner  string
	events []binnacle.Event
}

type fakeSession struct {
	binnacle.Session

	owner string
}

var _ hub.Service = (*fake)(nil)

func epoch() time.Time { return time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC) }

func newFake() *fake {
	return &fake{changed: make(chan struct{}), sessions: map[string]fakeSession{}, script: foundScript}
}

// script makes events of a short form: "phase fetching", "log text", "end ready".
func script(lines ...string) []binnacle.Event {
	var out []binnacle.Event
	phase := binnacle.PhaseWaiting
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		e := binnacle.Event{ID: int64(i + 1), Time: epoch().Add(time.Duration(i) * time.Second), Kind: binnacle.EventKind(word)}
		switch e.Kind {
		case binnacle.EventPhase, binnacle.EventEnd:
			phase = binnacle.Phase(rest)
		case binnacle.EventQueue:
			e.Position = len(rest)
		default:
			e.Message = rest
		}
		e.Phase = phase
		out = append(out, e)
	}
	return out
}

const fakeCommit = "0123456789abcdef0123456789abcdef01234567"

func fakeLaunchOf(req binnacle.LaunchRequest) binnacle.Launch {
	spec, err := binnacle.ParseSpec(req.Repo)
	if err != nil {
		spec = binnacle.Spec{Provider: binnacle.GitHub, Repo: "o/r", Ref: "HEAD"}
	}
	rev := binnacle.Revision{Spec: spec, URL: "https://git.example.org/" + spec.Repo, Commit: fakeCommit, WebURL: "https://git.example.org/" + spec.Repo + "/tree/" + fakeCommit}
	return binnacle.Launch{Spec: spec, Revision: &rev, Phase: binnacle.PhaseReady, Created: epoch(), Ended: epoch().Add(3 * time.Second), Image: "binnacle/o-r:0123456", Path: req.Path}
}

func foundScript(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
	ev := script("phase resolving", "phase launching", "end ready")
	ev[1].Image = "binnacle/o-r:0123456"
	return ev, fakeLaunchOf(req)
}

func (f *fake) Launch(_ context.Context, c hub.Caller, req binnacle.LaunchRequest) (binnacle.Launch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers, f.requests = append(f.callers, c), append(f.requests, req)
	if f.err != nil {
		return binnacle.Launch{}, f.err
	}
	events, l := f.script(req)
	l.ID = fmt.Sprintf("launch%d", len(f.launches)+1)
	for _, e := range events {
		if e.Kind == binnacle.EventPhase {
			l.Phases = append(l.Phases, binnacle.PhaseTime{Phase: e.Phase, Start: e.Time, Millis: 1000})
		}
	}
	if l.Phase == binnacle.PhaseReady && !req.BuildOnly {
		s := binnacle.Session{ID: "o-r-" + l.ID, LaunchID: l.ID, Repo: l.Spec.String(), State: "running", URL: f.base + "/user/o-r-" + l.ID + "/", Token: "secret-token", Started: epoch(), IdleEnds: epoch().Add(time.Hour)}
		l.Session = &s
		f.sessions[s.ID] = fakeSession{s, c.Owner}
	}
	f.launches = append(f.launches, &fakeLaunch{l, c.Owner, events})
	return l, nil
}

func (f *fake) find(c hub.Caller, id string) (*fakeLaunch, error) {
	if f.err != nil {
		return nil, f.err
	}
	for _, l := range f.launches {
		if l.launch.ID == id && (c.Trusted || l.owner == c.Owner) {
			return l, nil
		}
	}
	return nil, binnacle.Errorf(binnacle.CodeNotFound, "There is no such launch.")
}

func (f *fake) Get(_ context.Context, c hub.Caller, id string) (binnacle.Launch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, err := f.find(c, id)
	if err != nil {
		return binnacle.Launch{}, err
	}
	return l.launch, nil
}

func (f *fake) List(_ context.Context, c hub.Caller) ([]binnacle.Launch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []binnacle.Launch
	for _, l := range f.launches {
		if c.Trusted || l.owner == c.Owner {
			out = append(out, l.launch)
		}
	}
	return out, f.err
}

// push adds an event to a launch that runs.
func (f *fake) push(id string, e binnacle.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.launches {
		if l.launch.ID == id {
			e.ID = int64(len(l.events) + 1)
			l.events = append(l.events, e)
			if e.Kind == binnacle.EventEnd {
				l.launch.Phase = e.Phase
			}
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Cancel(_ context.Context, c hub.Caller, id string) error {
	f.mu.Lock()
	_, err := f.find(c, id)
	f.canceled = append(f.canceled, id)
	f.mu.Unlock()
	if err == nil {
		f.push(id, binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseCanceled})
	}
	return err
}

func (f *fake) Resolved(ctx context.Context, c hub.Caller, id string) ([]binnacle.Resolved, error) {
	if _, err := f.Get(ctx, c, id); err != nil {
		return nil, err
	}
	return []binnacle.Resolved{{Name: "apt.txt", Content: "git=1:2.47\n"}, {Name: "requirements.txt", Content: "numpy==2.3.1\n"}}, nil
}

func (f *fake) Events(ctx context.Context, c hub.Caller, id string, after int64, yield func(binnacle.Event) error) error {
	for {
		f.mu.Lock()
		l, err := f.find(c, id)
		if err != nil {
			f.mu.Unlock()
			return err
		}
		events, changed, broke := l.events[min(int(after), len(l.events)):], f.changed, f.eventErr
		final := l.launch.Phase.Final()
		f.mu.Unlock()
		for _, e := range events {
			if err := yield(e); err != nil {
				return err
			}
			after = e.ID
			if e.Kind == binnacle.EventEnd {
				return nil
			}
		}
		if broke != nil || final {
			return broke
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (f *fake) Sessions(_ context.Context, c hub.Caller) ([]binnacle.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []binnacle.Session
	for _, s := range f.sessions {
		if c.Trusted || s.owner == c.Owner {
			out = append(out, s.Session)
		}
	}
	return out, f.err
}

func (f *fake) Session(_ context.Context, c hub.Caller, id string) (binnacle.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[id]
	if f.err == nil && (!ok || !c.Trusted && s.owner != c.Owner) {
		return binnacle.Session{}, binnacle.Errorf(binnacle.CodeNotFound, "There is no session.")
	}
	return s.Session, f.err
}

func (f *fake) Watched(_ context.Context, c hub.Caller, id string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.find(c, id)
	f.asked++
	return f.asked <= f.elsewhere, err
}

func (f *fake) Stop(_ context.Context, _ hub.Caller, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, id)
	return f.err
}

func (f *fake) KeepAlive(_ context.Context, _ hub.Caller, id string) (binnacle.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions[id].Session, f.err
}

func (f *fake) Logs(_ context.Context, _ hub.Caller, _ string, _ bool, w io.Writer) error {
	_, err := io.WriteString(w, "[I] Jupyter Server is running\n<script>alert(1)</script>\n")
	return err
}

// janitor cleans nothing.
type janitor struct{}

func (janitor) Usage(context.Context) (hub.Usage, error) {
	return hub.Usage{Total: 12, Parts: []hub.UsagePart{{Name: "images", Count: 1, Bytes: 12}}}, nil
}

func (janitor) Clean(_ context.Context, req hub.CleanRequest) (hub.CleanReport, error) {
	return hub.CleanReport{Freed: req.Budget}, nil
}

// parse stands in for source.Parse.
func parse(input string) (hub.Target, error) {
	if strings.HasPrefix(input, "/") {
		return hub.Target{Spec: binnacle.Spec{Provider: binnacle.Dir, Repo: input}}, nil
	}
	if rest, ok := strings.CutPrefix(input, "https://github.com/"); ok {
		parts := strings.SplitN(rest, "/", 4)
		spec := binnacle.Spec{Provider: binnacle.GitHub, Repo: parts[0] + "/" + parts[1], Ref: "HEAD"}
		if len(parts) == 4 {
			spec.Ref = parts[3]
			return hub.Target{Spec: spec, RefAndPath: strings.Contains(parts[3], "/")}, nil
		}
		return hub.Target{Spec: spec}, nil
	}
	spec, err := binnacle.ParseSpec(input)
	return hub.Target{Spec: spec}, err
}

type options struct {
	cfg  hub.Config
	deps hub.Deps
}

// start serves a hub over a fake; both handlers, each on a server of its own.
func start(t *testing.T, f *fake, change ...func(*options)) (public, trusted *httptest.Server) {
	t.Helper()
	o := options{
		cfg: hub.Config{Version: "1.2.3", CloseGrace: 20 * time.Millisecond, Secret: []byte(strings.Repeat("k", 32))},
		deps: hub.Deps{
			Service: f, Parse: parse, Janitor: janitor{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Proxy:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "proxy "+r.Host+" "+r.URL.Path) }),
			Checks: []hub.Check{{Service: "containerd", Run: func(context.Context) error { return nil }}},
		},
	}
	for _, c := range change {
		c(&o)
	}
	h, err := hub.New(t.Context(), o.cfg, o.deps)
	if err != nil {
		t.Fatal(err)
	}
	public, trusted = httptest.NewServer(h.Handler()), httptest.NewServer(h.TrustedHandler())
	t.Cleanup(func() {
		public.CloseClientConnections()
		public.Close()
		trusted.Close()
		h.Close()
	})
	return public, trusted
}

// ask sends one request; header is "Name: value".
func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	noFollow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := noFollow.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return resp, string(data)
}
