package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// live is what is known of a session that was ready once.
type live struct {
	id   string
	slot *ticket
	// active is the last sign of use that the proxy's clock does not show: its
	// start (or the hub's), a kernel at work, a wish to keep it.
	active   time.Time
	failures int       // to ask its server, in a row
	told     time.Time // what other replicas were told of its use
	orphan   time.Time // when it was found without a launch; else zero
}

// adopt notes a session; it counts as used now, since the proxy of an earlier
// hub took its clock along. It returns false when the session was known.
func (s *Service) adopt(st session.Status, slot *ticket, orphan time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[st.ID] != nil {
		return false
	}
	s.live[st.ID] = &live{id: st.ID, slot: slot, active: time.Now(), orphan: orphan}
	return true
}

// cull looks at all sessions until ctx ends.
func (s *Service) cull(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CullInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		all, err := s.deps.Spawner.List(ctx)
		if err != nil {
			// Sessions outlive a runtime that is away; nothing is concluded.
			s.log.WarnContext(ctx, "sessions not listed", "error", err)
			continue
		}
		s.round(ctx, all)
	}
}

// round looks at the sessions once. Only the leader ends any.
func (s *Service) round(ctx context.Context, all []session.Status) {
	leads := s.leads()
	there := map[string]bool{}
	for _, st := range all {
		there[st.ID] = true
		if err := s.meet(ctx, st); err != nil {
			s.log.WarnContext(ctx, "session not looked up", "session_id", st.ID, "error", err)
		}
	}
	if s.shared() {
		if err := s.compare(ctx, all); err != nil {
			// Somebody may work through another replica.
			s.log.WarnContext(ctx, "use of sessions not shared", "error", err)
			leads = false
		}
		if leads && !s.led {
			if err := s.sweepLost(ctx); err != nil {
				s.log.WarnContext(ctx, "lost sessions not noted", "error", err)
			}
		}
		s.led = leads
		if leads {
			if err := s.settle(ctx, all); err != nil {
				s.log.WarnContext(ctx, "slots not compared with sessions", "error", err)
			}
		}
	}
	for _, st := range all {
		if !leads {
			break
		}
		if err := s.look(ctx, st); err != nil {
			s.log.WarnContext(ctx, "session not stopped", "session_id", st.ID, "error", err)
		}
	}
	s.vanished(ctx, there, leads)
}

// settle gives sessions that were found a slot, and takes those back that replicas
// left which died.
func (s *Service) settle(ctx context.Context, all []session.Status) error {
	line := s.places[store.QueueSessions]
	running := make([]store.Slot, 0, len(all))
	for _, st := range all {
		if id := st.Labels[labelLaunch]; id != "" {
			running = append(running, line.slot(id, askerOf(st), true))
		}
	}
	return s.deps.Shared.SettleSlots(ctx, running, line.limits)
}

// vanished lets go of sessions that somebody else removed.
func (s *Service) vanished(ctx context.Context, there map[string]bool, leads bool) {
	for _, id := range s.missing(there) {
		// It may have started after the list was made.
		st, err := s.deps.Spawner.Get(ctx, id)
		if binnacle.CodeOf(err) != binnacle.CodeNotFound {
			continue
		}
		if s.shared() && s.elsewhere(ctx, id) || !leads {
			continue
		}
		st.ID = id
		if err := s.end(ctx, st, "exited", "It was removed on the machine it ran on."); err != nil {
			s.log.WarnContext(ctx, "session not stopped", "session_id", id, "error", err)
		}
	}
}

// look stops a session whose time has come.
func (s *Service) look(ctx context.Context, st session.Status) error {
	s.mu.Lock()
	l := s.live[st.ID]
	var at live
	if l != nil {
		at = *l
	}
	starting := l == nil && s.expects(st.ID)
	s.mu.Unlock()
	now := time.Now()
	switch {
	case starting:
		return nil // its launch watches over it
	case l == nil && s.shared():
		return nil // another replica starts it
	case l == nil:
		s.adopt(st, nil, now)
		return nil
	case !at.orphan.IsZero():
		if now.Sub(at.orphan) < s.cfg.OrphanGrace {
			return nil
		}
		return s.end(ctx, st, "orphan", "Nobody had asked for it.")
	case st.State == session.Exited:
		return s.end(ctx, st, "exited", strings.TrimSpace("It ended by itself. "+st.Exit))
	case !ends(st).IsZero() && !now.Before(ends(st)):
		return s.end(ctx, st, "age", "It had run for "+sentence(s.cfg.MaxAge)+", the longest this hub allows.")
	case s.cfg.IdleTimeout == 0 || !s.idle(now, st.ID):
		return nil
	}
	// Nobody looked at it for long enough; is a kernel still at work?
	s.inquire(ctx, st)
	if s.idle(time.Now(), st.ID) {
		return s.end(ctx, st, "idle", "Nobody had worked in it for "+sentence(s.cfg.IdleTimeout)+".")
	}
	return nil
}

// expects says whether a launch is starting the session; s.mu is held.
func (s *Service) expects(id string) bool {
	for _, r := range s.runs {
		if r.record().SessionID == id {
			return true
		}
	}
	return false
}

func (s *Service) idle(now time.Time, id string) bool {
	used := s.deps.Activity.LastActivity(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live[id]
	return l != nil && now.Sub(later(l.active, used)) >= s.cfg.IdleTimeout
}

// inquire asks a session's server when its kernels and terminals last did
// something. One that does not answer is believed to be at work a few times:
// it may be busy.
func (s *Service) inquire(ctx context.Context, st session.Status) {
	const patience = 3
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	now := time.Now()
	var active time.Time
	failed := false
	for _, path := range []string{"api/kernels", "api/terminals"} {
		var body bytes.Buffer
		status, err := s.ask(ctx, st, path, &body)
		if err == nil && status == http.StatusNotFound {
			continue // terminals can be switched off
		}
		if err != nil || status != http.StatusOK {
			failed = true
			continue
		}
		t, err := lastWork(body.Bytes(), now)
		failed = failed || err != nil
		active = later(active, t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live[st.ID]
	if l == nil {
		return
	}
	l.active = later(l.active, active)
	if !failed {
		l.failures = 0
		return
	}
	if l.failures++; l.failures < patience {
		// One interval more, not the whole idle time.
		l.active = later(l.active, now.Add(s.cfg.CullInterval-s.cfg.IdleTimeout))
	}
}

// lastWork reads Jupyter's list of kernels or terminals. The answer is written
// by whatever runs in the session: a time in the future counts as now.
func lastWork(answer []byte, now time.Time) (time.Time, error) {
	var list []struct {
		State string    `json:"execution_state"`
		Last  time.Time `json:"last_activity"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, k := range list {
		if k.State == "busy" || k.Last.After(now) {
			return now, nil
		}
		last = later(last, k.Last)
	}
	return last, nil
}

// end stops a session and remembers why.
func (s *Service) end(ctx context.Context, st session.Status, why, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s.gone.add(st.ID, reason)
	if err := s.deps.Spawner.Stop(ctx, st.ID); err != nil {
		return err
	}
	s.deps.Activity.Forget(st.ID)
	s.mu.Lock()
	l := s.live[st.ID]
	delete(s.live, st.ID)
	s.mu.Unlock()
	if l != nil {
		s.sessions.leave(ctx, l.slot)
	}
	now := time.Now().UTC()
	rec, err := s.deps.Store.Session(ctx, st.ID)
	if err != nil {
		rec = store.Session{ID: st.ID, Launch: st.Labels[labelLaunch], Owner: st.Labels[labelOwner], Repo: st.Labels[labelRepo]}
	}
	rec.Ended, rec.Reason = now, reason
	var age time.Duration
	if !st.Started.IsZero() {
		age = now.Sub(st.Started)
	}
	s.deps.Observer.SessionDone(why, age)
	s.log.InfoContext(ctx, "session ended", "session_id", st.ID, "launch_id", rec.Launch, "reason", why, "duration", age)
	return s.deps.Store.PutSession(ctx, rec)
}

// reclaim keeps history and disk within their bounds until ctx ends.
func (s *Service) reclaim(ctx context.Context) {
	tick := time.NewTicker(s.cfg.ReclaimInterval)
	defer tick.Stop()
	retains := s.deps.Images != nil && s.cfg.KeepImages > 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.leads() {
			continue
		}
		var before time.Time
		if s.cfg.KeepFor > 0 {
			before = time.Now().Add(-s.cfg.KeepFor)
		}
		if n, err := s.deps.Store.Prune(ctx, before, s.cfg.KeepLaunches); err != nil {
			s.log.WarnContext(ctx, "old launches not removed", "error", err)
		} else if n > 0 {
			s.log.InfoContext(ctx, "old launches removed", "count", n)
		}
		retains = retains && s.retain(ctx)
		if s.deps.Disk == nil || s.cfg.DiskBudget == 0 {
			continue
		}
		used, err := s.deps.Disk.Usage(ctx)
		if err == nil && used > s.cfg.DiskBudget {
			s.log.InfoContext(ctx, "disk budget reached", "used", used, "budget", s.cfg.DiskBudget)
			err = s.deps.Disk.Prune(ctx, s.cfg.DiskBudget)
		}
		if err != nil {
			s.log.WarnContext(ctx, "disk not reclaimed", "error", err)
		}
	}
}
