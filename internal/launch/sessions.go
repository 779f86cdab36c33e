package launch

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// Load is how many builds and sessions there are, and how many sessions there
// may be; a limit of 0 is as many as the machine has memory for.
func (s *Service) Load(ctx context.Context) (builds, sessions, limit int, err error) {
	list, err := s.deps.Spawner.List(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey), len(list), s.cfg.MaxSessions, nil
}

// Rate is how many launches an address may ask for at once, how many of them are
// left, and when all will be; ok is false when there is no such limit.
func (s *Service) Rate(ctx context.Context, address string) (limit, left int, full time.Time, ok bool) {
	if s.cfg.AddressRate <= 0 {
		return 0, 0, time.Time{}, false
	}
	if s.shared() {
		left, whole, err := s.deps.Shared.Rate(ctx, network(address), s.cfg.AddressRate, s.cfg.AddressBurst)
		if err != nil {
			s.log.WarnContext(ctx, "rate of an address not read", "error", err)
		}
		return s.cfg.AddressBurst, left, time.Now().Add(whole), err == nil
	}
	tokens, full := s.rates.left(address, time.Now())
	return s.cfg.AddressBurst, int(tokens), full, true
}

// Resolved tells the exact versions in the image of a launch. Returns not_found
// for a launch that is not there or not the caller's, and conflict while there
// is no image yet.
func (s *Service) Resolved(ctx context.Context, caller Caller, id string) ([]binnacle.Resolved, error) {
	l, err := s.Get(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	if l.Image == "" {
		return nil, &binnacle.Error{Code: binnacle.CodeConflict, Op: "launch.resolved", Message: "This launch has no image yet.", Hint: "Wait until it is built."}
	}
	return s.deps.Builder.Resolved(ctx, l.Image)
}

// Get returns a launch, with its session once it is ready. Returns not_found for
// what is not there or not the caller's.
func (s *Service) Get(ctx context.Context, caller Caller, id string) (binnacle.Launch, error) {
	s.mu.Lock()
	r := s.runs[id]
	s.mu.Unlock()
	rec, err := s.find(ctx, r, id)
	if err != nil {
		return binnacle.Launch{}, err
	}
	if !caller.sees(rec) {
		return binnacle.Launch{}, noLaunch(id)
	}
	l := s.view(rec, r)
	if r == nil {
		if l.Position, err = s.place(ctx, rec); err != nil {
			return binnacle.Launch{}, err
		}
	}
	if rec.Phase != binnacle.PhaseReady || rec.SessionID == "" {
		return l, nil
	}
	st, err := s.deps.Spawner.Get(ctx, rec.SessionID)
	switch {
	case err == nil:
		if err := s.meet(ctx, st); err != nil {
			return binnacle.Launch{}, err
		}
		ss := s.viewSession(st)
		l.Session = &ss
	case binnacle.CodeOf(err) != binnacle.CodeNotFound:
		return binnacle.Launch{}, err
	}
	return l, nil
}

// List returns the caller's launches, the newest first; everybody's for a
// trusted one. Sessions are not filled in.
func (s *Service) List(ctx context.Context, caller Caller) ([]binnacle.Launch, error) {
	const most = 200
	if caller.Owner == "" && !caller.Trusted {
		return nil, nil
	}
	recs, err := s.deps.Store.Launches(ctx, caller.Owner, caller.Trusted, most)
	if err != nil {
		return nil, err
	}
	list := make([]binnacle.Launch, len(recs))
	var places map[string]int // of other replicas' launches, once one is met
	for i, rec := range recs {
		s.mu.Lock()
		r := s.runs[rec.ID]
		s.mu.Unlock()
		list[i] = s.view(rec, r)
		if r != nil || !s.shared() || rec.Phase.Final() {
			continue
		}
		if places == nil {
			if places, err = s.allPlaces(ctx); err != nil {
				return nil, err
			}
		}
		list[i].Position = places[rec.ID]
	}
	return list, nil
}

// Recovered returns once what an earlier hub left is taken over or removed, trees in
// the directory for checkouts too.
func (s *Service) Recovered(ctx context.Context) error {
	select {
	case <-s.recovered:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Cancel ends a launch that is under way, whatever it is doing; others that
// share its build go on. A launch that has ended is left as it is, its session
// too. Returns not_found for what is not the caller's.
func (s *Service) Cancel(ctx context.Context, caller Caller, id string) error {
	if err := s.Recovered(ctx); err != nil {
		return err // before, a launch of an earlier hub is not there to be canceled
	}
	s.mu.Lock()
	r := s.runs[id]
	s.mu.Unlock()
	rec, err := s.find(ctx, r, id)
	if err != nil {
		return err
	}
	if !caller.sees(rec) {
		return noLaunch(id)
	}
	switch {
	case r != nil:
		r.stop(canceledError())
	case s.shared() && !rec.Phase.Final():
		return s.deps.Shared.Cancel(ctx, id)
	}
	return nil
}

func (s *Service) view(rec store.Launch, r *run) binnacle.Launch {
	l := rec.Launch
	l.Session = nil
	if r != nil {
		r.mu.Lock()
		l.Position = r.position
		r.mu.Unlock()
	}
	return l
}

// Sessions returns the caller's sessions, everybody's for a trusted one.
func (s *Service) Sessions(ctx context.Context, caller Caller) ([]binnacle.Session, error) {
	if err := s.Recovered(ctx); err != nil {
		return nil, err // before, a session of an earlier hub is not known to be ready
	}
	all, err := s.deps.Spawner.List(ctx)
	if err != nil {
		return nil, err
	}
	var list []binnacle.Session
	for _, st := range all {
		if caller.may(st.Labels[labelOwner]) {
			if err := s.meet(ctx, st); err != nil {
				return nil, err
			}
			list = append(list, s.viewSession(st))
		}
	}
	return list, nil
}

// Session returns one of the caller's, also one that was started an instant ago
// through another replica. Returns not_found for what is not there or not theirs.
func (s *Service) Session(ctx context.Context, caller Caller, id string) (binnacle.Session, error) {
	if err := s.Recovered(ctx); err != nil {
		return binnacle.Session{}, err
	}
	st, err := s.theirs(ctx, caller, id)
	if err != nil {
		return binnacle.Session{}, err
	}
	if err := s.meet(ctx, st); err != nil {
		return binnacle.Session{}, err
	}
	return s.viewSession(st), nil
}

// theirs is the status of a session the caller may act on, or not_found.
func (s *Service) theirs(ctx context.Context, caller Caller, id string) (session.Status, error) {
	st, err := s.deps.Spawner.Get(ctx, id)
	if err != nil {
		return session.Status{}, err
	}
	if !caller.may(st.Labels[labelOwner]) {
		return session.Status{}, noSession(id)
	}
	return st, nil
}

// Stop ends a session. A launch that is still starting it fails. Returns
// not_found for what is not the caller's.
func (s *Service) Stop(ctx context.Context, caller Caller, id string) error {
	st, err := s.theirs(ctx, caller, id)
	if err != nil {
		return err
	}
	reason := "You stopped it."
	if !caller.may(st.Labels[labelOwner]) || caller.Owner != st.Labels[labelOwner] {
		reason = "The operator of this hub stopped it."
	}
	return s.end(context.WithoutCancel(ctx), st, "stopped", reason)
}

// KeepAlive begins a session's idle time anew. Returns not_found for what is
// not the caller's, unavailable for a session that has ended by itself.
func (s *Service) KeepAlive(ctx context.Context, caller Caller, id string) (binnacle.Session, error) {
	st, err := s.theirs(ctx, caller, id)
	if err != nil {
		return binnacle.Session{}, err
	}
	if st.State == session.Exited {
		return binnacle.Session{}, &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "session.keep", Message: "This session has ended. " + st.Exit, Hint: "Launch it again."}
	}
	now := time.Now().UTC()
	err = s.deps.Store.PutSession(ctx, store.Session{
		ID: id, Launch: st.Labels[labelLaunch], Owner: st.Labels[labelOwner], Repo: st.Labels[labelRepo], KeptAlive: now,
	})
	if err != nil {
		return binnacle.Session{}, err
	}
	if s.shared() {
		if err := s.deps.Shared.Touch(ctx, map[string]time.Time{id: now}); err != nil {
			return binnacle.Session{}, err
		}
	}
	s.mu.Lock()
	if l := s.live[id]; l != nil {
		l.active = now
	}
	s.mu.Unlock()
	return s.viewSession(st), nil
}

// Logs copies what a session's processes wrote; with follow until it ends.
// Returns not_found for what is not the caller's.
func (s *Service) Logs(ctx context.Context, caller Caller, id string, follow bool, w io.Writer) error {
	if _, err := s.theirs(ctx, caller, id); err != nil {
		return err
	}
	return s.deps.Spawner.Logs(ctx, id, follow, w)
}

// Gone says why a session that existed is no more, in a sentence.
func (s *Service) Gone(id string) (string, bool) { return s.gone.reason(id) }

func (s *Service) viewSession(st session.Status) binnacle.Session {
	v := binnacle.Session{
		ID: st.ID, LaunchID: st.Labels[labelLaunch], Repo: st.Labels[labelRepo], State: string(st.State), URL: st.BaseURL,
		Token: st.Token, Path: st.Labels[labelPath], Started: st.Started, Ends: ends(st),
	}
	if s.deps.SessionURL != nil {
		v.URL = s.deps.SessionURL(st.ID)
	}
	s.mu.Lock()
	l := s.live[st.ID]
	var active time.Time
	if l != nil {
		active = l.active
	}
	s.mu.Unlock()
	if l == nil {
		if st.State == session.Running {
			v.State = string(session.Starting)
		}
		return v
	}
	if s.cfg.IdleTimeout > 0 {
		v.IdleEnds = later(active, s.deps.Activity.LastActivity(st.ID)).Add(s.cfg.IdleTimeout).UTC()
	}
	return v
}

// ends is when a session reaches its greatest age; zero: never.
func ends(st session.Status) time.Time {
	t, err := time.Parse(time.RFC3339, st.Labels[labelEnds])
	if err != nil {
		return time.Time{}
	}
	return t
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// noLaunch and noSession are also for what is somebody else's.
func noLaunch(id string) error {
	return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "launch", Message: "There is no launch called " + short(id) + ".", Hint: "It may have been long ago."}
}

func noSession(id string) error {
	return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "session", Message: "There is no session called " + short(id) + ".", Hint: "It may have been stopped; binnacle ps lists yours."}
}

func short(id string) string { return binnacle.Errorf("", "%.60q", id).Message }

// goneList remembers why the last sessions ended.
type goneList struct {
	mu      sync.Mutex
	reasons map[string]string
	order   []string
}

func (g *goneList) add(id, reason string) {
	const most = 2000
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.reasons[id]; !ok {
		if len(g.order) == most {
			delete(g.reasons, g.order[0])
			g.order = g.order[1:]
		}
		g.order = append(g.order, id)
	}
	g.reasons[id] = reason
}

func (g *goneList) reason(id string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.reasons[id]
	return r, ok
}
