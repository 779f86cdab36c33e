package e2e_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a real Chromium with an empty profile and one tab.
type browser struct {
	t       *testing.T
	ctx     context.Context
	trouble *trouble
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
			t.Fatal("no Chromium is installed and BINNACLE_TEST_REQUIRE=all")
		}
		t.Skip("no Chromium is installed")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1200, 850),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	return &browser{t, ctx, watchTrouble(ctx)}
}

// newTab is another tab of the same browser, with the same cookies.
func (b *browser) newTab() *browser {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return &browser{b.t, ctx, watchTrouble(ctx)}
}

func (b *browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.shot("failed")
		b.t.Fatalf("%s: %v\n%s", what, err, b.trouble)
	}
}

// until waits for the page to be so; the expression is JavaScript. A page that
// gives way to another takes its waiting script with it, so it is asked again.
func (b *browser) until(expression string) {
	b.t.Helper()
	b.wait(expression, 3*time.Minute, false)
}

// untilLoaded is until for the page of somebody else's program, which may be
// loaded a second time: one in hundreds stays white, and says why in the log.
func (b *browser) untilLoaded(expression string) {
	b.t.Helper()
	b.wait(expression, time.Minute, true)
}

func (b *browser) wait(expression string, limit time.Duration, again bool) {
	b.t.Helper()
	for {
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("!!("+expression+")",
			chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(limit)))
		if err == nil {
			return
		}
		if again && errors.Is(err, chromedp.ErrPollingTimeout) {
			again = false
			b.t.Logf("the page had no %s, so it is loaded again, as a person would\n%s", expression, b.trouble)
			b.shot("again")
			b.do("load again", chromedp.Reload())
			continue
		}
		gone := strings.Contains(err.Error(), "navigated") || strings.Contains(err.Error(), "context with specified id") ||
			strings.Contains(err.Error(), "Execution context was destroyed") || strings.Contains(err.Error(), "active page")
		if !gone || b.ctx.Err() != nil {
			b.shot("failed")
			b.t.Fatalf("the page never had %s: %v\n%s", expression, err, b.trouble)
		}
	}
}

func (b *browser) text(expression string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return s
}

// shot keeps a picture of the page for people to look at.
func (b *browser) shot(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(artefacts(), name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Errorf("no picture of %s: %v", name, err)
	}
}

// TestBrowser is a researcher's way: paste an address, wait, run a cell.
func TestBrowser(t *testing.T) {
	repo := the.example(t, "requirements")
	b := newBrowser(t)
	var mu sync.Mutex
	hosts := map[string]bool{}
	if _, err := chromedp.Call(b.ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	stop := listen(b, func(u string) {
		mu.Lock()
		defer mu.Unlock()
		if p, err := url.Parse(u); err == nil && p.Host != "" {
			hosts[p.Host] = true
		}
	})
	b.do("home", chromedp.Navigate(the.url()))
	b.shot("home")
	b.do("type the address", chromedp.SendKeys("#repo", repo.URL), chromedp.SendKeys("#path", "index.ipynb"))
	b.until(`!document.getElementById("share").hidden`)
	b.shot("home-understood")
	b.do("launch", chromedp.SendKeys("#repo", kb.Enter))
	b.until(`document.getElementById("phases") && document.getElementById("phases").children.length > 2`)
	b.shot("launching")
	b.runExample("jupyterlab")
	b.shot("jupyterlab-ran")
	if cookies := b.text("document.cookie"); strings.Contains(cookies, "binnacle") {
		t.Errorf("the session's page can read the hub's cookies: %q", cookies)
	}
	stop()
	b = b.newTab() // JupyterLab would ask whether to leave
	b.do("sessions", chromedp.Navigate(the.url()+"sessions"))
	b.until(`document.querySelector("#sessions li")`)
	b.shot("sessions")
	mu.Lock()
	defer mu.Unlock()
	for host := range hosts {
		if host != the.addr {
			t.Errorf("a page asked another host: %s", host)
		}
	}
}

// runExample waits for JupyterLab with the example's notebook, and runs its cells.
func (b *browser) runExample(shot string) {
	b.t.Helper()
	b.until(`document.querySelector(".jp-NotebookPanel .jp-CodeCell") && !document.querySelector(".jp-NotebookPanel .jp-Spinner")`)
	b.until(`[...document.querySelectorAll(".jp-Toolbar-kernelName, .jp-KernelName")].some(k => k.textContent.includes("Python 3"))`)
	b.until(`document.querySelector(".jp-Notebook-ExecutionIndicator[data-status='idle']")`)
	b.shot(shot)
	shiftEnter := chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierShift))
	b.do("run the cells", chromedp.Click(".jp-CodeCell .cm-content"), shiftEnter, shiftEnter)
	b.until(`[...document.querySelectorAll(".jp-OutputArea-output")].some(o => o.textContent.includes("2 years"))`)
}

// TestBrowserFailure: the page names the file, the line and what to change; it
// is legible on a phone, in light and in dark.
func TestBrowserFailure(t *testing.T) {
	repo := the.example(t, "failing-requirement")
	b := newBrowser(t)
	b.do("launch", chromedp.Navigate(the.url()+"v2/git/"+url.PathEscape(repo.URL)+"/HEAD"))
	b.until(`document.getElementById("outcome").textContent.includes("requirements.txt")`)
	said := b.text(`document.getElementById("outcome").textContent`)
	for _, want := range []string{"this-package-does-not-exist-anywhere", "2"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page says %q; want %q in it", said, want)
		}
	}
	b.shot("failed-build")
	b.do("phone", chromedp.EmulateViewport(390, 800))
	b.shot("failed-build-phone")
	if wide := b.text(`String(document.documentElement.scrollWidth <= window.innerWidth)`); wide != "true" {
		t.Error("the page is wider than a phone")
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	}); err != nil {
		t.Fatal(err)
	}
	b.do("home in the dark", chromedp.Navigate(the.url()))
	b.shot("home-dark-phone")
}

// TestBrowserKeyboard launches with the keyboard alone, and a reload joins the
// launch that runs instead of starting another.
func TestBrowserKeyboard(t *testing.T) {
	repo, err := the.git.Repo(t.Context(), "keyboard", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Commit(t.Context(), map[string]string{"postBuild": "#!/bin/sh\necho waits here\nsleep 8\n"}); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	b.do("home", chromedp.Navigate(the.url()))
	if focus := b.text(`document.activeElement.id`); focus != "repo" {
		t.Errorf("the field for the address is not where typing goes, but %q", focus)
	}
	b.do("type and press Enter", chromedp.KeyEvent(repo.URL), chromedp.KeyEvent(kb.Enter))
	b.until(`document.getElementById("lines") && document.getElementById("lines").textContent.includes("waits here")`)
	b.shot("building")
	b.do("reload", chromedp.Reload())
	b.until(`document.querySelector(".jp-DirListing-item")`)
	count, err := chromedp.Run(b.ctx, chromedp.Evaluate[float64](`(async () => { const r = await fetch("/api/launches"); return (await r.json()).length })()`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	if count != 1 {
		t.Errorf("there are %v launches after a reload; want the one", count)
	}
}

// listen tells every address the browser asks for, until the returned function is called.
func listen(b *browser, f func(url string)) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	events := chromedp.Events(ctx, network.RequestWillBeSent)
	go func() {
		defer close(done)
		for e, err := range events {
			if err != nil {
				return
			}
			f(e.Request.URL)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
