package hub

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// flushDelay gathers the lines of a chatty build into one write; it is far
// below what a person sees.
const flushDelay = 20 * time.Millisecond

// stream writes events to a slow or fast reader: gathered, flushed in time,
// kept alive when silent, and each write bounded. Its methods are safe for
// concurrent use.
type stream struct {
	ctx context.Context
	rc  *http.ResponseController

	mu    sync.Mutex
	w     *bufio.Writer
	err   error
	dirty chan struct{}
	done  chan struct{}
	wg    sync.WaitGroup
}

// deadlineWriter gives each write a time of its own.
type deadlineWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.rc.SetWriteDeadline(time.Now().Add(d.timeout)) // a recorder in a test has none
	return d.w.Write(p)
}

// openStream sends the header and starts the flusher; the caller closes.
// idle is written whenever nothing else was for the given time.
func (h *Hub) openStream(ctx context.Context, w http.ResponseWriter, contentType, idle string, every time.Duration) *stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold the events back
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	s := &stream{
		ctx: ctx, rc: rc, w: bufio.NewWriterSize(deadlineWriter{w, rc, h.cfg.WriteTimeout}, 32<<10),
		dirty: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.flush()
	s.wg.Go(func() { s.run(idle, every) })
	return s
}

func (s *stream) run(idle string, every time.Duration) {
	keep := time.NewTimer(every)
	defer keep.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-keep.C:
			_ = s.write([]byte(idle)) // remembered in s.err
			s.flush()
		case <-s.dirty:
			select {
			case <-s.done:
				return
			case <-time.After(flushDelay):
			}
			s.flush()
		}
		keep.Reset(every)
	}
}

func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if s.err = s.w.Flush(); s.err == nil {
		_ = s.rc.Flush() // not possible only in tests' recorders
	}
}

// write returns the error of this or any write before.
func (s *stream) write(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		_, s.err = s.w.Write(p)
	}
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	return s.err
}

// close flushes what is left and gives the connection back without a deadline.
func (s *stream) close() {
	close(s.done)
	s.wg.Wait()
	s.flush()
	_ = s.rc.SetWriteDeadline(time.Time{}) // see deadlineWriter
}

// sse is one event in the form of server-sent events.
func sse(e binnacle.Event) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(data)+64)
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, "\nevent: "...)
	b = append(b, e.Kind...)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	return append(b, "\n\n"...), nil
}

// ndjson is one event on a line of its own.
func ndjson(e binnacle.Event) ([]byte, error) {
	data, err := json.Marshal(e)
	return append(data, '\n'), err
}
