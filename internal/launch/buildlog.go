package launch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// How much of a build's log waits to be written, and how long.
const (
	logBatch = 64 << 10
	logDelay = 100 * time.Millisecond
	logLine  = 16 << 10 // longer lines are cut
	logTail  = 64 << 10 // kept of what is beyond the limit
)

// buildLog gathers events into batches. Beyond limit bytes it keeps only the
// end, because that is where a failure is told.
type buildLog struct {
	limit int64 // 0: none
	// write writes events and calls wrote under the lock that joining takes.
	write func(ctx context.Context, events []binnacle.Event, wrote func(store.Batch))

	flushing sync.Mutex // held while a batch is on its way, to keep their order
	mu       sync.Mutex
	pending  []binnacle.Event
	size     int // of pending
	timer    *time.Timer
	batches  []store.Batch
	total    int64 // ever added
	tail     []binnacle.Event
	tailSize int
	left     int // out of the tail
}

// add adds an event; it is readable within logDelay.
func (l *buildLog) add(ctx context.Context, e binnacle.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	if len(e.Message) > logLine {
		e.Message = strings.ToValidUTF8(e.Message[:logLine], "") + "…"
	} else if !utf8.ValidString(e.Message) {
		e.Message = strings.ToValidUTF8(e.Message, "\uFFFD")
	}
	l.mu.Lock()
	full := l.put(e)
	if !full && l.timer == nil && len(l.pending) > 0 {
		ctx := context.WithoutCancel(ctx)
		l.timer = time.AfterFunc(logDelay, func() { l.flush(ctx) })
	}
	l.mu.Unlock()
	if full {
		l.flush(ctx)
	}
}

// put says whether a batch is full.
func (l *buildLog) put(e binnacle.Event) bool {
	const overhead = 100 // of an event around its message
	size := len(e.Message) + overhead
	was := l.total
	l.total += int64(size)
	if l.limit > 0 && l.total > l.limit && e.Kind == binnacle.EventLog {
		if was <= l.limit {
			l.keep(binnacle.Event{
				Time: e.Time, Kind: e.Kind, Phase: e.Phase,
				Message: fmt.Sprintf("The log is longer than %d KiB; of the rest only the end is kept, and shown when the build ends.", l.limit>>10),
			}, overhead)
		}
		l.tail = append(l.tail, e)
		for l.tailSize += size; l.tailSize > logTail; l.left++ {
			l.tailSize -= len(l.tail[0].Message) + overhead
			l.tail = l.tail[1:]
		}
		return false
	}
	l.keep(e, size)
	return l.size >= logBatch
}

func (l *buildLog) keep(e binnacle.Event, size int) {
	l.pending = append(l.pending, e)
	l.size += size
}

// flush writes what is pending.
func (l *buildLog) flush(ctx context.Context) {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	events := l.pending
	l.pending, l.size = nil, 0
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.mu.Unlock()
	if len(events) > 0 {
		l.write(ctx, events, l.wrote)
	}
}

// close writes all there is, the end of a log that was too long included.
func (l *buildLog) close(ctx context.Context) {
	l.mu.Lock()
	if l.left > 0 {
		first := l.tail[0]
		l.keep(binnacle.Event{
			Time: first.Time, Kind: first.Kind, Phase: first.Phase, Message: fmt.Sprintf("(%d lines left out)", l.left),
		}, 0)
	}
	l.pending = append(l.pending, l.tail...)
	l.tail = nil
	l.mu.Unlock()
	l.flush(ctx)
}

func (l *buildLog) wrote(b store.Batch) {
	if b.Count == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, b)
}

func (l *buildLog) written() []store.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]store.Batch(nil), l.batches...)
}
