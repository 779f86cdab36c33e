package cli

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// leaving is a replica that has been told to end. The load balancer leads no new
// connection to it any more, but browsers, clients and ingress controllers keep those
// they have, and what they ask in the moment in which these close would fail. So each
// is asked to close with the next answer, while everything still works.
type leaving struct{ is atomic.Bool }

// begin asks for that, and returns when ctx ends or after patience.
func (l *leaving) begin(ctx context.Context, patience time.Duration) {
	l.is.Store(true)
	select {
	case <-time.After(patience):
	case <-ctx.Done():
	}
}

// tell says it with each answer of next: "Connection: close" ends the connection
// (RFC 9112, section 9.6), and of HTTP/2 Go's server makes a GOAWAY of it. A connection
// that becomes a WebSocket keeps its own word there.
func (l *leaving) tell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.is.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
