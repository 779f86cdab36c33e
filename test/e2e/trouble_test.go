package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// trouble is what a page had to complain about: requests that failed or were
// never answered, exceptions.
type trouble struct {
	mu      sync.Mutex
	lines   []string
	pending map[network.RequestID]string
}

func (tr *trouble) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

// ended takes a request from those without an end; its address.
func (tr *trouble) ended(id network.RequestID) string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	url := tr.pending[id]
	delete(tr.pending, id)
	return url
}

func (tr *trouble) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	lines := slices.Clone(tr.lines)
	for id, url := range tr.pending {
		lines = append(lines, fmt.Sprintf("request %s has no end: %s", id, url))
	}
	return strings.Join(lines, "\n")
}

// watchTrouble notes it until the page's context ends.
func watchTrouble(ctx context.Context) *trouble {
	tr := &trouble{pending: map[network.RequestID]string{}}
	watch(ctx, network.RequestWillBeSent, func(e network.EventRequestWillBeSent) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.pending[e.RequestID] = e.Request.URL
	})
	watch(ctx, network.LoadingFinished, func(e network.EventLoadingFinished) { tr.ended(e.RequestID) })
	watch(ctx, network.LoadingFailed, func(e network.EventLoadingFailed) {
		tr.add("%s failed: %s", tr.ended(e.RequestID), e.ErrorText)
	})
	watch(ctx, network.ResponseReceived, func(e network.EventResponseReceived) {
		if e.Response.Status >= 400 {
			tr.add("%d %s", e.Response.Status, e.Response.URL)
		}
	})
	watch(ctx, runtime.ExceptionThrown, func(e runtime.EventExceptionThrown) { tr.add("exception: %v", e.ExceptionDetails) })
	return tr
}

// watch calls f with each event until ctx ends.
func watch[E any](ctx context.Context, kind cdp.Event[E], f func(E)) {
	events := chromedp.Events(ctx, kind)
	go func() {
		for e, err := range events {
			if err != nil {
				return
			}
			f(e)
		}
	}()
}
