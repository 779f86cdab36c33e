package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/binnacle-hub/binnacle"
)

// progress is what is known of a launch, and how it is shown: redrawn in place
// on a terminal, as plain lines elsewhere. It is not safe for concurrent use.
type progress struct {
	phases []phaseView
	steps  []stepView
	tail   []string // the last lines of log
	notes  []*binnacle.Error
	queue  int
	end    *binnacle.Event
}

type phaseView struct {
	phase binnacle.Phase
	start time.Time
	took  time.Duration // 0 while it lasts
	done  bool
}

type stepView struct {
	name   string
	took   time.Duration
	cached bool
}

const (
	tailKept  = 30 // lines of log shown when a build fails
	tailShown = 5  // lines of log shown while it runs
	stepShown = 8
)

// add takes the next event.
func (p *progress) add(e binnacle.Event) {
	switch e.Kind {
	case binnacle.EventPhase:
		p.finish(e)
		p.queue, p.tail = 0, nil
		if !e.Phase.Final() {
			p.phases = append(p.phases, phaseView{phase: e.Phase, start: e.Time})
		}
	case binnacle.EventLog:
		p.tail = append(p.tail, plainText(e.Message))
		if len(p.tail) > tailKept {
			p.tail = p.tail[1:]
		}
	case binnacle.EventStep:
		p.steps = append(p.steps, stepView{name: e.Step, took: time.Duration(e.Millis) * time.Millisecond, cached: e.Cached})
	case binnacle.EventQueue:
		p.queue = e.Position
	case binnacle.EventNote:
		if e.Error != nil {
			p.notes = append(p.notes, e.Error)
		}
	case binnacle.EventEnd:
		p.finish(e)
		p.end = &e
	}
}

// finish closes the phase that ran until e.
func (p *progress) finish(e binnacle.Event) {
	if n := len(p.phases) - 1; n >= 0 && !p.phases[n].done {
		p.phases[n].done = true
		p.phases[n].took = time.Duration(e.Millis) * time.Millisecond
		if e.Millis == 0 && e.Time.After(p.phases[n].start) {
			p.phases[n].took = e.Time.Sub(p.phases[n].start)
		}
	}
}

// lines draws what a terminal shows at a moment.
func (p *progress) lines(now time.Time, width int) []string {
	var out []string
	for i, ph := range p.phases {
		mark, took := "✓", ph.took
		if !ph.done {
			mark, took = spinner(now), now.Sub(ph.start)
		} else if p.failed() && i == len(p.phases)-1 {
			mark = "✗"
		}
		out = append(out, fmt.Sprintf("%s %s %8s", mark, pad(phaseText(ph.phase, p.queue), columns(34, width)), seconds(took)))
		if ph.phase == binnacle.PhaseBuilding {
			out = append(out, p.stepLines(!ph.done, width)...)
		}
	}
	for _, n := range p.notes {
		out = append(out, "! "+noteText(n))
	}
	for i := range out {
		out[i] = cut(out[i], width)
	}
	return out
}

func (p *progress) stepLines(running bool, width int) []string {
	var out []string
	steps := p.steps
	if hidden := len(steps) - stepShown; running && hidden > 0 {
		out = append(out, fmt.Sprintf("    … %d earlier steps", hidden))
		steps = steps[hidden:]
	}
	for _, s := range steps {
		took := seconds(s.took)
		if s.cached {
			took = "cached"
		}
		out = append(out, fmt.Sprintf("    ✓ %s %8s", pad(plainText(s.name), columns(30, width-4)), took))
	}
	if running {
		for _, line := range p.tail[max(0, len(p.tail)-tailShown):] {
			out = append(out, "      "+line)
		}
	}
	return out
}

// columns is how wide a name may be so that its time is still seen.
func columns(most, width int) int {
	const mark, took = 2, 10
	if width <= 0 {
		return most
	}
	return max(1, min(most, width-mark-took))
}

func (p *progress) failed() bool { return p.end != nil && p.end.Phase != binnacle.PhaseReady }

// plain writes an event as lines that can be read in a file.
func (p *progress) plain(w io.Writer, e binnacle.Event) {
	switch e.Kind {
	case binnacle.EventPhase:
		if !e.Phase.Final() {
			fmt.Fprintf(w, "==> %s\n", phaseText(e.Phase, 0))
		}
	case binnacle.EventLog:
		fmt.Fprintf(w, "    %s\n", plainText(e.Message))
	case binnacle.EventStep:
		took := seconds(time.Duration(e.Millis) * time.Millisecond)
		if e.Cached {
			took = "cached"
		}
		fmt.Fprintf(w, "  - %s: %s\n", plainText(e.Step), took)
	case binnacle.EventQueue:
		fmt.Fprintf(w, "    place %d in the queue\n", e.Position)
	case binnacle.EventNote:
		if e.Error != nil {
			fmt.Fprintf(w, "  ! %s\n", noteText(e.Error))
		}
	case binnacle.EventEnd:
		for _, ph := range p.phases {
			fmt.Fprintf(w, "    %s %s\n", pad(phaseText(ph.phase, 0), 30), seconds(ph.took))
		}
	}
}

func noteText(e *binnacle.Error) string {
	s := e.Message
	if e.File != "" {
		s = fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	if e.Hint != "" {
		s += " " + e.Hint
	}
	return plainText(s)
}

func phaseText(p binnacle.Phase, queue int) string {
	switch p {
	case binnacle.PhaseWaiting:
		if queue > 0 {
			return fmt.Sprintf("Waiting, place %d in the queue", queue)
		}
		return "Waiting"
	case binnacle.PhaseResolving:
		return "Finding the commit"
	case binnacle.PhaseFetching:
		return "Fetching the files"
	case binnacle.PhaseBuilding:
		return "Building"
	case binnacle.PhaseLaunching:
		return "Starting the server"
	default:
		return string(p)
	}
}

func spinner(now time.Time) string {
	frames := []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	return frames[now.UnixMilli()/100%int64(len(frames))]
}

func seconds(d time.Duration) string {
	if d >= time.Minute {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%.1fs", max(d, 0).Seconds())
}

// pad fills or cuts to a number of columns; wide characters are not known here.
func pad(s string, width int) string {
	n := utf8.RuneCountInString(s)
	if n > width {
		return cut(s, width)
	}
	return s + strings.Repeat(" ", width-n)
}

func cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// plainText is untrusted text on one line, without colours and control
// characters. What a carriage return overwrites is dropped, as a terminal does.
func plainText(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	return clean(strings.NewReplacer("\t", "    ", "\n", " ").Replace(dropEscapes(s)))
}

// dropEscapes removes the terminal sequences that begin with ESC.
func dropEscapes(s string) string {
	const esc = '\x1b'
	if !strings.ContainsRune(s, esc) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != esc {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i < len(s) && s[i] == '[' { // ends with a letter or so
			for i++; i < len(s) && (s[i] < 0x40 || s[i] > 0x7e); i++ {
			}
		} else if i < len(s) && s[i] == ']' { // ends with BEL or ESC \
			for i++; i < len(s) && s[i] != '\a' && s[i] != esc; i++ {
			}
			if i+1 < len(s) && s[i] == esc {
				i++
			}
		}
	}
	return b.String()
}
