package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// trouble is what a page had to complain about: requests that failed, exceptions.
type trouble struct {
	mu    sync.Mutex
	lines []string
}

func (tr *trouble) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

func (tr *trouble) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return strings.Join(tr.lines, "\n")
}

// watchTrouble notes it until the page's context ends.
func watchTrouble(ctx context.Context) *trouble {
	tr := &trouble{}
	watch(ctx, network.LoadingFailed, func(e network.EventLoadingFailed) { tr.add("request %s failed: %s", e.RequestID, e.ErrorText) })
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
