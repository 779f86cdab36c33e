package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/internal/store"
	"github.com/binnacle-hub/binnacle/test/kubesim"
	"github.com/binnacle-hub/binnacle/test/postgres"
)

const buildToken = "tides-and-knots-of-the-build"

// builds are three launches: one that was built while another waited for the same,
// and one that failed long ago.
func builds(t *testing.T, s *store.Store, now time.Time) {
	t.Helper()
	launch := func(id, repo string, created time.Time, phases ...binnacle.Phase) store.Launch {
		l := store.Launch{Launch: binnacle.Launch{ID: id, Spec: binnacle.Spec{Provider: binnacle.GitHub, Repo: repo, Ref: "main"}, Phase: phases[len(phases)-1], Created: created}}
		for _, p := range phases {
			if !p.Final() {
				l.Phases = append(l.Phases, binnacle.PhaseTime{Phase: p, Start: created})
			}
		}
		l.Request.Env = map[string]string{"MINE": "a-value-of-the-person"}
		return l
	}
	next := map[string]int64{"old": 1, "built": 1, "also": 1}
	say := func(at time.Time, ids string, events ...binnacle.Event) store.Batch {
		t.Helper()
		var to []store.Cursor
		for id := range strings.FieldsSeq(ids) {
			to = append(to, store.Cursor{Launch: id, First: next[id]})
			next[id] += int64(len(events))
		}
		for i := range events {
			events[i].Time = at
		}
		b, err := s.Append(t.Context(), to, events)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	phase := func(p binnacle.Phase, took int64) binnacle.Event {
		return binnacle.Event{Kind: binnacle.EventPhase, Phase: p, Millis: took}
	}
	log := func(p binnacle.Phase, text string) binnacle.Event {
		return binnacle.Event{Kind: binnacle.EventLog, Phase: p, Message: text}
	}
	const ago = 48 * time.Hour
	for _, l := range []store.Launch{
		launch("old", "ada/broken", now.Add(-ago), binnacle.PhaseWaiting, binnacle.PhaseFetching, binnacle.PhaseFailed),
		launch("built", "ada/hello", now, binnacle.PhaseWaiting, binnacle.PhaseResolving, binnacle.PhaseFetching, binnacle.PhaseBuilding, binnacle.PhaseLaunching, binnacle.PhaseReady),
		launch("also", "ada/hello", now.Add(time.Second), binnacle.PhaseWaiting, binnacle.PhaseResolving, binnacle.PhaseFetching, binnacle.PhaseBuilding, binnacle.PhaseLaunching, binnacle.PhaseFailed),
	} {
		if _, err := s.Append(t.Context(), nil, nil, l); err != nil {
			t.Fatal(err)
		}
	}
	say(now.Add(-ago), "old", phase(binnacle.PhaseFetching, 1), binnacle.Event{Kind: binnacle.EventNote, Phase: binnacle.PhaseFetching, Error: &binnacle.Error{Message: "No Python is named.", File: "runtime.txt", Line: 1}})
	say(now.Add(-ago), "old", binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseFailed, Error: &binnacle.Error{Code: binnacle.CodeBuildFailed, Message: "That is no version.", Hint: "Write 3.13.", File: "runtime.txt", Line: 1}})
	say(now, "built", phase(binnacle.PhaseResolving, 1), log(binnacle.PhaseResolving, "not of the build"), phase(binnacle.PhaseFetching, 5))
	first := say(now, "built", binnacle.Event{Kind: binnacle.EventQueue, Phase: binnacle.PhaseFetching, Position: 2}, log(binnacle.PhaseFetching, "Cloning"))
	if err := s.Share(t.Context(), store.Cursor{Launch: "also", First: 1}, []store.Batch{first}); err != nil {
		t.Fatal(err)
	}
	next["also"] += 2
	say(now, "built also", phase(binnacle.PhaseBuilding, 900), log(binnacle.PhaseBuilding, "\x1b[31mCollecting numpy\x1b[0m from https://ada:"+buildToken+"@pypi.example.org"),
		log(binnacle.PhaseBuilding, "10 %\r100 %\r\n"), binnacle.Event{Kind: binnacle.EventStep, Phase: binnacle.PhaseBuilding, Step: "python", Millis: 1500},
		binnacle.Event{Kind: binnacle.EventStep, Phase: binnacle.PhaseBuilding, Step: "apt", Cached: true}, log(binnacle.PhaseBuilding, "with "+buildToken+" and API_KEY=abcdefgh1234"))
	say(now, "built", phase(binnacle.PhaseLaunching, 2500), log(binnacle.PhaseLaunching, "not of the build either"), binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseReady})
	say(now, "also", phase(binnacle.PhaseLaunching, 2400), binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseFailed, Error: &binnacle.Error{Message: "The session does not start."}})
}

func wantedBuilds(now time.Time) (old, recent []string) {
	at := func(list []string, when time.Time) []string {
		for i, line := range list {
			head, text, _ := strings.Cut(line, " | ")
			list[i] = head + " | " + when.UTC().Format(time.RFC3339) + " " + text
		}
		return list
	}
	return at([]string{
			"old gh/ada/broken/main | == fetching", "old gh/ada/broken/main | ! runtime.txt:1: No Python is named.",
			"old gh/ada/broken/main | == failed: runtime.txt:1: That is no version. Write 3.13.",
		}, now.Add(-48*time.Hour)), at([]string{
			"built gh/ada/hello/main | == fetching", "built gh/ada/hello/main | Cloning", "built gh/ada/hello/main | == building",
			"built gh/ada/hello/main | Collecting numpy from https://ada:xxxxx@pypi.example.org", "built gh/ada/hello/main | 100 %",
			"built gh/ada/hello/main | - python: 1.5s", "built gh/ada/hello/main | - apt: cached", "built gh/ada/hello/main | with xxxxx and API_KEY=xxxxx",
			"built gh/ada/hello/main | == built in 2.5s", "also gh/ada/hello/main | == built in 2.4s",
		}, now)
}

// What builds said is written where the hub is, each line once and with its launch,
// without secrets, from either database, while the hub has it open.
func TestBuildLogs(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	old, recent := wantedBuilds(now)
	test := func(t *testing.T, s *store.Store, err error, settings string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		builds(t, s, now)
		file := filepath.Join(t.TempDir(), "binnacle.yaml")
		if err := os.WriteFile(file, []byte(settings+"build: {env: {TOKEN: "+buildToken+"}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			flags string
			want  []string
		}{
			{"", recent}, {"--since 72h", append(old, recent...)}, {"--tail 2", recent[len(recent)-2:]}, {"--since 72h --tail 1000", append(old, recent...)},
		} {
			var out, log bytes.Buffer
			args := append([]string{"--config", file, "build-logs"}, strings.Fields(tt.flags)...)
			if code := cli.Run(t.Context(), cli.Env{Args: args, In: strings.NewReader(""), Out: &out, Err: &log, Width: func() int { return 80 }}); code != 0 {
				t.Fatalf("%v: exit %d: %s", args, code, log.String())
			}
			if diff := cmp.Diff(strings.Join(tt.want, "\n")+"\n", out.String()); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tt.flags, diff)
			}
		}
		follows(t, s, file, recent)
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		dir, err := os.MkdirTemp("", "bl") // a data directory has a short name
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := store.Open(t.Context(), filepath.Join(dir, "binnacle.db"))
		test(t, s, err, "data: "+dir+"\n")
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url := postgres.Start(t).Database()
		s, err := store.OpenPostgres(t.Context(), url)
		test(t, s, err, "kubernetes: {enabled: true, database: \""+url+"\"}\n")
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		args := []string{"--data", t.TempDir(), "build-logs"}
		if code := cli.Run(t.Context(), cli.Env{Args: args, In: strings.NewReader(""), Out: io.Discard, Err: &log, Width: func() int { return 80 }}); code != 3 || !strings.Contains(log.String(), "There is no database") {
			t.Errorf("exit %d: %s", code, log.String())
		}
	})
}

// follows: new lines come by themselves, and it ends when its input does.
func follows(t *testing.T, s *store.Store, file string, recent []string) {
	t.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, hold := io.Pipe()
	out := new(shared)
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, cli.Env{Args: []string{"--config", file, "build-logs", "--follow"}, In: in, Out: out, Err: io.Discard, Width: func() int { return 80 }})
	}()
	for !strings.Contains(out.String(), recent[len(recent)-1]) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	l, err := s.Launch(ctx, "built")
	if err != nil {
		t.Fatal(err)
	}
	l.ID, l.Phases = "late", l.Phases[:2]
	e := binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Time: time.Now(), Message: "it goes on"}
	if _, err := s.Append(ctx, []store.Cursor{{Launch: "late", First: 1}}, []binnacle.Event{e}, l); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(out.String(), "it goes on") && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	_ = hold.Close()
	if code := <-ended; code != 0 || strings.Count(out.String(), "\n") != len(recent)+1 || !strings.Contains(out.String(), "late gh/ada/hello/main | ") {
		t.Errorf("exit %d, %v: %s", code, ctx.Err(), out.String())
	}
}

// shared is written by one and read by another.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// What is no component is told with those that there are, before anything is asked.
func TestDeployLogsComponents(t *testing.T) {
	t.Parallel()
	file, k := onSim(t, ownRegistry)
	for want, args := range map[string][]string{
		`There is no component "nonsense"; there are hub, builders, builds, sessions, watch and cloud.`: {"--component", "nonsense"},
		"--previous is of containers; builds have no run before.":                                       {"--component", "builds", "--previous"},
	} {
		if code, _, log := deploy(t, "", nil, append([]string{"logs", "--file", file}, args...)...); code != 2 || !strings.Contains(log, want) || len(k.Writes()) > 0 {
			t.Errorf("%v: exit %d, not %q: %s", args, code, want, log)
		}
	}
}

// On a cluster a pod of the hub is asked, with what was asked for. Whoever follows and
// leaves takes the program in the pod along.
func TestDeployLogsBuildsInPod(t *testing.T) {
	t.Parallel()
	file, k := onSim(t, ownRegistry)
	var mu sync.Mutex
	var asked []string
	left, old := make(chan struct{}), false
	k.Exec = func(p kubesim.Process) int {
		mu.Lock()
		asked = append(asked, p.Pod+" "+strings.Join(p.Command, " "))
		defer mu.Unlock()
		if old {
			_, _ = io.WriteString(p.Stderr, "binnacle: Unknown command \"build-logs\" for \"binnacle\".\n")
			return 2
		}
		_, _ = io.WriteString(p.Stdout, "launch-1 gh/ada/hello/main | it is built\n")
		if p.Stdin != nil {
			_, _ = io.Copy(io.Discard, p.Stdin)
			close(left)
		}
		return 0
	}
	logs := []string{"logs", "--component", "builds", "--file", file}
	if code, _, log := deploy(t, "", nil, logs...); code != cli.ExitUnavailable || !strings.Contains(log, "No pod of the hub is ready") {
		t.Errorf("without a pod: exit %d: %s", code, log)
	}
	k.Add("/api/v1/namespaces/my-hub/pods/my-hub-binnacle-0", map[string]any{
		"metadata": map[string]any{"name": "my-hub-binnacle-0", "namespace": "my-hub", "labels": map[string]any{
			"app.kubernetes.io/name": "binnacle", "app.kubernetes.io/instance": "my-hub", "app.kubernetes.io/component": "hub",
		}},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	})
	for _, args := range [][]string{nil, {"--since", "30m", "--tail", "5"}} {
		if code, out, log := deploy(t, "", nil, append(logs, args...)...); code != 0 || out != "launch-1 gh/ada/hello/main | it is built\n" {
			t.Errorf("%v: exit %d: %s%s", args, code, out, log)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	out := &trigger{text: "it is built", f: leave}
	code := cli.Run(ctx, cli.Env{Args: append([]string{"deploy"}, append(logs, "-f")...), In: strings.NewReader(""), Out: out, Err: io.Discard, Width: func() int { return 80 }})
	<-left
	mu.Lock()
	old = true
	mu.Unlock()
	if code != cli.ExitCanceled {
		t.Errorf("left: exit %d", code)
	}
	if code, _, log := deploy(t, "", nil, logs...); code != cli.ExitUnavailable || !strings.Contains(log, "The hub there is of an older version") {
		t.Errorf("an older hub: exit %d: %s", code, log)
	}
	mu.Lock()
	defer mu.Unlock()
	const command = "my-hub-binnacle-0 /usr/local/bin/binnacle build-logs --since "
	want := []string{command + "24h0m0s --tail 0", command + "30m0s --tail 5", command + "24h0m0s --tail 0 --follow", command + "24h0m0s --tail 0"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("what is run (-want +got):\n%s", diff)
	}
}
