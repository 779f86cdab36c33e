package launch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/launch"
	"github.com/binnacle-hub/binnacle/internal/recipe"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/source"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// repos is a Source whose repositories are one file; a ref stands for the
// commit of the repository's name and itself.
type repos struct {
	mu       sync.Mutex
	resolves int
	fetches  int
	// onResolve and onFetch, when set, are waited for.
	onResolve, onFetch func(ctx context.Context) error
}

func (s *repos) ResolveTarget(ctx context.Context, t source.Target, _ source.Policy) (binnacle.Revision, string, error) {
	s.mu.Lock()
	s.resolves++
	f := s.onResolve
	s.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return binnacle.Revision{}, "", err
		}
	}
	if t.Spec.Ref == "missing" {
		return binnacle.Revision{}, "", binnacle.Errorf(binnacle.CodeNotFound, "There is no ref called missing.")
	}
	gone := ""
	if t.Spec.Ref == "master" {
		gone, t.Spec.Ref = t.Spec.Ref, "main"
	}
	return binnacle.Revision{Spec: t.Spec, URL: "https://git.example.org/" + t.Spec.Repo, Commit: "c0ffee-" + t.Spec.Ref, Gone: gone}, t.Path, nil
}

func (s *repos) Fetch(ctx context.Context, rev binnacle.Revision, _ source.Policy, dir string, out func(string)) error {
	s.mu.Lock()
	s.fetches++
	f := s.onFetch
	s.mu.Unlock()
	out("Fetching " + rev.Commit)
	if f != nil {
		if err := f(ctx); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "README"), []byte(rev.Spec.Repo), 0o600)
}

// builder builds by closure and remembers its images.
type builder struct {
	mu     sync.Mutex
	images map[string]bool // by name
	builds int
	build  func(ctx context.Context, req image.Request, event func(binnacle.Event)) error
}

func name(rev binnacle.Revision, r recipe.Recipe) string { return "img/" + rev.Commit + r.Asked }

func (b *builder) Resolved(_ context.Context, name string) ([]binnacle.Resolved, error) {
	return []binnacle.Resolved{{Name: "apt.txt", Content: name + "\n"}}, nil
}

func (b *builder) Find(_ context.Context, rev binnacle.Revision, asked string) (image.Image, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := name(rev, recipe.Recipe{Asked: asked})
	return image.Image{Name: n}, b.images[n], nil
}

func (b *builder) Build(ctx context.Context, req image.Request, event func(binnacle.Event)) (image.Image, error) {
	b.mu.Lock()
	b.builds++
	f := b.build
	b.mu.Unlock()
	event(binnacle.Event{Kind: binnacle.EventLog, Message: "building " + req.Name})
	if f != nil {
		if err := f(ctx, req, event); err != nil {
			return image.Image{}, err
		}
	}
	event(binnacle.Event{Kind: binnacle.EventStep, Step: "pip", Millis: 5})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[req.Name] = true
	return image.Image{Name: req.Name, Environment: "env"}, nil
}

func (b *builder) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.builds
}

// spawner runs sessions as HTTP handlers behind pipes, which synctest can wait
// for as it cannot for sockets.
type spawner struct {
	mu       sync.Mutex
	sessions map[string]*served
	starts   int
	stops    []string
	onStart  func(ctx context.Context) error
	// silent sessions never answer; broken ones exit.
	silent, broken bool
	away           bool
	kernels        string // the answer to /api/kernels
	asked          int    // for it
}

type served struct {
	st      session.Status
	srv     *http.Server
	ln      *pipes
	changed chan struct{} // closed when it ended
}

func (s *spawner) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	s.mu.Lock()
	f := s.onStart
	s.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return session.Status{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[spec.ID] != nil {
		return session.Status{}, binnacle.Errorf(binnacle.CodeConflict, "There is one.")
	}
	s.starts++
	v := &served{ln: newPipes(), changed: make(chan struct{}), st: session.Status{
		ID: spec.ID, State: session.Running, Image: spec.Image, BaseURL: spec.BaseURL, Token: spec.Token, Labels: spec.Labels, Started: time.Now(),
	}}
	mux := http.NewServeMux()
	for path, answer := range map[string]func() string{
		"status": func() string { return "{}" }, "terminals": func() string { return "[]" },
		"kernels": func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked++
			return s.kernels
		},
	} {
		mux.HandleFunc("GET "+spec.BaseURL+"api/"+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "token "+spec.Token {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			_, _ = io.WriteString(w, answer())
		})
	}
	v.srv = &http.Server{Handler: mux}
	if s.broken {
		v.st.State, v.st.Exit = session.Exited, "Its start script ended with status 3."
		close(v.changed)
	} else if !s.silent {
		go func() { _ = v.srv.Serve(v.ln) }()
	}
	s.sessions[spec.ID] = v
	return v.st, nil
}

func (s *spawner) get(id string) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sessions[id]
	if v == nil {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "There is no session called %s.", id)
	}
	return v, nil
}

func (s *spawner) Get(_ context.Context, id string) (session.Status, error) {
	v, err := s.get(id)
	if err != nil {
		return session.Status{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.st, nil
}

func (s *spawner) List(context.Context) ([]session.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "The runtime is away.")
	}
	var list []session.Status
	for _, v := range s.sessions {
		list = append(list, v.st)
	}
	slices.SortFunc(list, func(a, b session.Status) int { return a.Started.Compare(b.Started) })
	return list, nil
}

func (s *spawner) Dial(ctx context.Context, id string) (net.Conn, error) {
	v, err := s.get(id)
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	select {
	case <-v.changed:
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "It has ended.")
	case <-ctx.Done():
		return nil, ctx.Err()
	case v.ln.conns <- b:
		return a, nil
	}
}

func (s *spawner) Logs(_ context.Context, id string, _ bool, w io.Writer) error {
	if _, err := s.get(id); err != nil {
		return err
	}
	_, err := io.WriteString(w, "jupyter says\nline two\n")
	return err
}

func (s *spawner) Stop(_ context.Context, id string) error {
	s.mu.Lock()
	v := s.sessions[id]
	delete(s.sessions, id)
	s.stops = append(s.stops, id)
	s.mu.Unlock()
	if v != nil {
		_ = v.srv.Close()
		_ = v.ln.Close()
		s.finish(v)
	}
	return nil
}

func (s *spawner) finish(v *served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.st.State == session.Running {
		v.st.State, v.st.Exit = session.Exited, "It used too much memory."
		close(v.changed)
	}
}

func (s *spawner) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// pipes is a listener of pipes.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// clock is an Activity set by hand.
type clock struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (c *clock) LastActivity(id string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[id]
}

func (c *clock) Forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, id)
}

func (c *clock) touch(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[id] = time.Now()
}

// bench is a hub's worth of parts that outlives a Service.
type bench struct {
	t      testing.TB
	cfg    launch.Config
	src    *repos
	bld    *builder
	spw    *spawner
	clk    *clock
	st     *store.Store
	notes  []recipe.Note
	other  session.Spawner // instead of spw
	store  launch.Store    // instead of st
	images launch.Images
	// What a replica of several has.
	replica string
	shared  launch.Shared
	leader  launch.Leader
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(context.Background(), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		t: t, cfg: launch.DefaultConfig(), src: &repos{}, bld: &builder{images: map[string]bool{}},
		spw: &spawner{sessions: map[string]*served{}, kernels: "[]"}, clk: &clock{last: map[string]time.Time{}}, st: st,
	}
	b.cfg.Checkouts = filepath.Join(dir, "checkouts")
	b.cfg.MaxSessions = 1000
	b.cfg.PerOwner, b.cfg.PerRepository = 0, 0
	b.cfg.AddressRate = 0
	return b
}

// close stops what the parts run; synctest wants no goroutine left.
func (b *bench) close() {
	b.spw.mu.Lock() // other replicas may still stop sessions
	ids := slices.Collect(maps.Keys(b.spw.sessions))
	b.spw.mu.Unlock()
	for _, id := range ids {
		_ = b.spw.Stop(context.Background(), id)
	}
	if err := b.st.Close(); err != nil {
		b.t.Error(err)
	}
}

// serve runs a new Service on the parts; stop ends it.
func (b *bench) serve() (svc *launch.Service, stop func()) {
	b.t.Helper()
	level := slog.LevelWarn
	if _, ok := b.t.(*testing.B); ok {
		level = slog.LevelError
	}
	var spw session.Spawner = b.spw
	if b.other != nil {
		spw = b.other
	}
	var st launch.Store = b.st
	if b.store != nil {
		st = b.store
	}
	svc, err := launch.New(b.cfg, launch.Deps{
		Source: b.src, Builder: b.bld, Spawner: spw, Activity: b.clk, Store: st, ImageName: name,
		Replica: b.replica, Shared: b.shared, Leader: b.leader, Images: b.images,
		Recipe: func(_ fs.FS, _ time.Time, asked string) (recipe.Recipe, error) {
			return recipe.Recipe{Notes: b.notes, Asked: asked}, nil
		},
		SessionURL: func(id string) string { return "https://hub.example.org/user/" + id + "/" },
		Log:        slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	return svc, func() {
		b.t.Helper()
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

var ann = launch.Caller{Owner: "ann", Address: "192.0.2.1"}

func ask(ref string) binnacle.LaunchRequest {
	return binnacle.LaunchRequest{Repo: "gh/o/r/" + ref}
}

func begin(t testing.TB, svc *launch.Service, c launch.Caller, req binnacle.LaunchRequest) string {
	t.Helper()
	l, err := svc.Launch(context.Background(), c, req)
	if err != nil {
		t.Fatal(err)
	}
	return l.ID
}

// follow reads all events and checks their numbers.
func follow(t testing.TB, svc *launch.Service, id string, after int64) []binnacle.Event {
	t.Helper()
	var events []binnacle.Event
	err := svc.Events(context.Background(), launch.Caller{Trusted: true}, id, after, func(e binnacle.Event) error {
		if e.ID != after+1 {
			return fmt.Errorf("event %d follows %d", e.ID, after)
		}
		after = e.ID
		events = append(events, e)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return events
}

// end is a launch's last event.
func end(t testing.TB, svc *launch.Service, id string) binnacle.Event {
	t.Helper()
	events := follow(t, svc, id, 0)
	if len(events) == 0 {
		t.Fatal("there are no events")
	}
	return events[len(events)-1]
}

// brief writes events as a reader would tell them.
func brief(events []binnacle.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s", e.Kind, e.Phase)
		switch e.Kind {
		case binnacle.EventLog, binnacle.EventNote:
			b.WriteString(" " + e.Message)
		case binnacle.EventStep:
			b.WriteString(" " + e.Step)
		case binnacle.EventQueue:
			fmt.Fprintf(&b, " %d", e.Position)
		}
		if e.Error != nil {
			fmt.Fprintf(&b, " [%s %s:%d]", e.Error.Code, e.Error.File, e.Error.Line)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func readyIDs(t testing.TB, svc *launch.Service, c launch.Caller) []string {
	t.Helper()
	list, err := svc.Sessions(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
