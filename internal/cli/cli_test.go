package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/cli"
	"github.com/binnacle-hub/binnacle/test/registryhost"
)

//go:generate go test -run "TestReference|TestProgress|TestDeployStory" -update .

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// asProgram is the variable that makes the tests' binary the program itself, so that it
// can be killed.
const asProgram = "BINNACLE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Run(context.Background(), cli.Env{
			Args: os.Args[1:], In: strings.NewReader(""), Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(),
			Width: func() int { return 80 }, Version: "1.2.3", Poll: 20 * time.Millisecond, Registries: registryhost.Nowhere(),
		}))
	}
	flag.Bool("update", false, "write the golden files")
	flag.Parse()
	os.Exit(m.Run())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if updating() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is old; run `make generate` (-file +code):\n%s", path, diff)
	}
}

func TestExitCodes(t *testing.T) {
	want := map[binnacle.Code]int{
		binnacle.CodeInvalid: 2, binnacle.CodeUnauthorized: 4, binnacle.CodeForbidden: 4, binnacle.CodeNotFound: 3,
		binnacle.CodeConflict: 3, binnacle.CodeBuildFailed: 3, binnacle.CodeLimited: 5, binnacle.CodeUnavailable: 5,
		binnacle.CodeTimeout: 5, binnacle.CodeCanceled: 130, binnacle.CodeInternal: 1,
	}
	for _, code := range binnacle.Codes() {
		got := cli.ExitCode(fmt.Errorf("wrapped: %w", binnacle.Errorf(code, "x")))
		if w, ok := want[code]; !ok || got != w {
			t.Errorf("%s: exit %d, not %d", code, got, w)
		}
	}
	if cli.ExitCode(nil) != 0 || cli.ExitCode(errors.New("x")) != 1 {
		t.Error("no error is 0, a foreign one 1")
	}
}

// history is a launch as the hub tells it.
func history(failed bool) []binnacle.Event {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	list := []binnacle.Event{
		{Time: at(0), Kind: binnacle.EventPhase, Phase: binnacle.PhaseWaiting},
		{Time: at(0), Kind: binnacle.EventQueue, Phase: binnacle.PhaseWaiting, Position: 2},
		{Time: at(1500), Kind: binnacle.EventPhase, Phase: binnacle.PhaseResolving, Millis: 1500},
		{Time: at(1900), Kind: binnacle.EventPhase, Phase: binnacle.PhaseFetching, Millis: 400},
		{Time: at(2000), Kind: binnacle.EventNote, Phase: binnacle.PhaseFetching, Error: &binnacle.Error{Message: "Nothing is pinned.", Hint: "Pin it.", File: "requirements.txt", Line: 1}},
		{Time: at(2100), Kind: binnacle.EventPhase, Phase: binnacle.PhaseBuilding, Millis: 200},
		{Time: at(2200), Kind: binnacle.EventStep, Phase: binnacle.PhaseBuilding, Step: "apt: apt.txt", Cached: true},
		{Time: at(2300), Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Message: "\x1b[32mCollecting\x1b[0m numpy \x1b]0;title\a"},
		{Time: at(2400), Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Message: "10%\r50%\r100%\twheel"},
		{Time: at(9000), Kind: binnacle.EventStep, Phase: binnacle.PhaseBuilding, Step: "pip: requirements.txt", Millis: 6700},
	}
	if failed {
		return append(list, binnacle.Event{
			Time: at(70000), Kind: binnacle.EventEnd, Phase: binnacle.PhaseFailed, Millis: 67900,
			Error: binnacle.Errorf(binnacle.CodeBuildFailed, "pip could not find nosuch."),
		})
	}
	return append(
		list,
		binnacle.Event{Time: at(9100), Kind: binnacle.EventPhase, Phase: binnacle.PhaseLaunching, Millis: 7000},
		binnacle.Event{Time: at(9700), Kind: binnacle.EventEnd, Phase: binnacle.PhaseReady, Millis: 600},
	)
}

func TestProgressGolden(t *testing.T) {
	ok, failed := history(false), history(true)
	var b strings.Builder
	show := func(title string, events []binnacle.Event, width int) {
		now := events[len(events)-1].Time.Add(300 * time.Millisecond)
		fmt.Fprintf(&b, "--- %s ---\n%s\n", title, strings.Join(cli.Draw(events, now, width), "\n"))
	}
	show("waiting", ok[:2], 80)
	show("building", ok[:9], 80)
	show("building, narrow", ok[:9], 30)
	show("ready", ok, 80)
	show("failed", failed, 80)
	for _, terminal := range []bool{false, true} {
		var out, log bytes.Buffer
		event, end := cli.NewDisplay(t.Context(), cli.Env{Out: &out, Err: &log, Terminal: false, Width: func() int { return 80 }}, terminal)
		for _, e := range ok {
			if err := event(e); err != nil {
				t.Fatal(err)
			}
		}
		end()
		if terminal { // JSON: one event per line
			if n := strings.Count(out.String(), "\n"); n != len(ok) || log.Len() > 0 || !json.Valid([]byte(strings.SplitN(out.String(), "\n", 2)[0])) {
				t.Errorf("%d lines, and %q", n, log.String())
			}
			continue
		}
		fmt.Fprintf(&b, "--- plain ---\n%s", log.String())
	}
	golden(t, "testdata/progress.golden", b.String())
}

// The live display ends with the log of a failed build and leaves no escape of
// the build's own on the terminal.
func TestLiveDisplay(t *testing.T) {
	var log bytes.Buffer
	event, end := cli.NewDisplay(t.Context(), cli.Env{Err: &log, Terminal: true, Width: func() int { return 80 }}, false)
	for _, e := range history(true) {
		if err := event(e); err != nil {
			t.Fatal(err)
		}
	}
	end()
	got := log.String()
	if !strings.Contains(got, "✗ Building") || !strings.HasSuffix(got, "    Collecting numpy \n    100%    wheel\n") {
		t.Errorf("got %q", got)
	}
	if strings.Contains(got, "\x1b]") || strings.Contains(got, "\x1b[32m") {
		t.Errorf("an escape came through: %q", got)
	}
}

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[2Jb": "ab", "a\x1b]8;;http://x\x1b\\b": "ab", "\x1b": "", "a\x00\x7f\u202eb": "ab", "ü\n": "ü", "x\ny": "x y", "\x1b[": "", "\u009b2Jx": "2Jx",
	} {
		if got := cli.PlainText(in); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

func TestSessionAddress(t *testing.T) {
	s := binnacle.Session{URL: "http://127.0.0.1:8585/user/x-1/", Token: "t&1"}
	for path, want := range map[string]string{
		"":                         "http://127.0.0.1:8585/user/x-1/lab?token=t%261",
		"lab/tree/a b.ipynb":       "http://127.0.0.1:8585/user/x-1/lab/tree/a%20b.ipynb?token=t%261",
		"/voila/render?x=1#frag":   "http://127.0.0.1:8585/user/x-1/voila/render?x=1&token=t%261#frag",
		"../../x":                  "http://127.0.0.1:8585/user/x-1/?token=t%261",
		"//evil.example.org/a":     "http://127.0.0.1:8585/user/x-1/evil.example.org/a?token=t%261",
		"https://evil.example.org": "http://127.0.0.1:8585/user/x-1/https://evil.example.org?token=t%261",
	} {
		if got := cli.SessionAddress(s, path); got != want {
			t.Errorf("%q: %s, not %s", path, got, want)
		}
	}
}

func TestRuncFault(t *testing.T) {
	for version, bad := range map[string]bool{
		"1.1.5+ds1": true, "1.2.7": true, "1.2.8": true, "1.3.0": true, "1.3.2": true, "1.3.5": true, "1.3.6": false,
		"1.4.0-rc.1": true, "1.4.2": true, "1.4.3": false, "1.5.2": false, "2.0.0": false, "": true,
	} {
		if got := cli.RuncFault(version); (got != "") != bad || (bad && !strings.HasPrefix(got, "CVE-")) {
			t.Errorf("%s: %q", version, got)
		}
	}
}

func TestTimeLeft(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s    binnacle.Session
		want string
	}{
		{binnacle.Session{}, "no limit"},
		{binnacle.Session{IdleEnds: now.Add(10 * time.Minute), Ends: now.Add(time.Hour)}, "10m"},
		{binnacle.Session{IdleEnds: now.Add(2 * time.Hour), Ends: now.Add(90 * time.Minute)}, "1h30m"},
		{binnacle.Session{Ends: now.Add(-time.Minute)}, "0s"},
	} {
		if got := cli.Left(c.s, now); got != c.want {
			t.Errorf("%v: %s, not %s", c.s, got, c.want)
		}
	}
}
