package launch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// The labels of a session hold what a hub that lost its database must know.
const (
	labelOwner    = "binnacle.owner"
	labelLaunch   = "binnacle.launch"
	labelRepo     = "binnacle.repo"
	labelProvider = "binnacle.provider"
	labelRevision = "binnacle.revision"
	labelPath     = "binnacle.path"
	labelQueue    = "binnacle.queue" // whose turn it took
	labelEnds     = "binnacle.ends"
)

// startSession starts the session noted in the record, or takes the one an
// earlier hub started, and waits until its server answers.
func (s *Service) startSession(ctx context.Context, r *run) (err error) {
	select {
	case s.starts <- struct{}{}:
		defer func() { <-s.starts }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, &binnacle.Error{
		Code: binnacle.CodeTimeout, Op: "session.ready", Message: "The session's server did not answer within " + sentence(s.cfg.StartTimeout) + ".",
		Hint: "If the repository has a start script, check that it ends with exec \"$@\". Else try again.",
	})
	defer cancel()
	rec := r.record()
	id := rec.SessionID
	defer func() {
		if err == nil || errors.Is(context.Cause(ctx), errStopping) || errors.Is(context.Cause(ctx), errTaken) {
			return
		}
		// A runtime that knows what it waited for in vain has said so.
		said, ok := errors.AsType[*binnacle.Error](err)
		if ctx.Err() != nil && (!ok || said.Code != binnacle.CodeTimeout) {
			err = context.Cause(ctx)
		}
		s.lastWords(context.WithoutCancel(ctx), r, id)
		s.discard(context.WithoutCancel(ctx), id)
	}()
	var st session.Status
	there := false
	if rec.Restarts > 0 { // else nobody can have started it
		if st, there, err = s.inherit(ctx, id); err != nil {
			return err
		}
	}
	if !there {
		spec := s.sessionSpec(rec)
		spec.Waiting = func(why string) {
			if err := s.say(ctx, r, binnacle.Event{Kind: binnacle.EventLog, Message: why}); err != nil {
				s.log.WarnContext(ctx, "what a session waits for is not noted", "launch_id", r.id, "error", err)
			}
		}
		st, err = s.spawn(ctx, spec)
		if binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return noImage(rec, err)
		}
		if err != nil {
			return err
		}
		if err := s.ready(ctx, st); err != nil {
			return err
		}
	}
	if err := s.deps.Store.PutSession(ctx, store.Session{ID: id, Launch: r.id, Owner: rec.Owner, Repo: rec.Spec.String()}); err != nil {
		return err
	}
	r.mu.Lock()
	slot := r.slot
	r.mu.Unlock()
	s.adopt(st, slot, time.Time{})
	return nil
}

// inherit waits until the session answers that an earlier hub or another replica started,
// and says whether there is one. One that ended is removed: who is told to stop while it
// starts a session takes that away again, and may do so while it is waited for here.
func (s *Service) inherit(ctx context.Context, id string) (_ session.Status, there bool, err error) {
	st, err := s.deps.Spawner.Get(ctx, id)
	if err == nil && st.State != session.Exited {
		if err = s.ready(ctx, st); err == nil || ctx.Err() != nil {
			return st, err == nil, err
		}
		failed := err
		if st, err = s.deps.Spawner.Get(ctx, id); err == nil && st.State != session.Exited {
			return st, true, failed
		}
	}
	if err != nil && binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return session.Status{}, false, err
	}
	if err == nil {
		s.log.InfoContext(ctx, "the session that was starting has ended, another is started", "session_id", id, "exit", st.Exit)
	}
	return session.Status{}, false, s.deps.Spawner.Stop(ctx, id) // also what a runtime remembers of it
}

func (s *Service) sessionSpec(rec store.Launch) session.Spec {
	env := map[string]string{
		"BINDER_REQUEST":            "v2/" + rec.Spec.String(),
		"BINDER_PERSISTENT_REQUEST": "v2/" + rec.Revision.Fixed().String(),
		"BINDER_REPO_URL":           rec.Revision.URL,
		"BINDER_REF_URL":            rec.Revision.WebURL,
	}
	maps.Copy(env, rec.Request.Env)
	limits := rec.Request.Limits
	if rec.Trusted {
		limits = within(limits, s.cfg.Limits, limits)
	} else {
		limits = within(limits, s.cfg.Limits, s.cfg.MaxLimits)
	}
	labels := map[string]string{
		labelOwner: rec.Owner, labelLaunch: rec.ID, labelRepo: rec.Spec.String(), labelProvider: string(rec.Spec.Provider),
		labelRevision: rec.Revision.Commit, labelPath: rec.Path, labelQueue: Caller{Owner: rec.Owner, Trusted: rec.Trusted}.key(),
	}
	if rec.Request.Class != "" {
		labels[session.LabelClass] = rec.Request.Class
	}
	if s.cfg.MaxAge > 0 {
		labels[labelEnds] = time.Now().Add(s.cfg.MaxAge).UTC().Format(time.RFC3339)
	}
	token := make([]byte, 18)
	_, _ = rand.Read(token) // never fails
	spec := session.Spec{
		ID: rec.SessionID, Image: rec.Image, BaseURL: "/user/" + rec.SessionID + "/", Token: base64.RawURLEncoding.EncodeToString(token),
		Env: env, Limits: limits, AllowOrigin: s.cfg.AllowOrigin, Labels: labels,
	}
	if rec.Request.Editable {
		spec.Mount = rec.Revision.URL
	}
	return spec
}

// spawn starts the session; a runtime that is away for a moment is asked again.
func (s *Service) spawn(ctx context.Context, spec session.Spec) (session.Status, error) {
	const tries = 4
	for i := 1; ; i++ {
		st, err := s.deps.Spawner.Start(ctx, spec)
		if err == nil || i == tries || binnacle.CodeOf(err) != binnacle.CodeUnavailable {
			return st, err
		}
		s.log.WarnContext(ctx, "session start is tried again", "session_id", spec.ID, "error", err)
		if err := pause(ctx, time.Duration(i)*time.Second); err != nil {
			return session.Status{}, err
		}
	}
}

// ready returns once the server answers for its token. Dial waits for a server
// that is not there yet, so that nothing is polled; only a connection that the
// server dropped while it came up is made anew, a little later each time.
func (s *Service) ready(ctx context.Context, st session.Status) error {
	const first, most = 5 * time.Millisecond, 500 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		status, err := s.ask(ctx, st, "api/status", nil)
		switch {
		case err == nil && status == http.StatusOK:
			return nil
		case err == nil && status < http.StatusInternalServerError:
			return &binnacle.Error{
				Code: binnacle.CodeBuildFailed, Op: "session.ready",
				Message: "What the session runs is not a Jupyter server that Binnacle can use (it answered " + strconv.Itoa(status) + ").",
				Hint:    "Check the start script, jupyter_server_config files, and a Dockerfile's ENTRYPOINT and CMD.",
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && binnacle.CodeOf(err) == binnacle.CodeUnavailable, binnacle.CodeOf(err) == binnacle.CodeNotFound:
			return s.early(ctx, st.ID, err)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// early says why a session ended before it was ready.
func (s *Service) early(ctx context.Context, id string, err error) error {
	st, gerr := s.deps.Spawner.Get(ctx, id)
	if gerr != nil || st.State != session.Exited {
		return err
	}
	return &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Op: "session.ready", Message: strings.TrimSpace("The session ended while it was starting. " + st.Exit),
		Hint: "The last lines of the log are what it said. Check the start script if there is one.", Err: err,
	}
}

// ask sends one request to a session's server and returns the status; a body
// is read into answer when that is not nil, 1 MiB of it at most.
func (s *Service) ask(ctx context.Context, st session.Status, path string, answer *bytes.Buffer) (int, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.deps.Spawner.Dial(ctx, st.ID)
		},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+st.BaseURL+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "token "+st.Token)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if answer != nil {
		if _, err := answer.ReadFrom(io.LimitReader(resp.Body, 1<<20)); err != nil {
			return 0, err
		}
	}
	return resp.StatusCode, nil
}

// lastWords copies the end of a failed session's log into its launch's.
func (s *Service) lastWords(ctx context.Context, r *run, id string) {
	const most = 50
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var w tailWriter
	if err := s.deps.Spawner.Logs(ctx, id, false, &w); err != nil {
		return // it never ran
	}
	lines := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(w.b), "\uFFFD"), "\n"), "\n")
	lines = lines[max(0, len(lines)-most):]
	var events []binnacle.Event
	for _, line := range lines {
		if line != "" {
			events = append(events, binnacle.Event{Time: time.Now().UTC(), Kind: binnacle.EventLog, Phase: binnacle.PhaseLaunching, Message: strings.TrimRight(line, "\r")})
		}
	}
	if len(events) == 0 {
		return
	}
	if _, err := s.write(ctx, []*run{r}, events, nil); err != nil {
		s.log.WarnContext(ctx, "session log not written", "session_id", id, "error", err)
	}
}

// tailWriter keeps the last 32 KiB.
type tailWriter struct{ b []byte }

func (w *tailWriter) Write(p []byte) (int, error) {
	const most = 32 << 10
	w.b = append(w.b, p...)
	if len(w.b) > 2*most {
		w.b = append([]byte(nil), w.b[len(w.b)-most:]...)
	}
	return len(p), nil
}

// discard stops a session that never became one.
func (s *Service) discard(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.deps.Spawner.Stop(ctx, id); err != nil {
		s.log.ErrorContext(ctx, "failed session not removed", "session_id", id, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", context.Cause(ctx))
	}
}
