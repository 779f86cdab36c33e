package e2e_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub/client"
)

// TestKill ends the hub with kill -9 in each phase of a launch and starts it
// again: the launch goes on or is reported failed, its log is whole, and
// nothing is left that nobody owns.
func TestKill(t *testing.T) {
	for _, phase := range []binnacle.Phase{binnacle.PhaseResolving, binnacle.PhaseFetching, binnacle.PhaseBuilding, binnacle.PhaseLaunching} {
		t.Run(string(phase), func(t *testing.T) {
			repo := the.example(t, "postbuild-start")
			l, err := the.operator().Launch(t.Context(), binnacle.LaunchRequest{Repo: repo.URL})
			if err != nil {
				t.Fatal(err)
			}
			seen := killWhen(t, the.operator(), l.ID, func(e binnacle.Event) bool { return e.Phase == phase })
			if err := the.start(); err != nil {
				t.Fatal(err)
			}
			end, events := follow(t, the.operator(), l.ID)
			for i, e := range seen {
				if i >= len(events) || events[i].ID != e.ID || events[i].Message != e.Message {
					t.Fatalf("event %d was %+v before the kill and is gone or different after it", i+1, e)
				}
			}
			for i, e := range events {
				if e.ID != int64(i+1) {
					t.Fatalf("event %d has the number %d", i+1, e.ID)
				}
			}
			switch end.Phase {
			case binnacle.PhaseReady:
				stopAfter(t, end)
				cell(t, server(end), "print(6*7)", "42")
			case binnacle.PhaseFailed:
				if end.Error == nil || end.Error.Message == "" {
					t.Errorf("failed without a reason: %+v", end)
				}
			default:
				t.Errorf("ended as %s", end.Phase)
			}
			t.Logf("killed in %s after %d events, went on to %s with %d", phase, len(seen), end.Phase, len(events))
		})
	}
}

// errEnough ends a stream of events that has done its part.
var errEnough = errors.New("enough")

// killWhen kills the hub as soon as an event is the one, and returns what was
// seen until then.
func killWhen(t *testing.T, c *client.Client, id string, is func(binnacle.Event) bool) []binnacle.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var seen []binnacle.Event
	killed := false
	err := c.Events(ctx, id, 0, func(e binnacle.Event) error {
		seen = append(seen, e)
		if !is(e) {
			return nil
		}
		killed = true
		return errors.Join(errEnough, the.kill()) // else the client would wait for the hub to come back
	})
	if killed && !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if !killed {
		t.Fatal("the launch ended before it could be killed")
	}
	return seen
}

// TestKillWithSession kills the hub under a running session: the kernel keeps
// its variables and a new connection reaches it.
func TestKillWithSession(t *testing.T) {
	repo := the.example(t, "plain")
	l, s := ready(t, the.operator(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, l)
	k, err := s.StartKernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, k, "kept = 'variables'; print(kept)", "variables")
	if err := the.kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Execute(t.Context(), "1"); err == nil {
		t.Error("the connection outlived the hub that carried it")
	}
	if err := the.start(); err != nil {
		t.Fatal(err)
	}
	again, err := s.Attach(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, again, "print(kept)", "variables")
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	sessions, err := the.operator().Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, one := range sessions {
		found = found || one.ID == l.Session.ID
	}
	if !found {
		t.Errorf("the session is not listed after the restart: %+v", sessions)
	}
}

// TestNothingIsLeft looks for what nobody owns after a kill in a build.
func TestNothingIsLeft(t *testing.T) {
	repo, err := the.git.Repo(t.Context(), "slow", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{"postBuild": "#!/bin/sh\necho slow step runs\nexec sleep 424242\n"}); err != nil {
		t.Fatal(err)
	}
	l, err := the.operator().Launch(t.Context(), binnacle.LaunchRequest{Repo: repo.URL})
	if err != nil {
		t.Fatal(err)
	}
	killWhen(t, the.operator(), l.ID, func(e binnacle.Event) bool { return strings.Contains(e.Message, "slow step runs") })
	if !running(t, "sleep 424242") {
		t.Fatal("the step ended with the hub: this test shows nothing")
	}
	if err := the.start(); err != nil {
		t.Fatal(err)
	}
	// The hub continues the launch, so one may run; cancel it and none may.
	if err := the.operator().Cancel(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	end, _ := follow(t, the.operator(), l.ID)
	if end.Phase != binnacle.PhaseCanceled {
		t.Errorf("ended as %s", end.Phase)
	}
	// The build is told to end before the launch is said to be canceled; the
	// kernel may take a moment.
	deadline := time.Now().Add(10 * time.Second)
	for running(t, "sleep 424242") {
		if time.Now().After(deadline) {
			t.Fatal("a build step runs that nobody owns")
		}
	}
}

func running(t *testing.T, args string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.TrimSpace(line) == args {
			return true
		}
	}
	return false
}
