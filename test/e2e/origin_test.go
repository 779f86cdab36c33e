package e2e_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/binnacle-hub/binnacle"
)

// TestOrigins: with a domain for sessions, a session's page is a stranger to the
// hub and to every other session, in a real browser. Names below localhost lead
// to this machine without a resolver (RFC 6761).
func TestOrigins(t *testing.T) {
	_, port, err := net.SplitHostPort(the.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := the.stop(); err != nil {
		t.Fatal(err)
	}
	hub := "http://hub.localhost:" + port
	if err := the.start("--url", hub, "--session-domain", "sessions.localhost:"+port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := the.stop(); err != nil {
			t.Error(err)
		}
		if err := the.start(); err != nil {
			t.Error(err)
		}
	})
	repo := the.example(t, "plain")
	mine, _ := launch(t, the.operator(), binnacle.LaunchRequest{Repo: repo.URL})
	theirs, _ := launch(t, the.operator(), binnacle.LaunchRequest{Repo: repo.URL})
	for _, l := range []binnacle.Launch{mine, theirs} {
		if l.Session == nil || !strings.HasPrefix(l.Session.URL, "http://"+l.Session.ID+".sessions.localhost:"+port+"/user/") {
			t.Fatalf("the session is at %+v", l.Session)
		}
		stopAfter(t, l)
	}
	b := newBrowser(t)
	b.do("the hub's page", chromedp.Navigate(hub+"/"))
	b.until(`document.querySelector("form")`)
	b.text(`localStorage.setItem("secret", "the hub's"), "done"`)
	if own := b.async(`fetch("/api/sessions").then((r) => String(r.status))`); own != "200" {
		t.Fatalf("the hub's own page is answered %s: this test shows nothing", own)
	}
	b.do("my session", chromedp.Navigate(mine.Session.URL+"lab?token="+mine.Session.Token))
	b.until(`document.title.includes("JupyterLab") && document.readyState == "complete"`)
	if own := b.async(`fetch("` + mine.Session.URL + `api/status").then((r) => String(r.status))`); own != "200" {
		t.Errorf("the session's page and its own server: %s", own)
	}
	for what, address := range map[string]string{
		"the hub's sessions": hub + "/api/sessions", "the hub's launches": hub + "/api/launches",
		"another session": theirs.Session.URL + "api/contents", "another session's page": theirs.Session.URL + "lab",
	} {
		said := b.async(fmt.Sprintf(`fetch(%q, {credentials: "include"}).then(async (r) => "read " + r.status + await r.text()).catch(() => "refused")`, address))
		if said != "refused" {
			t.Errorf("from a session's page, %s: %.200s", what, said)
		}
	}
	if kept := b.text(`String(localStorage.getItem("secret"))`); kept != "null" {
		t.Errorf("a session reads what the hub's page keeps: %s", kept)
	}
	for _, secret := range []string{theirs.Session.Token, "binnacle"} {
		if cookies := b.text(`document.cookie`); strings.Contains(cookies, secret) {
			t.Errorf("a session's page sees the cookies %s", cookies)
		}
	}
	if said := b.async(fmt.Sprintf(`new Promise((done) => { const s = new WebSocket(%q); s.onopen = () => done("opened"); s.onerror = () => done("refused") })`,
		strings.Replace(theirs.Session.URL, "http:", "ws:", 1)+"api/events/subscribe")); said != "refused" {
		t.Errorf("a WebSocket from one session's page to another: %s", said)
	}
}

// async evaluates JavaScript that promises a string.
func (b *browser) async(expression string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return s
}
