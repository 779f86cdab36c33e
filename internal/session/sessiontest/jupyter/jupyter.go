// Package jupyter speaks as much of a Jupyter server's HTTP interface as tests
// of what stands before it need: the API's status and kernels, a WebSocket that
// echoes, the page of JupyterLab, and its ways to hand over a token. The session
// fake runs it in-process, the test image in a container.
package jupyter

import (
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Server answers below a base URL.
type Server struct {
	baseURL, token string
	mux            *http.ServeMux
	started        time.Time
	busy           atomic.Bool
	connections    atomic.Int64
	activity       atomic.Int64 // UnixNano
}

// KernelID is the one kernel there is.
const KernelID = "11111111-2222-3333-4444-555555555555"

// New makes a server. baseURL begins and ends with a slash; an empty token lets
// everybody in.
func New(baseURL, token string) *Server {
	s := &Server{baseURL: baseURL, token: token, mux: http.NewServeMux(), started: time.Now()}
	s.activity.Store(s.started.UnixNano())
	s.mux.HandleFunc("GET /api", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]string{"version": "2.99.0"}) })
	s.mux.HandleFunc("GET /api/status", s.status)
	s.mux.HandleFunc("GET /api/kernels", func(w http.ResponseWriter, _ *http.Request) { reply(w, []any{s.kernel()}) })
	s.mux.HandleFunc("GET /api/kernels/{id}/channels", s.channels)
	s.mux.HandleFunc("GET /lab", page)
	s.mux.HandleFunc("GET /lab/", page)
	s.mux.HandleFunc("GET /tree", page)
	s.mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	return s
}

// SetBusy says whether the kernel computes.
func (s *Server) SetBusy(busy bool) { s.busy.Store(busy) }

// Handle adds an address below the base URL that needs the token.
func (s *Server) Handle(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// ServeHTTP answers like a Jupyter server: /api is open, all else needs the token.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, s.baseURL) {
		http.NotFound(w, r)
		return
	}
	rest := "/" + strings.TrimPrefix(r.URL.Path, s.baseURL)
	if rest != "/api" && !s.known(w, r) {
		if strings.HasPrefix(rest, "/lab") || strings.HasPrefix(rest, "/tree") {
			http.Redirect(w, r, s.baseURL+"login?next="+r.URL.Path, http.StatusFound) //nolint:gosec // below our own base URL; a fake
			return
		}
		w.WriteHeader(http.StatusForbidden)
		reply(w, map[string]string{"message": "Forbidden"})
		return
	}
	http.StripPrefix(strings.TrimSuffix(s.baseURL, "/"), s.mux).ServeHTTP(w, r)
}

func (s *Server) known(w http.ResponseWriter, r *http.Request) bool {
	if s.token == "" {
		return true
	}
	given := r.URL.Query().Get("token")
	if word, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && (strings.EqualFold(word, "token") || strings.EqualFold(word, "bearer")) {
		given = value
	}
	const cookie = "jupyter-session"
	if c, err := r.Cookie(cookie); err == nil && given == "" {
		given = c.Value
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
		return false
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: given, Path: s.baseURL, HttpOnly: true, SameSite: http.SameSiteLaxMode}) //nolint:gosec // as Jupyter does; a fake
	return true
}

func (s *Server) kernel() map[string]any {
	state := "idle"
	if s.busy.Load() {
		state = "busy"
	}
	return map[string]any{
		"id": KernelID, "name": "python3", "execution_state": state,
		"connections": s.connections.Load(), "last_activity": s.last(),
	}
}

func (s *Server) last() string { return time.Unix(0, s.activity.Load()).UTC().Format(time.RFC3339Nano) }

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{
		"started": s.started.UTC().Format(time.RFC3339Nano), "last_activity": s.last(),
		"connections": s.connections.Load(), "kernels": 1,
	})
}

// channels echoes every message.
func (s *Server) channels(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = c.CloseNow() }() // a broken connection is closed already
	s.connections.Add(1)
	defer s.connections.Add(-1)
	c.SetReadLimit(-1)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		s.activity.Store(time.Now().UnixNano())
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!doctype html><html lang=\"en\"><title>JupyterLab</title><body><div id=\"main\">JupyterLab</div></body></html>")
}

func reply(w http.ResponseWriter, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}
