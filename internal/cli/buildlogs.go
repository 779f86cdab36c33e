package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/config"
	"github.com/binnacle-hub/binnacle/internal/store"
)

// buildLogs say which logs of builds are wanted.
type buildLogs struct {
	since  time.Duration
	tail   int64 // lines; 0 is all
	follow bool
}

// recentBuilds is how far back logs of builds go unless somebody says: a hub keeps
// those of weeks.
const recentBuilds = 24 * time.Hour

// command is what writes them where the hub is. It follows only as long as its input
// is open.
func (b buildLogs) command() []string {
	words := []string{"build-logs", "--since", b.since.String(), "--tail", strconv.FormatInt(b.tail, 10)}
	if b.follow {
		words = append(words, "--follow")
	}
	return words
}

// buildLogsCommand is what `deploy logs --component builds` runs where the hub is: on
// its machine, or in its pod. It reads the database beside the hub, as `snapshot save`
// does, and not by the hub's API: who follows a launch there counts as somebody who
// waits for it, so that an operator who looks would keep builds alive that nobody
// wants, and end others by leaving. It also works while the hub does not.
func (a *app) buildLogsCommand() *cobra.Command {
	var b buildLogs
	cmd := &cobra.Command{
		Use: "build-logs", Short: "Write what the builds of this hub said, each line with its launch", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if b.follow {
				// Whoever asked from afar has gone when the input ends: nothing else says so
				// before there is a line to write.
				go func() {
					_, _ = io.Copy(io.Discard, a.In)
					cancel()
				}()
			}
			err := a.writeBuildLogs(ctx, b)
			if b.follow && ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&b.since, "since", recentBuilds, "only from so long ago")
	cmd.Flags().Int64Var(&b.tail, "tail", 0, "only the last so many `lines`")
	cmd.Flags().BoolVar(&b.follow, "follow", false, "go on until the input ends")
	return cmd
}

func (a *app) writeBuildLogs(ctx context.Context, b buildLogs) (err error) {
	c, err := a.config(nil)
	if err != nil {
		return err
	}
	var s *store.Store
	if url := c.Kubernetes.Database; c.Kubernetes.Enabled && url != "" {
		s, err = store.OpenPostgres(ctx, string(url))
	} else {
		s, err = store.OpenBeside(ctx, filepath.Join(c.Data, "binnacle.db"))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	since := time.Now().Add(-b.since)
	from, err := s.WrittenSince(ctx, since)
	if err != nil {
		return err
	}
	r := &buildReader{
		store: s, since: since, first: from, from: from, seen: map[int64]bool{}, launches: map[string]store.Launch{},
		hide: hider(config.Secrets(c)), keep: int(b.tail), out: a.Out,
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	if err := r.flush(); err != nil || !b.follow {
		return err
	}
	const pause = time.Second
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if err := r.read(ctx); err != nil {
			return err
		}
	}
}

// buildReader writes the events of builds as lines, each once: launches that share a
// build share its log.
type buildReader struct {
	store    *store.Store
	since    time.Time
	first    int64 // batch: none before it is wanted
	from     int64 // batch to go on with
	seen     map[int64]bool
	launches map[string]store.Launch
	hide     func(string) string
	keep     int      // the last lines, until flush; 0 is all
	kept     []string // they
	out      io.Writer
}

// late is how many batches a batch may come up behind others: replicas write at
// once.
const late = 256

// read writes what was not there the last time.
func (r *buildReader) read(ctx context.Context) error {
	const page = 1000
	for {
		list, err := r.store.Written(ctx, r.from, page)
		if err != nil {
			return err
		}
		clear(r.launches) // they may have gone on meanwhile
		for _, w := range list {
			if !r.seen[w.Batch] {
				r.seen[w.Batch] = true
				if err := r.batch(ctx, w); err != nil {
					return err
				}
			}
		}
		if len(list) > 0 {
			r.from = list[len(list)-1].Batch + 1
		}
		if len(list) < page {
			break
		}
	}
	r.from = max(r.first, r.from-late)
	for batch := range r.seen {
		if batch < r.from {
			delete(r.seen, batch)
		}
	}
	return nil
}

func (r *buildReader) batch(ctx context.Context, w store.Written) error {
	if w.Launch == "" {
		return nil
	}
	l, ok := r.launches[w.Launch]
	if !ok {
		var err error
		if l, err = r.store.Launch(ctx, w.Launch); binnacle.CodeOf(err) == binnacle.CodeNotFound {
			return nil
		} else if err != nil {
			return err
		}
		r.launches[w.Launch] = l
	}
	events, err := r.store.Batch(ctx, w.Batch)
	if err != nil {
		return err
	}
	for _, e := range events {
		text := buildLine(e, l.Phases)
		if text == "" || e.Time.Before(r.since) {
			continue
		}
		line := fmt.Sprintf("%s %s | %s %s\n", l.ID, plainText(l.Spec.String()), e.Time.UTC().Format(time.RFC3339), r.hide(text))
		if err := r.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (r *buildReader) line(text string) error {
	if r.keep == 0 {
		_, err := io.WriteString(r.out, text)
		return err
	}
	if len(r.kept) == r.keep {
		r.kept = slices.Delete(r.kept, 0, 1)
	}
	r.kept = append(r.kept, text)
	return nil
}

// flush writes the last lines; from then on each is written as it comes.
func (r *buildReader) flush() error {
	kept := r.kept
	r.keep, r.kept = 0, nil
	for _, text := range kept {
		if err := r.line(text); err != nil {
			return err
		}
	}
	return nil
}

// buildLine is what an event says of a build, as the launch page has it; empty for
// what belongs to the way before and after. phases are those of its launch so far.
func buildLine(e binnacle.Event, phases []binnacle.PhaseTime) string {
	building := e.Phase == binnacle.PhaseFetching || e.Phase == binnacle.PhaseBuilding
	took, was := seconds(time.Duration(e.Millis)*time.Millisecond), phaseBefore(e, phases)
	switch {
	case e.Kind == binnacle.EventEnd && e.Phase != binnacle.PhaseReady && (was == binnacle.PhaseFetching || was == binnacle.PhaseBuilding):
		text := "== " + string(e.Phase)
		if e.Error != nil {
			text += ": " + noteText(e.Error)
		}
		return text
	case (e.Kind == binnacle.EventEnd || e.Kind == binnacle.EventPhase) && !building && was == binnacle.PhaseBuilding:
		return "== built in " + took
	case !building:
		return ""
	case e.Kind == binnacle.EventPhase:
		return "== " + string(e.Phase)
	case e.Kind == binnacle.EventLog:
		return plainText(e.Message)
	case e.Kind == binnacle.EventStep && e.Cached:
		return "- " + plainText(e.Step) + ": cached"
	case e.Kind == binnacle.EventStep:
		return "- " + plainText(e.Step) + ": " + took
	case e.Kind == binnacle.EventNote && e.Error != nil:
		return "! " + noteText(e.Error)
	}
	return ""
}

// phaseBefore is the phase that an event ended; empty when it ended none.
func phaseBefore(e binnacle.Event, phases []binnacle.PhaseTime) binnacle.Phase {
	i := slices.IndexFunc(phases, func(p binnacle.PhaseTime) bool { return p.Phase == e.Phase })
	if e.Kind == binnacle.EventEnd {
		i = len(phases) // final phases are not among them
	}
	if i < 1 {
		return ""
	}
	return phases[i-1].Phase
}
