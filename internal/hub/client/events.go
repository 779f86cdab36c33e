package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// Bounds of coming back to a stream that broke.
const (
	firstWait = 200 * time.Millisecond
	lastWait  = 5 * time.Second
	// patience is how long a hub may be away (it restarts) before we give up.
	patience = 2 * time.Minute
	// mostSilence is longer than the time between a hub's signs of life. One that is
	// configured to give fewer is asked anew.
	mostSilence = 45 * time.Second
)

var (
	// errEnded stops the reading at the end event.
	errEnded = errors.New("the launch has ended")
	// errSilent is a hub on a machine that was lost: nothing ends its connections.
	errSilent = errors.New("it has been silent for long")
)

// Events calls yield with every event after the given one until the end event,
// each once and in order. A stream that breaks is taken up where it broke, so a
// hub may restart meanwhile. Returns yield's error, or not_found for a launch
// that is not there or not mine.
func (c *Client) Events(ctx context.Context, id string, after int64, yield func(binnacle.Event) error) error {
	wait, since := firstWait, time.Now()
	for {
		before := after
		done, err := c.stream(ctx, id, &after, yield)
		if done || ctx.Err() != nil || (err != nil && !binnacle.CodeOf(err).Retryable()) {
			return err
		}
		if after > before {
			wait, since = firstWait, time.Now()
		}
		if time.Since(since) > patience {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait = min(2*wait, lastWait)
	}
}

// stream reads one connection's worth. done says not to come back.
func (c *Client) stream(ctx context.Context, id string, after *int64, yield func(binnacle.Event) error) (done bool, err error) {
	path := "/api/launches/" + url.PathEscape(id) + "/events?after=" + strconv.FormatInt(*after, 10)
	heard, stop := context.WithCancel(ctx)
	defer stop()
	silence := time.AfterFunc(c.silence, stop)
	defer silence.Stop()
	resp, err := c.do(heard, http.MethodGet, path, "application/x-ndjson", nil)
	if err != nil && heard.Err() != nil {
		return false, broken(ctx, "events", &url.Error{Op: "read", URL: path, Err: errSilent})
	}
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return true, nil
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			switch {
			case errors.Is(err, io.EOF):
				err = io.ErrUnexpectedEOF
			case heard.Err() != nil:
				err = errSilent
			}
			return false, broken(ctx, "events", &url.Error{Op: "read", URL: path, Err: err})
		}
		silence.Reset(c.silence)
		if len(line) == 1 {
			continue // the hub keeps the line alive
		}
		err = take(line, after, yield)
		switch {
		case errors.Is(err, errEnded):
			return true, nil
		case err != nil:
			var p *problem
			return !errors.As(err, &p), err
		}
	}
}

// problem is the hub saying that watching, not the launch, has failed.
type problem struct{ err *binnacle.Error }

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func take(line []byte, after *int64, yield func(binnacle.Event) error) error {
	var e binnacle.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return &binnacle.Error{Code: binnacle.CodeInternal, Message: "The hub sent an event that cannot be read.", Hint: "Look whether hub and command have the same version.", Err: err}
	}
	if e.Kind == hub.KindProblem {
		if e.Error == nil {
			e.Error = binnacle.Errorf(binnacle.CodeUnavailable, "The hub stopped telling how the launch goes.")
		}
		return &problem{err: e.Error}
	}
	if e.ID <= *after {
		return nil
	}
	*after = e.ID
	if err := yield(e); err != nil {
		return err
	}
	if e.Kind == binnacle.EventEnd {
		return errEnded
	}
	return nil
}
