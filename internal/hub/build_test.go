package hub_test

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

var update = flag.Bool("update", false, "write the golden files anew")

// checkGolden compares with testdata/name.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func failing(lines []string, e *binnacle.Error) func(binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
	return func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
		ev := script(append(lines, "end failed")...)
		ev[len(ev)-1].Error = e
		l := fakeLaunchOf(req)
		l.Phase, l.Error = binnacle.PhaseFailed, e
		return ev, l
	}
}

func builtScript(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
	ev := script("phase waiting", "queue ..", "phase resolving", "phase fetching", "log Fetching 0123456", "phase building",
		"log \x1b[32mCollecting\x1b[0m six – “quoted” 😀", "step uv", "phase launching", "log Starting", "end ready")
	ev[8].Image = "binnacle/o-r:0123456"
	return ev, fakeLaunchOf(req)
}

func TestBuildGolden(t *testing.T) {
	notFound := binnacle.Errorf(binnacle.CodeNotFound, "No branch is called nope.")
	buildFailed := &binnacle.Error{Code: binnacle.CodeBuildFailed, Message: "The package nopackage-x does not exist.", File: "requirements.txt", Line: 3, Hint: "Mend the name."}
	compiled := *buildFailed
	compiled.Message, compiled.Excerpt = "The header a.h is missing.", []string{"error: Failed to build `pkg`", "…", "pkg.c:2:10: fatal error: a.h: No such file or directory", "    2 | #include <a.h>"}
	for _, tc := range []struct {
		name, path string
		script     func(binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch)
		err        error
		header     []string
	}{
		{name: "found", path: "/build/gh/o/r/HEAD"},
		{name: "built", path: "/build/gh/o/r/HEAD", script: builtScript},
		{name: "built_git", path: "/build/git/https%3A%2F%2Fgit.example.org%2Fo%2Fr/main/", script: builtScript},
		{name: "failed_resolve", path: "/build/gh/o/r/nope", script: failing([]string{"phase resolving"}, notFound)},
		{name: "failed_host", path: "/build/gh/o/r/HEAD", script: failing([]string{"phase resolving"}, binnacle.Errorf(binnacle.CodeUnavailable, "The host does not answer."))},
		{name: "failed_build", path: "/build/gh/o/r/HEAD", script: failing([]string{"phase resolving", "phase fetching", "phase building", "log ERROR"}, buildFailed)},
		{name: "failed_compiler", path: "/build/gh/o/r/HEAD", script: failing([]string{"phase resolving", "phase fetching", "phase building", "log ERROR"}, &compiled)},
		{name: "build_only_found", path: "/build/gh/o/r/HEAD?build_only=True", script: func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
			ev := script("phase resolving", "end ready")
			ev[1].Image = "binnacle/o-r:0123456"
			return ev, fakeLaunchOf(req)
		}},
		{name: "build_only_built", path: "/build/gh/o/r/HEAD?build_only=true", script: func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
			ev := script("phase resolving", "phase fetching", "phase building", "end ready")
			ev[3].Image = "binnacle/o-r:0123456"
			return ev, fakeLaunchOf(req)
		}},
		{name: "canceled", path: "/build/gh/o/r/HEAD", script: func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
			l := fakeLaunchOf(req)
			l.Phase = binnacle.PhaseCanceled
			return script("phase resolving", "end canceled"), l
		}},
		{name: "limited", path: "/build/gh/o/r/HEAD", err: binnacle.Errorf(binnacle.CodeLimited, "Too many launches from your address.")},
		{name: "unknown_provider", path: "/build/xx/o/r/HEAD"},
		{name: "directory", path: "/build/dir/%2Fetc"},
		{name: "bad_spec", path: "/build/gh/justone"},
		{name: "bad_token", path: "/build/gh/o/r/HEAD?build_token=abc"},
		{name: "bad_accept", path: "/build/gh/o/r/HEAD", header: []string{"Accept: application/json"}},
		{name: "picture", path: "/build/gh/o/r/HEAD", header: []string{"Accept: image/png,*/*;q=0.8", "Sec-Fetch-Dest: image"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.err = tc.err
			if tc.script != nil {
				f.script = tc.script
			}
			public, _ := start(t, f, func(o *options) { o.cfg.URL = "https://hub.example.org" })
			resp, body := ask(t, "GET", public.URL+tc.path, "", tc.header...)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-cache" || resp.Header.Get("Access-Control-Allow-Headers") != "cache-control" {
				t.Errorf("status %d, header %v", resp.StatusCode, resp.Header)
			}
			checkGolden(t, "build_"+tc.name+".eventsource", body)
		})
	}
}

// TestClassOfLinks: the page hands a link's class on, as text.
func TestClassOfLinks(t *testing.T) {
	public, _ := start(t, newFake())
	for query, want := range map[string]string{"": "", "?class=gpu": "gpu", "?class=%22%3E%3Cb%3E": "&#34;&gt;&lt;b&gt;"} {
		if _, page := ask(t, "GET", public.URL+"/v2/gh/o/r/HEAD"+query, ""); !strings.Contains(page, `data-class="`+want+`"`) {
			t.Errorf("%s: no %q on the page", query, want)
		}
	}
}

// TestFolderOfLinks: the page launches the folder that its link names, and so does
// BinderHub's way to build.
func TestFolderOfLinks(t *testing.T) {
	service := newFake()
	public, _ := start(t, service)
	_, page := ask(t, "GET", public.URL+"/v2/gh/o/r/HEAD?urlpath=lab&subdir=courses/one", "")
	for _, want := range []string{`data-spec="gh/o/r/HEAD?subdir=courses%2Fone"`, `href="/v2/gh/o/r/HEAD?subdir=courses%2Fone&amp;urlpath=lab"`, "o/r/courses/one"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	if resp, _ := ask(t, "GET", public.URL+"/v2/gh/o/r/HEAD?subdir=../x", ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a folder outside: status %d", resp.StatusCode)
	}
	ask(t, "GET", public.URL+"/build/gh/o/r/HEAD?subdir=courses/one", "", "Accept: text/event-stream")
	if len(service.requests) != 1 || service.requests[0].Repo != "gh/o/r/HEAD?subdir=courses%2Fone" {
		t.Errorf("launched: %+v", service.requests)
	}
}

// TestBuildToken takes the launch page's token to /build, and to another spec.
func TestBuildToken(t *testing.T) {
	public, _ := start(t, newFake())
	_, page := ask(t, "GET", public.URL+"/v2/gh/o/r/HEAD", "")
	_, rest, _ := strings.Cut(page, `data-build-token="`)
	token, _, _ := strings.Cut(rest, `"`)
	if strings.Count(token, ".") != 2 {
		t.Fatalf("no token in the page: %q", token)
	}
	if _, body := ask(t, "GET", public.URL+"/build/gh/o/r/HEAD?build_token="+token, ""); !strings.Contains(body, `"phase": "ready"`) {
		t.Errorf("a good token: %s", body)
	}
	if _, body := ask(t, "GET", public.URL+"/build/gh/o/other/HEAD?build_token="+token, ""); !strings.Contains(body, "Invalid build token") {
		t.Errorf("another spec's token: %s", body)
	}
	if _, body := ask(t, "GET", public.URL+"/build/gh/o/r/HEAD?build_token="+token, "", "Origin: https://evil.example.org"); !strings.Contains(body, "Invalid build token") {
		t.Errorf("another origin's token: %s", body)
	}
}

// TestBuildRate has BinderHub's headers, when there is a limit.
func TestBuildRate(t *testing.T) {
	full := time.Unix(1_800_000_000, 0)
	public, _ := start(t, newFake(), func(o *options) {
		o.deps.Rate = func(_ context.Context, address string) (int, int, time.Time, bool) {
			return 60, 59, full, strings.HasPrefix(address, "127.")
		}
	})
	resp, _ := ask(t, "GET", public.URL+"/build/gh/o/r/HEAD", "")
	for name, want := range map[string]string{"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "58", "X-Ratelimit-Reset": "1800000000"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q; want %q", name, got, want)
		}
	}
}

// TestBuildAbandoned leaves a launch that runs: it is canceled after the grace.
func TestBuildAbandoned(t *testing.T) {
	f := newFake()
	f.script = func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
		l := fakeLaunchOf(req)
		l.Phase, l.Ended = binnacle.PhaseBuilding, time.Time{}
		return script("phase resolving", "phase building"), l
	}
	f.elsewhere = 3 // at first the person goes on through another replica
	public, _ := start(t, f, func(o *options) { o.cfg.AbandonAfter = 50 * time.Millisecond })
	stop := streamUntil(t, public.URL+"/build/gh/o/r/HEAD", "Waiting for build")
	f.push("launch1", binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Message: "still watched"})
	f.mu.Lock()
	if len(f.canceled) > 0 {
		t.Error("canceled while it is watched")
	}
	f.mu.Unlock()
	stop()
	deadline := time.After(5 * time.Second)
	for {
		f.mu.Lock()
		n, asked, changed := len(f.canceled), f.asked, f.changed
		f.mu.Unlock()
		if n == 1 {
			if asked != f.elsewhere+1 {
				t.Errorf("canceled when it was asked for the %d. time whether it is watched", asked)
			}
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("an abandoned launch goes on")
		}
	}
}

func FuzzBuildPath(f *testing.F) {
	for _, s := range []string{"gh/o/r/HEAD", "git/https%3A%2F%2Fx.example.org%2Fr/main", "gl/a%2Fb/x/", "gh/", "%00", "gh/o/r/..%2f..", "xx/%zz", "gist/u/i"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		provider, spec := hub.SplitSpec(s)
		if strings.Contains(provider, "/") || strings.HasSuffix(spec, "/") {
			t.Errorf("%q: provider %q, spec %q", s, provider, spec)
		}
		parsed, err := binnacle.ParseSpec(provider + "/" + spec)
		if err != nil {
			return
		}
		again, err := binnacle.ParseSpec(parsed.String())
		if err == nil && parsed.Provider != binnacle.GitHub && parsed.Provider != binnacle.Gist && again != parsed {
			t.Errorf("%q: %+v came back as %+v", s, parsed, again)
		}
	})
}

func FuzzAccept(f *testing.F) {
	for _, s := range []string{"text/event-stream", "text/event-stream, */*", "*/*;q=0", "text/*;q=0.5,application/json", ";;q=", "text/event-stream;q=2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if q := hub.Accepts(s, "text/event-stream"); q < 0 || q > 1 {
			t.Errorf("%q: %v", s, q)
		}
	})
}

func TestAccepts(t *testing.T) {
	for header, want := range map[string]float64{
		"text/event-stream": 1, "text/event-stream, */*": 1, "*/*": 1, "text/*;q=0.5": 0.5, "application/json": 0,
		"*/*, text/event-stream;q=0": 0, "text/event-stream; charset=utf-8": 1, "TEXT/EVENT-STREAM": 1,
	} {
		if got := hub.Accepts(header, "text/event-stream"); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}
