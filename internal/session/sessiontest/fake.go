// Package sessiontest checks implementations of session.Spawner with [Run], and
// offers [Fake], a spawner without containers for the tests of its users.
package sessiontest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest/jupyter"
)

// Fake is a spawner whose sessions are HTTP servers in this process, reached
// through pipes: no port, no file, so it works inside testing/synctest. The
// servers speak as much of Jupyter's API as package jupyter does.
type Fake struct {
	mu       sync.Mutex
	images   map[string]bool
	sessions map[string]*fakeSession
	fail     error
	delay    time.Duration
}

var _ session.Spawner = (*Fake)(nil)

type fakeSession struct {
	status  session.Status
	server  *jupyter.Server
	http    *http.Server
	pipes   *pipeListener
	answers chan struct{} // closed once the server answers
	exited  chan struct{} // closed with the process
	served  sync.WaitGroup
	timer   *time.Timer
	log     []byte
	logged  chan struct{} // closed and replaced when log grows
}

// NewFake makes a fake that has these images.
func NewFake(images ...string) *Fake {
	f := &Fake{images: map[string]bool{}, sessions: map[string]*fakeSession{}}
	f.AddImage(images...)
	return f
}

// AddImage makes images known.
func (f *Fake) AddImage(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		f.images[name] = true
	}
}

// FailStarts makes every Start fail with err until it is called with nil.
func (f *Fake) FailStarts(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// DelayAnswers makes the servers of later sessions answer only after d.
func (f *Fake) DelayAnswers(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// SetBusy says whether the session's kernel computes.
func (f *Fake) SetBusy(id string, busy bool) {
	if s, err := f.find(id); err == nil {
		s.server.SetBusy(busy)
	}
}

// Exit ends the session's process for a reason.
func (f *Fake) Exit(id, reason string) {
	if s, err := f.find(id); err == nil {
		f.exit(s, reason)
	}
}

// Print writes a line to the session's log.
func (f *Fake) Print(id, line string) {
	if s, err := f.find(id); err == nil {
		f.print(s, line)
	}
}

// Start implements session.Spawner.
func (f *Fake) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	if err := ctx.Err(); err != nil {
		return session.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.fail != nil:
		return session.Status{}, f.fail
	case !f.images[spec.Image]:
		return session.Status{}, binnacle.Errorf(binnacle.CodeNotFound, "The image %s is not there.", spec.Image)
	case f.sessions[spec.ID] != nil:
		return session.Status{}, binnacle.Errorf(binnacle.CodeConflict, "The session %s is there already.", spec.ID)
	}
	s := &fakeSession{
		status: session.Status{
			ID: spec.ID, State: session.Running, Image: spec.Image, BaseURL: spec.BaseURL, Token: spec.Token,
			Labels: maps.Clone(spec.Labels), Started: time.Now(),
		},
		server: jupyter.New(spec.BaseURL, spec.Token), pipes: newPipeListener(),
		answers: make(chan struct{}), exited: make(chan struct{}), logged: make(chan struct{}),
	}
	s.server.Handle("GET /x/exit", func(_ http.ResponseWriter, r *http.Request) {
		f.exit(s, "Its process ended with code "+r.FormValue("n")+".")
		panic(http.ErrAbortHandler)
	})
	s.server.Handle("GET /x/print", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		for range max(1, n) {
			f.print(s, r.FormValue("line"))
		}
	})
	s.http = &http.Server{Handler: s.server, ReadHeaderTimeout: time.Minute}
	s.log = fmt.Appendln(nil, "starting below", spec.BaseURL)
	s.served.Go(func() { _ = s.http.Serve(s.pipes) }) // ends with http.ErrServerClosed
	s.timer = time.AfterFunc(f.delay, func() { close(s.answers) })
	f.sessions[spec.ID] = s
	return copyStatus(s.status), nil
}

// Get implements session.Spawner.
func (f *Fake) Get(_ context.Context, id string) (session.Status, error) {
	s, err := f.find(id)
	if err != nil {
		return session.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return copyStatus(s.status), nil
}

// List implements session.Spawner.
func (f *Fake) List(context.Context) ([]session.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]session.Status, 0, len(f.sessions))
	for _, s := range f.sessions {
		list = append(list, copyStatus(s.status))
	}
	slices.SortFunc(list, func(a, b session.Status) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// Dial implements session.Spawner.
func (f *Fake) Dial(ctx context.Context, id string) (net.Conn, error) {
	s, err := f.find(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.exited:
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "The session has ended.")
	default:
	}
	select {
	case <-s.answers:
	case <-s.exited:
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "The session has ended.")
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the session's server: %w", ctx.Err())
	}
	conn, err := s.pipes.dial(ctx)
	if errors.Is(err, net.ErrClosed) {
		return nil, binnacle.Errorf(binnacle.CodeUnavailable, "The session has ended.")
	}
	return conn, err
}

// Logs implements session.Spawner.
func (f *Fake) Logs(ctx context.Context, id string, follow bool, w io.Writer) error {
	s, err := f.find(id)
	if err != nil {
		return err
	}
	for done := 0; ; {
		f.mu.Lock()
		part, more := slices.Clone(s.log[done:]), s.logged
		f.mu.Unlock()
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("copy the session's log: %w", err)
		}
		done += len(part)
		if !follow {
			return nil
		}
		select {
		case <-more:
		case <-s.exited:
			follow = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop implements session.Spawner.
func (f *Fake) Stop(_ context.Context, id string) error {
	s, err := f.find(id)
	if err != nil {
		return nil //nolint:nilerr // what is not there needs no stopping
	}
	f.exit(s, "It was stopped.")
	f.mu.Lock()
	delete(f.sessions, id)
	f.mu.Unlock()
	s.served.Wait()
	return nil
}

// StopAll ends every session, for the end of a test.
func (f *Fake) StopAll(ctx context.Context) {
	list, _ := f.List(ctx) // never fails
	for _, s := range list {
		_ = f.Stop(ctx, s.ID) // never fails
	}
}

func (f *Fake) find(id string) (*fakeSession, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[id]; s != nil {
		return s, nil
	}
	return nil, binnacle.Errorf(binnacle.CodeNotFound, "There is no session %s.", id)
}

func (f *Fake) exit(s *fakeSession, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.status.State == session.Exited {
		return
	}
	s.status.State, s.status.Exit = session.Exited, reason
	s.timer.Stop()
	close(s.exited)
	_ = s.http.Close() // closes the pipes too
	_ = s.pipes.Close()
}

func (f *Fake) print(s *fakeSession, line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.log = fmt.Appendln(s.log, line)
	close(s.logged)
	s.logged = make(chan struct{})
}

func copyStatus(s session.Status) session.Status {
	s.Labels = maps.Clone(s.Labels)
	return s
}

// pipeListener hands its dialers' pipes to a server.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "unix"} }
