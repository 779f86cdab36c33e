package cli_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/cli"
)

// TestLeaving: who keeps a connection to a replica that goes has its answer, and opens
// another one for what it asks next.
func TestLeaving(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var l cli.Leaving
			srv := httptest.NewUnstartedServer(l.Tell(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusNoContent)
			})))
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			defer srv.Close()
			ask := func(upgrade string) (reused bool, res *http.Response) {
				t.Helper()
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				if upgrade != "" {
					req.Header.Set("Upgrade", upgrade)
				}
				if res, err = srv.Client().Do(req); err != nil {
					t.Fatal(err)
				}
				if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNoContent {
					t.Fatalf("%s %v", res.Status, err)
				}
				return reused, res
			}
			ask("")
			if reused, _ := ask(""); !reused {
				t.Fatal("no connection is kept before")
			}
			l.Begin(t.Context(), 0)
			if reused, _ := ask(""); !reused {
				t.Error("the connection was closed before its answer")
			}
			if http2 { // a client learns of it when it reads on
				for end := time.Now().Add(10 * time.Second); ; {
					if reused, _ := ask(""); !reused {
						return
					}
					if time.Now().After(end) {
						t.Fatal("the connection is kept")
					}
				}
			}
			if reused, _ := ask(""); reused {
				t.Error("the connection is kept")
			}
			if _, res := ask("websocket"); res.Close {
				t.Error("a WebSocket is told to close")
			}
		})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	var l cli.Leaving
	l.Begin(ended, time.Hour)
}
