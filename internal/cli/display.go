package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// display shows a launch while it goes on.
type display interface {
	event(e binnacle.Event) error
	// close draws for the last time; the log of a failed build is shown.
	close()
}

// newDisplay takes the display that fits where the output goes. The live one
// redraws until ctx ends or it is closed.
func (a *app) newDisplay(ctx context.Context, asJSON bool) display {
	switch {
	case asJSON:
		return &jsonDisplay{enc: json.NewEncoder(a.Out)}
	case a.Terminal:
		d := &liveDisplay{w: a.Err, width: a.Width, now: time.Now}
		ctx, d.stop = context.WithCancel(ctx)
		d.done.Go(func() { d.run(ctx) })
		return d
	default:
		return &plainDisplay{w: a.Err}
	}
}

// jsonDisplay writes one event per line.
type jsonDisplay struct{ enc *json.Encoder }

func (d *jsonDisplay) event(e binnacle.Event) error { return d.enc.Encode(e) }
func (d *jsonDisplay) close()                       {}

// plainDisplay writes lines.
type plainDisplay struct {
	w io.Writer
	p progress
}

func (d *plainDisplay) event(e binnacle.Event) error {
	d.p.add(e)
	d.p.plain(d.w, e)
	return nil
}

func (d *plainDisplay) close() {}

// liveDisplay redraws a few lines in place.
type liveDisplay struct {
	w     io.Writer
	width func() int
	now   func() time.Time
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu    sync.Mutex
	p     progress
	drawn int // lines on the screen that are ours
}

const redraw = 100 * time.Millisecond

func (d *liveDisplay) run(ctx context.Context) {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.draw()
		}
	}
}

func (d *liveDisplay) event(e binnacle.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p.add(e)
	return nil
}

func (d *liveDisplay) draw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.p.lines(d.now(), d.width())
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	b.WriteString("\r\x1b[J")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	d.drawn = len(lines)
	_, _ = io.WriteString(d.w, b.String()) // a terminal that is gone can't be told
}

func (d *liveDisplay) close() {
	d.stop()
	d.done.Wait()
	d.draw()
	if d.p.failed() && d.p.end.Phase == binnacle.PhaseFailed && len(d.p.tail) > 0 {
		fmt.Fprintln(d.w)
		for _, line := range d.p.tail {
			fmt.Fprintln(d.w, "    "+line)
		}
	}
}
