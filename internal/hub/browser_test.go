package hub_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/binnacle-hub/binnacle"
)

// need finds a program, or skips the test; with BINNACLE_TEST_REQUIRE=all a
// missing one fails it.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
		t.Fatalf("%s is not installed and BINNACLE_TEST_REQUIRE=all", names[0])
	}
	t.Skipf("%s is not installed", names[0])
	return ""
}

// tab starts a Chromium of its own and returns its context.
func tab(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(need(t, "chromium", "chromium-browser", "google-chrome")),
		chromedp.NoSandbox, chromedp.Flag("disable-background-networking", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	do(ctx, t, "start", chromedp.Navigate("about:blank"))
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func do(ctx context.Context, t *testing.T, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func get[T any](ctx context.Context, t *testing.T, what string, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return v
}

// look sets the window and whether it is dark.
func look(ctx context.Context, t *testing.T, width, height int64, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	do(ctx, t, "window", chromedp.EmulateViewport(width, height))
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// shoot keeps a picture in the directory BINNACLE_TEST_SHOTS, for people.
func shoot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("BINNACLE_TEST_SHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), get(ctx, t, name, chromedp.FullScreenshot(100)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pagesScript makes every kind of launch the pages must show.
func pagesScript(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
	l := fakeLaunchOf(req)
	l.Created, l.Phase = time.Now(), binnacle.PhaseBuilding
	lines := []string{"phase waiting", "phase resolving", "phase fetching", "log Fetching 0123456789", "phase building", "log \x1b[1m\x1b[36m#5\x1b[0m uv pip install -r requirements.txt"}
	var e *binnacle.Error
	switch l.Spec.Ref {
	case "fail":
		lines = append(lines, "log \x1b[31m× No solution found\x1b[0m when resolving dependencies:", `log <img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`, "note x", "end failed")
		e = &binnacle.Error{
			Code: binnacle.CodeBuildFailed, File: "binder/requirements.txt", Line: 3, ID: "k3jf8s2m1q",
			Message: "The package <b>nopackage-x</b> does not exist in the package index.\nuv said: because nopackage-x was not found in the package registry, your requirements are unsatisfiable.",
			Hint:    "Look how the package is called, mend line 3 and launch the new commit.",
			Excerpt: []string{
				"error: No solution found when resolving dependencies", "  cause: Because nopackage-x was not found in the package registry and you require nopackage-x, we can conclude that your requirements are unsatisfiable.",
				"…", "<script>document.title='broken'</script>", "   33 | #include <longintrepr.h>", "      |          ^~~~~~~~~~~~~~~",
			},
		}
		l.Phase, l.Error = binnacle.PhaseFailed, e
	case "big":
		for range 50000 {
			lines = append(lines, "log \x1b[32mDownloading\x1b[0m a package with a name that is a little longer than needed")
		}
	case "queue":
		l.Phase, lines = binnacle.PhaseWaiting, []string{"phase waiting", "queue ...."}
	case "ready":
		l.Phase, lines = binnacle.PhaseReady, append(lines, "phase launching", "end ready")
	}
	ev := script(lines...)
	for i := range ev {
		ev[i].Time = l.Created.Add(time.Duration(i-min(len(ev), 40)) * 300 * time.Millisecond)
		if ev[i].Kind == binnacle.EventNote {
			ev[i].Error = &binnacle.Error{Message: "runtime.txt asks for Python 3.9, which no longer gets security updates.", Hint: "Ask for python-3.13.", File: "runtime.txt", Line: 1}
		}
	}
	ev[len(ev)-1].Error = e
	return ev, l
}

func TestPages(t *testing.T) {
	ctx := tab(t)
	f := newFake()
	f.script = pagesScript
	public, trusted := start(t, f)
	f.sessions["s1"] = fakeSession{binnacle.Session{ID: "s1", Repo: "gh/ocean/waves/HEAD", State: "running", URL: "/user/s1/", Token: "t", Started: time.Now(), IdleEnds: time.Now().Add(time.Minute), Ends: time.Now().Add(6 * time.Hour)}, "x"}
	f.sessions["s2"] = fakeSession{binnacle.Session{ID: "s2", Repo: "git/https%3A%2F%2Fgit.example.org%2Ftides%2Flong-name-of-a-repository/main", State: "running", URL: "/user/s2/", Started: time.Now(), Ends: time.Now().Add(time.Hour)}, "x"}
	pages := []struct{ name, url, ready string }{
		{"home", public.URL + "/", "#go"},
		{"wrong", public.URL + "/v2/?repo=nonsense", ".understood.bad"},
		{"building", public.URL + "/v2/gh/ocean/waves/HEAD", ".line"},
		{"queue", public.URL + "/v2/gh/ocean/waves/queue", "#cancel"},
		{"failed", public.URL + "/v2/gh/ocean/waves/fail", ".outcome.fault"},
		{"sessions", trusted.URL + "/sessions", ".session"},
		{"about", public.URL + "/about", ".prose"},
		{"lost", public.URL + "/nothing", ".lost"},
	}
	for _, size := range []struct {
		name string
		w, h int64
		dark bool
	}{{"light", 1200, 800, false}, {"dark", 1200, 800, true}, {"phone", 390, 800, false}, {"narrow", 320, 600, true}} {
		look(ctx, t, size.w, size.h, size.dark)
		for _, page := range pages {
			name := page.name + "_" + size.name
			do(ctx, t, name, chromedp.Navigate(page.url), chromedp.WaitVisible(page.ready))
			if page.name == "home" {
				do(ctx, t, name, chromedp.SendKeys("#repo", "https://github.com/ocean/waves/tree/main/notebooks/index.ipynb"), chromedp.WaitVisible("#share"))
			}
			if get(ctx, t, name, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)) {
				t.Errorf("%s: the page is wider than the window", name)
			}
			if get(ctx, t, name, chromedp.Title()) == "broken" {
				t.Errorf("%s: text ran as a script", name)
			}
			shoot(ctx, t, name)
		}
	}
	// What the tool said keeps its columns, scrolls in itself, and is reached and
	// scrolled with the keyboard; a reader of the screen hears what it is.
	do(ctx, t, "excerpt", chromedp.Navigate(public.URL+"/v2/gh/ocean/waves/fail"), chromedp.WaitVisible(".excerpt"))
	if got := get(ctx, t, "excerpt", chromedp.TextContent(".excerpt")); !strings.Contains(got, "\n…\n<script>") || !strings.HasSuffix(got, "#include <longintrepr.h>\n      |          ^~~~~~~~~~~~~~~") {
		t.Errorf("the excerpt is %q", got)
	}
	get(ctx, t, "outcome", chromedp.Evaluate[bool](`(document.getElementById("outcome").focus(), true)`))
	do(ctx, t, "excerpt", chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.ArrowRight))
	get(ctx, t, "scrolled", chromedp.Poll[bool](`document.activeElement.matches(".excerpt") && document.activeElement.scrollLeft > 0`))
	if got := get(ctx, t, "its name", chromedp.Evaluate[string](`const e = document.querySelector(".excerpt"); e.getAttribute("role") + ": " + document.getElementById(e.getAttribute("aria-labelledby")).textContent`)); got != "region: What the tool said" {
		t.Errorf("a reader hears %q", got)
	}
}

// TestPageLaunch goes from the form to the session with the keyboard alone.
func TestPageLaunch(t *testing.T) {
	ctx := tab(t)
	f := newFake()
	f.script = pagesScript
	visits := make(chan string, 10)
	public, _ := start(t, f, func(o *options) {
		o.deps.Proxy = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			visits <- r.URL.String()
			_, _ = io.WriteString(w, "<title>session</title><p id=inside>inside")
		})
	})
	do(ctx, t, "form", chromedp.Navigate(public.URL+"/"), chromedp.WaitVisible("#repo"),
		chromedp.SendKeys("#repo", "https://github.com/ocean/waves/tree/main/a.ipynb\r"), chromedp.WaitVisible(".line"))
	where, status := get(ctx, t, "location", chromedp.Location()), get(ctx, t, "status", chromedp.Text("#status"))
	if !strings.Contains(where, "/v2/gh/ocean/waves/main?urlpath=lab%2Ftree%2Fa.ipynb#launch=launch1") || !strings.Contains(status, "Building") {
		t.Errorf("at %s with status %q", where, status)
	}
	// Reloading joins, and the event that ends it leads to the session.
	do(ctx, t, "reload", chromedp.Reload(), chromedp.WaitVisible(".line"))
	f.mu.Lock()
	if len(f.launches) != 1 {
		t.Errorf("%d launches after a reload", len(f.launches))
	}
	l := f.launches[0]
	l.launch.Session = &binnacle.Session{ID: "s1", URL: "/user/s1/", Token: "to&ken"}
	f.sessions["s1"] = fakeSession{*l.launch.Session, l.owner}
	f.mu.Unlock()
	f.push("launch1", binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseReady, Time: time.Now()})
	select {
	case got := <-visits:
		if want := "/user/s1/lab/tree/a.ipynb?token=to%26ken"; got != want {
			t.Errorf("went to %s, want %s", got, want)
		}
	case <-ctx.Done():
		t.Fatal("the page does not go to the session")
	}
	do(ctx, t, "session", chromedp.WaitReady("#inside"))
	do(ctx, t, "back", chromedp.NavigateBack(), chromedp.WaitVisible(".outcome.ready"))
	if text := get(ctx, t, "back", chromedp.Text(".outcome h2")); text != "Your session is running" {
		t.Errorf("back shows %q", text)
	}
}

// TestPageBigLog shows 50,000 lines with few elements, and filters them.
func TestPageBigLog(t *testing.T) {
	ctx := tab(t)
	f := newFake()
	f.script = pagesScript
	public, _ := start(t, f)
	began := time.Now()
	do(ctx, t, "open", chromedp.Navigate(public.URL+"/v2/gh/ocean/waves/big"))
	get(ctx, t, "all lines", chromedp.Poll[bool](`document.getElementById("count").textContent === "50002 lines"`))
	t.Logf("50,002 lines shown after %s", time.Since(began).Round(time.Millisecond))
	if rows := get(ctx, t, "rows", chromedp.Evaluate[int](`document.querySelectorAll(".line").length`)); rows == 0 || rows > 200 {
		t.Errorf("%d elements in the document", rows)
	}
	shoot(ctx, t, "big")
	do(ctx, t, "filter", chromedp.SendKeys("#filter", "uv pip"))
	get(ctx, t, "filtered", chromedp.Poll[bool](`document.getElementById("count").textContent.startsWith("1 of") && document.querySelectorAll(".line").length === 1`))
	if got := get(ctx, t, "line", chromedp.TextContent("#lines")); !strings.Contains(got, "requirements.txt") {
		t.Errorf("filtered: %q", got)
	}
}

// TestPageSilence: the machine of the replica that a page listens to is lost, so
// nothing ends the connection. The page notices that nothing comes any more.
func TestPageSilence(t *testing.T) {
	ctx := tab(t)
	f := newFake()
	f.script = pagesScript
	public, _ := start(t, f)
	hub, err := url.Parse(public.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(hub)
		r.Out.Host = r.In.Host
	}}
	var asked atomic.Int64
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") && asked.Add(1) == 1 {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: keep-alive\ndata: {}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(between.Close)
	const hurry = `const slow = window.setTimeout; window.setTimeout = (f, ms, ...more) => slow(f, ms === 45000 ? 300 : ms, ...more)`
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: hurry}); err != nil {
		t.Fatal(err)
	}
	do(ctx, t, "launch", chromedp.Navigate(between.URL+"/v2/gh/ocean/waves/main"), chromedp.WaitVisible(".line"))
	if n := asked.Load(); n != 2 {
		t.Errorf("the page listened %d times", n)
	}
}
