package hub

import (
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// contentPolicy lets a page load only what this hub sends, run no script of
// its own text, and be framed by nobody.
const contentPolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// publicMux parts the hosts and paths of sessions from the hub's own.
func (h *Hub) publicMux() http.Handler { return h.dispatch(h.mux(false)) }

func (h *Hub) trustedMux() http.Handler { return h.dispatch(h.mux(true)) }

// dispatch serves the addresses that hold a spec. Those may hold escaped and
// doubled slashes, which http.ServeMux would "clean" into another address.
func (h *Hub) dispatch(rest http.Handler) http.Handler {
	build := h.handle("/build/", h.build, jsonError)
	launch := h.handle("/v2/", h.launchPage, h.pageError)
	legacy := h.handle("/repo/", h.legacyRepo, h.pageError)
	wrong := h.handle("/build/", func(http.ResponseWriter, *http.Request) error { return &methodError{allow: "GET, HEAD, OPTIONS"} }, jsonError)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.EscapedPath()
		spec := strings.HasPrefix(p, "/build/") || strings.HasPrefix(p, "/v2/") || strings.HasPrefix(p, "/repo/")
		switch {
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusOK)
		case spec && r.Method != http.MethodGet && r.Method != http.MethodHead, p == "/build/" || p == "/repo/":
			wrong.ServeHTTP(w, r)
		case strings.HasPrefix(p, "/build/"):
			build.ServeHTTP(w, r)
		case strings.HasPrefix(p, "/v2/"):
			launch.ServeHTTP(w, r)
		case strings.HasPrefix(p, "/repo/"):
			legacy.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	})
}

// mux serves the addresses with a fixed form.
func (h *Hub) mux(trusted bool) http.Handler {
	mux := http.NewServeMux()
	h.mountAPI(mux, trusted)
	page := func(pattern string, f handlerFunc) {
		mux.Handle(pattern, h.handle(strings.TrimPrefix(pattern, "GET "), f, h.pageError))
	}
	data := func(pattern string, f handlerFunc) {
		mux.Handle(pattern, h.handle(strings.TrimPrefix(pattern, "GET "), f, jsonError))
	}
	page("GET /{$}", h.homePage)
	page("GET /sessions", h.sessionsPage)
	page("GET /about", h.aboutPage)
	page("GET /static/", h.web.static)
	for _, name := range h.web.rootFiles() {
		page("GET "+name, h.web.rootFile)
	}
	page("GET /robots.txt", robots)
	data("GET /versions", h.getVersions)
	data("GET /health", h.getHealth)
	data("GET /_config", getConfig)
	data("GET /metrics", func(w http.ResponseWriter, r *http.Request) error {
		if !h.mayMeasure(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			return &binnacle.Error{
				Code: binnacle.CodeUnauthorized, Message: "The figures of this hub are for its operator.",
				Hint: "Send the metrics_token of its configuration: Authorization: Bearer TOKEN.",
			}
		}
		ctx, cancel := h.quick(r)
		defer cancel()
		h.watch.settle(ctx)
		h.metrics.handler.ServeHTTP(w, r)
		return nil
	})
	mux.Handle("/", h.handle("/", func(http.ResponseWriter, *http.Request) error { return errNoPage() }, h.pageError))
	return mux
}

// mayMeasure says whether r has the token for /metrics, or needs none.
func (h *Hub) mayMeasure(r *http.Request) bool {
	want := h.cfg.MetricsToken
	sent, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return want == "" || isTrusted(r) || ok && subtle.ConstantTimeCompare([]byte(sent), []byte(want)) == 1
}

func robots(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// A crawler that follows badges would launch every repository it meets.
	_, err := w.Write([]byte("User-agent: *\nDisallow: /\n"))
	return err
}

// headers sends sessions to the proxy untouched and gives all else its headers
// and its line in the log.
func (h *Hub) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.sessionHost(r.Host) || r.URL.Path == "/user" || strings.HasPrefix(r.URL.Path, "/user/") {
			h.deps.Proxy.ServeHTTP(w, r)
			return
		}
		head := w.Header()
		head.Set("Content-Security-Policy", contentPolicy)
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Access-Control-Allow-Headers", "cache-control")
		if h.cfg.AllowOrigin != "" {
			head.Set("Access-Control-Allow-Origin", h.cfg.AllowOrigin)
			if h.cfg.AllowOrigin != "*" {
				head.Add("Vary", "Origin")
			}
		}
		if h.secure(r) {
			head.Set("Strict-Transport-Security", "max-age=31536000")
		}
		start, rec := time.Now(), &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		// The query may hold a token; the path is a stranger's text of any length.
		h.log.LogAttrs(r.Context(), requestLevel(r.URL.Path), "request", slog.String("method", clip(r.Method, 20)),
			slog.String("path", clip(r.URL.EscapedPath(), 200)), slog.Int("status", rec.status), slog.Duration("duration", time.Since(start)))
	})
}

// requestLevel keeps what machines ask for all the time out of the log.
func requestLevel(path string) slog.Level {
	if path == "/health" || path == "/metrics" || path == "/versions" || strings.HasPrefix(path, "/static/") {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (h *Hub) sessionHost(host string) bool {
	if h.cfg.SessionDomain == "" {
		return false
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), "."+strings.ToLower(h.cfg.SessionDomain))
}
