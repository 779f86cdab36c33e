package hub

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// settle is how long a log that is asked for without follow waits for one more
// line: the service has no mark where the past ends.
const settle = 250 * time.Millisecond

var errSettled = errors.New("no further line for now")

// launchEvents streams a launch's events from a point on, to its end.
func (h *Hub) launchEvents(w http.ResponseWriter, r *http.Request) error {
	after, err := resumeAt(r)
	if err != nil {
		return err
	}
	c, l, err := h.launchOf(w, r)
	if err != nil {
		return err
	}
	defer h.watch.join(l.ID)()
	// An event and no comment: scripts don't see comments, and ours notices silence.
	contentType, encode, idle := typeSSE, sse, "event: keep-alive\ndata: {}\n\n"
	if wantsNDJSON(r) {
		contentType, encode, idle = typeNDJSON, ndjson, "\n"
	}
	var s *stream
	open := func() {
		if s == nil {
			s = h.openStream(r.Context(), w, contentType, idle, h.cfg.KeepAlive)
		}
	}
	if !l.Phase.Final() {
		open() // the reader shall know at once that it is connected
	}
	err = h.deps.Service.Events(r.Context(), c, l.ID, after, func(e binnacle.Event) error {
		open()
		b, err := encode(e)
		if err != nil {
			return err
		}
		return s.write(b)
	})
	if s == nil {
		if err == nil {
			w.WriteHeader(http.StatusNoContent) // tells an EventSource not to come back
		}
		return err
	}
	defer s.close()
	if err != nil && r.Context().Err() == nil {
		h.tell(s, r, encode, l, err)
	}
	return nil
}

// tell writes why a stream ends early, as an event without a number: the
// reader's place in the log stays where it is and it may come back.
func (h *Hub) tell(s *stream, r *http.Request, encode func(binnacle.Event) ([]byte, error), l binnacle.Launch, cause error) {
	e := h.report(r, "/api/launches/{id}/events", cause)
	b, err := encode(binnacle.Event{Time: time.Now(), Kind: KindProblem, Phase: l.Phase, Error: e})
	if err == nil {
		_ = s.write(b) // the reader may have been the problem
	}
}

// KindProblem is the event that ends a stream which broke: the launch goes on,
// watching it failed. It has no number.
const KindProblem binnacle.EventKind = "problem"

func resumeAt(r *http.Request) (int64, error) {
	at := r.Header.Get("Last-Event-ID")
	if at == "" {
		at = r.URL.Query().Get("after")
	}
	if at == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n < 0 {
		return 0, &binnacle.Error{Code: binnacle.CodeInvalid, Message: "Events are numbered from 1; " + strconv.Quote(clip(at, 40)) + " is no such number."}
	}
	return n, nil
}

// launchLog is the log of a launch as plain text.
func (h *Hub) launchLog(w http.ResponseWriter, r *http.Request) error {
	c, l, err := h.launchOf(w, r)
	if err != nil {
		return err
	}
	follow := l.Phase.Final() || isTrue(r.URL.Query().Get("follow"))
	w.Header().Set("Content-Disposition", `inline; filename="binnacle-`+l.ID+`.log"`)
	return h.plain(w, r, func(ctx context.Context, out io.Writer) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		quiet := time.AfterFunc(settle, func() {
			if !follow {
				cancel(errSettled)
			}
		})
		defer quiet.Stop()
		err := h.deps.Service.Events(ctx, c, l.ID, 0, func(e binnacle.Event) error {
			quiet.Reset(settle)
			return writeLine(out, e)
		})
		if context.Cause(ctx) == errSettled { //nolint:errorlint // it is the very value set above
			return nil
		}
		return err
	})
}

func writeLine(out io.Writer, e binnacle.Event) error {
	var line string
	switch {
	case e.Kind == binnacle.EventLog:
		line = e.Message
	case e.Error != nil:
		line = oneParagraph(e.Error)
	case e.Kind == binnacle.EventPhase:
		line = "== " + string(e.Phase)
	default:
		return nil
	}
	_, err := io.WriteString(out, line+"\n")
	return err
}

// inLines writes an error for those who print what they get: what happened and
// where, below it what the tool said, and last what to do.
func inLines(e *binnacle.Error) string {
	if len(e.Excerpt) == 0 {
		return oneParagraph(e) + "\n"
	}
	what := *e
	what.Hint = ""
	lines := []string{oneParagraph(&what)}
	for _, line := range e.Excerpt {
		lines = append(lines, "    "+line)
	}
	if e.Hint != "" {
		lines = append(lines, e.Hint)
	}
	return strings.Join(lines, "\n") + "\n"
}

// oneParagraph writes an error with its place and what to do.
func oneParagraph(e *binnacle.Error) string {
	s := e.Message
	if e.File != "" {
		s += " (" + e.File
		if e.Line > 0 {
			s += ", line " + strconv.Itoa(e.Line)
		}
		s += ")"
	}
	if e.Hint != "" {
		s += " " + e.Hint
	}
	return s
}

// plain streams text. It is never read as anything else: a log is whatever a
// repository chose to print.
func (h *Hub) plain(w http.ResponseWriter, r *http.Request, copyTo func(ctx context.Context, out io.Writer) error) error {
	out := &plainWriter{open: func() *stream {
		return h.openStream(r.Context(), w, "text/plain; charset=utf-8", "", h.cfg.KeepAlive)
	}}
	err := copyTo(r.Context(), out)
	if out.s == nil && err != nil {
		return err // nothing is sent yet: a proper answer is possible
	}
	if out.s == nil {
		out.s = out.open()
	}
	if err != nil && r.Context().Err() == nil {
		_, _ = io.WriteString(out, "\n[the log breaks off here: "+h.report(r, "log", err).Message+"]\n")
	}
	out.s.close()
	return nil
}

// plainWriter opens the stream with the first byte.
type plainWriter struct {
	open func() *stream
	s    *stream
}

func (p *plainWriter) Write(b []byte) (int, error) {
	if p.s == nil {
		p.s = p.open()
	}
	if err := p.s.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}
