package e2e_test

import (
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/binnacle-hub/binnacle/test/githost"
)

// browserGoesOn: the replica is killed through which somebody's browser speaks with her
// kernel. JupyterLab connects again by itself, and the kernel has what it had.
func (h *clusterHub) browserGoesOn(t *testing.T, repo *githost.Repo) {
	t.Helper()
	eventually(t, "two replicas are ready", func() bool { return len(h.ready(t)) == 2 })
	b := newBrowser(t)
	ended := b.lostKernels()
	b.do("launch", chromedp.Navigate(h.url+"v2/git/"+url.PathEscape(repo.URL)+"/HEAD?urlpath="+url.QueryEscape("lab/tree/index.ipynb")))
	b.runExample("kubernetes-browser")
	b.runCell("knots = 12")
	// The load balancer does not tell which one it is: when not the first, the second.
	for i, r := range h.each(t) {
		h.killPod(t, r.name)
		eventually(t, "two replicas are ready again", func() bool { return len(h.ready(t)) == 2 })
		b.runAgain("knots + "+[]string{"30", "60"}[i], []string{"42", "72"}[i])
		if ended.Load() > 0 {
			break
		}
	}
	b.shot("kubernetes-browser-went-on")
	if ended.Load() == 0 {
		t.Error("no replica was killed through which the browser spoke with the kernel")
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(b.text("location.pathname"), "/user/"), "/")
	if err := h.Client.CoreV1().Pods(h.sessions).Delete(t.Context(), id, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// lostKernels counts the WebSockets to kernels that end.
func (b *browser) lostKernels() *atomic.Int64 {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, network.Enable, network.EnableParams{}); err != nil {
		b.t.Fatal(err)
	}
	var ended atomic.Int64
	opened, closed := chromedp.Events(b.ctx, network.WebSocketCreated), chromedp.Events(b.ctx, network.WebSocketClosed)
	ids := make(chan network.RequestID, 1000)
	go func() {
		for e, err := range opened {
			if err != nil {
				return
			}
			if strings.Contains(e.URL, "/channels") {
				ids <- e.RequestID
			}
		}
	}()
	go func() {
		kernels := map[network.RequestID]bool{}
		for e, err := range closed {
			if err != nil {
				return
			}
			for len(ids) > 0 {
				kernels[<-ids] = true
			}
			if kernels[e.RequestID] {
				ended.Add(1)
			}
		}
	}()
	return &ended
}

// runCell types a cell below the one that is selected, and runs it.
func (b *browser) runCell(code string) {
	b.t.Helper()
	shiftEnter := chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierShift))
	b.do("type a cell", chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("b"), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(code), shiftEnter)
}

// runAgain runs a cell until it gives what it has to. What was asked in the moment in
// which the connection ended has no answer, by JupyterLab's protocol, and a person runs
// it again.
func (b *browser) runAgain(code, want string) {
	b.t.Helper()
	given := `[...document.querySelectorAll(".jp-OutputArea-output")].some(o => o.textContent.trim() === "` + want + `")`
	for range 3 {
		b.runCell(code)
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](given, chromedp.WithPollingTimeout(20*time.Second)))
		if err == nil {
			return
		}
		b.t.Logf("%s has no answer: %v", code, err)
	}
	b.until(given)
}
