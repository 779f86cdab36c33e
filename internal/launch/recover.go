package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// recover finds what an earlier hub left: sessions are adopted, launches go on
// at the beginning of their phase, the rest is removed.
func (s *Service) recover(ctx context.Context) error {
	if err := s.sweep(); err != nil {
		return fmt.Errorf("remove old checkouts: %w", err)
	}
	ended, err := s.deps.Store.EndedSessions(ctx, 1000)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(ended) {
		s.gone.add(e.ID, e.Reason)
	}
	all, err := s.deps.Spawner.List(ctx)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	open, err := s.deps.Store.Unfinished(ctx)
	if err != nil {
		return err
	}
	starting := map[string]bool{}
	for _, rec := range open {
		if rec.SessionID != "" {
			starting[rec.SessionID] = true
		}
	}
	there := map[string]bool{}
	for _, st := range all {
		there[st.ID] = true
		if starting[st.ID] {
			continue // its launch takes it
		}
		if err := s.found(ctx, st); err != nil {
			return err
		}
	}
	if s.shared() {
		// What this replica was building in a life before it builds no more.
		if err := s.deps.Shared.LeaveSlots(ctx, store.QueueBuilds, s.deps.Replica, s.places[store.QueueBuilds].limits); err != nil {
			return err
		}
	} else if err := s.lost(ctx, there); err != nil { // else the leader does
		return err
	}
	for _, rec := range s.ownOnly(open) {
		if err := s.resume(ctx, rec, fmt.Sprintf("The hub was restarted; going on with %s.", rec.Phase)); err != nil {
			return fmt.Errorf("continue launch %s: %w", rec.ID, err)
		}
	}
	return nil
}

// sweep removes the trees of builds that a dead hub ran.
func (s *Service) sweep() error {
	entries, err := os.ReadDir(s.cfg.Checkouts)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.cfg.Checkouts, e.Name())))
	}
	return err
}

// found takes over a session that runs. One that no launch led to is stopped
// after a grace period, in which its owner may be told.
func (s *Service) found(ctx context.Context, st session.Status) error {
	var orphan time.Time
	rec, err := s.deps.Store.Launch(ctx, st.Labels[labelLaunch])
	switch {
	case binnacle.CodeOf(err) == binnacle.CodeNotFound:
		// Its launch may be so old that it was forgotten.
		if _, err = s.deps.Store.Session(ctx, st.ID); binnacle.CodeOf(err) == binnacle.CodeNotFound {
			orphan, err = time.Now(), nil
		}
		if err != nil {
			return err
		}
	case err != nil:
		return err
	case rec.Phase != binnacle.PhaseReady || rec.SessionID != st.ID:
		orphan = time.Now()
	}
	s.mu.Lock()
	known := s.live[st.ID] != nil
	s.mu.Unlock()
	if known || !s.adopt(st, s.sessions.running(st.Labels[labelLaunch], askerOf(st)), orphan) {
		return nil
	}
	s.log.InfoContext(ctx, "session found", "session_id", st.ID, "orphan", !orphan.IsZero(), "started", st.Started)
	return nil
}

func askerOf(st session.Status) asker { return asker{st.Labels[labelQueue], repoKeyOf(st), true} }

func repoKeyOf(st session.Status) string {
	spec, err := binnacle.ParseSpec(st.Labels[labelRepo])
	if err != nil {
		return ""
	}
	return repoKey(spec)
}

// lost notes sessions that ended while no hub ran.
func (s *Service) lost(ctx context.Context, there map[string]bool) error {
	running, err := s.deps.Store.RunningSessions(ctx)
	if err != nil {
		return err
	}
	for _, rec := range running {
		if there[rec.ID] {
			continue
		}
		rec.Ended, rec.Reason = time.Now().UTC(), "It ended while the hub was away, perhaps because the machine was restarted."
		if err := s.deps.Store.PutSession(ctx, rec); err != nil {
			return err
		}
		s.gone.add(rec.ID, rec.Reason)
	}
	return nil
}

// resume continues a launch, or reports it failed when it has seen too many
// hubs die: it may be the one that kills them.
func (s *Service) resume(ctx context.Context, rec store.Launch, note string) error {
	s.mu.Lock()
	ours := s.runs[rec.ID] != nil
	s.mu.Unlock()
	if ours {
		return nil
	}
	if s.shared() {
		taken, ok, err := s.deps.Shared.Take(ctx, rec, s.deps.Replica)
		if err != nil || !ok {
			return err
		}
		rec = taken
	}
	last, _, err := s.deps.Store.LastEvent(ctx, rec.ID)
	if err != nil {
		return err
	}
	r := newRun(rec, last+1, Caller{Owner: rec.Owner, Trusted: rec.Trusted})
	s.mu.Lock()
	if s.runs[rec.ID] != nil {
		// Asked for after the list was made: it is ours already.
		s.mu.Unlock()
		return nil
	}
	s.runs[rec.ID] = r
	s.mu.Unlock()
	e := binnacle.Event{
		Time: time.Now().UTC(), Kind: binnacle.EventLog, Phase: rec.Phase,
		Message: note,
	}
	if rec.Restarts >= s.cfg.MaxRestarts {
		e.Message = "The hub was restarted."
	}
	if _, err := s.write(ctx, []*run{r}, []binnacle.Event{e}, func(rec *store.Launch) { rec.Restarts++ }); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "launch found", "launch_id", rec.ID, "phase", rec.Phase, "restarts", rec.Restarts)
	if rec.Restarts < s.cfg.MaxRestarts {
		if err := s.enqueue(ctx, r); err != nil {
			s.forget(r)
			return err
		}
		s.own(func(ctx context.Context) { s.drive(ctx, r) })
		return nil
	}
	s.own(func(ctx context.Context) {
		if rec.SessionID != "" {
			s.discard(ctx, rec.SessionID)
		}
		_ = s.conclude(context.WithoutCancel(ctx), r, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "launch.resume",
			Message: fmt.Sprintf("The hub was restarted %d times during this launch, which was given up.", rec.Restarts+1),
			Hint:    "Launch it again; if that happens again, tell the operator of this hub.",
		})
		s.forget(r)
	})
	return nil
}
