package hub

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// provider is what BinderHub's pages and clients know of one kind of address.
// The patterns are JavaScript's, for their eyes only.
type provider struct {
	display, validate, detect string
	label, placeholder        string
	encode                    bool
	oldText                   string // /_config's wording
}

// providers of this release; providerIDs is their order.
//
//nolint:gochecknoglobals // a constant table
var providers = map[binnacle.Provider]provider{
	binnacle.GitHub: {
		display: "GitHub", validate: `[^/]+/[^/]+/.+`, detect: `^(https?://github.com/)?(?<repo>.*[^/])/?`,
		label: "GitHub repository name or URL", oldText: "GitHub repository name or URL",
		placeholder: "example: binder-examples/requirements or https://github.com/binder-examples/requirements",
	},
	binnacle.Gist: {
		display: "GitHub Gist", validate: `[^/]+/[^/]+(/[^/]+)?`, detect: `^(https?://gist.github.com/)?(?<repo>.*[^/])/?`,
		label: "Gist ID (username/gistId) or URL", oldText: "Gist ID (username/gistId) or URL",
	},
	binnacle.Git: {
		display: "Git repository", validate: `[^/]+/.+`, encode: true,
		label: "Arbitrary git repository URL", oldText: "Arbitrary git repository URL (http://git.example.com/repo)",
		placeholder: "example: http://git.example.com/repo",
	},
	binnacle.GitLab: {
		display: "GitLab", validate: `[^/]+/.+`, detect: `^(https?://gitlab.com/)?(?<repo>.*[^/])/?`, encode: true,
		label: "GitLab repository name or URL", oldText: "GitLab.com repository or URL",
		placeholder: "example: https://gitlab.com/mosaik/examples/mosaik-tutorials-on-binder or mosaik/examples/mosaik-tutorials-on-binder",
	},
}

func providerIDs() []binnacle.Provider {
	return []binnacle.Provider{binnacle.GitHub, binnacle.Gist, binnacle.Git, binnacle.GitLab}
}

// getProviders is BinderHub's /api/repoproviders.
func getProviders(w http.ResponseWriter, _ *http.Request) error {
	var list []any
	for _, id := range providerIDs() {
		p := providers[id]
		o := object{{"displayName", p.display}, {"id", string(id)}, {"spec", object{{"validateRegex", p.validate}}}}
		if p.detect != "" {
			o = append(o, pair{"detect", object{{"regex", p.detect}}})
		}
		list = append(list, append(o,
			pair{"repo", object{{"label", p.label}, {"placeholder", p.placeholder}, {"urlEncode", p.encode}}},
			pair{"ref", object{{"enabled", true}, {"default", binnacle.HeadRef}}}))
	}
	return writePython(w, http.StatusOK, list)
}

// getConfig is /_config, which older pages and scripts still read.
func getConfig(w http.ResponseWriter, _ *http.Request) error {
	var o object
	for _, id := range providerIDs() {
		o = append(o, pair{string(id), object{
			{"text", providers[id].oldText},
			{"tag_text", "Git ref (branch, tag, or commit)"},
			{"ref_prop_disabled", false},
			{"label_prop_disabled", false},
		}})
	}
	return writePython(w, http.StatusOK, o)
}

// getVersions is /versions. BinderHub's federation takes only members whose
// whole answer equals that of the first.
func (h *Hub) getVersions(w http.ResponseWriter, _ *http.Request) error {
	if h.cfg.AllowOrigin == "" {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}
	return writePython(w, http.StatusOK, object{
		{"builder_info", object{{"binnacle-version", h.cfg.Version}}}, {"binderhub", h.cfg.Version},
	})
}

func writePython(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err := w.Write([]byte(strings.ReplaceAll(string(python(v)), "</", `<\/`)))
	return err
}

// Check is one thing /health asks.
type Check struct {
	Service string // "containerd", "disk"
	Run     func(ctx context.Context) error
}

// Quota is what the machine runs now and may run.
type Quota struct {
	Builds, Sessions, Limit int
}

const (
	healthTimeout = 3 * time.Second
	healthFor     = 5 * time.Second // callers within share one answer
)

// healthCache keeps a crowd of load balancers from becoming a load.
type healthCache struct {
	mu     sync.Mutex
	at     time.Time
	ok     bool
	answer object
}

func (h *Hub) getHealth(w http.ResponseWriter, r *http.Request) error {
	c := &h.health
	c.mu.Lock()
	if time.Since(c.at) > healthFor {
		// One caller asks for all: its leaving must not fail the others.
		c.ok, c.answer = h.askHealth(context.WithoutCancel(r.Context()))
		c.at = time.Now()
	}
	ok, answer := c.ok, c.answer
	c.mu.Unlock()
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	return writePython(w, status, answer)
}

func (h *Hub) askHealth(ctx context.Context) (bool, object) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	errs := make([]error, len(h.deps.Checks))
	var wg sync.WaitGroup
	for i, check := range h.deps.Checks {
		wg.Go(func() { errs[i] = check.Run(ctx) })
	}
	wg.Wait()
	ok, checks := true, []any{}
	for i, check := range h.deps.Checks {
		if errs[i] != nil {
			ok = false
			h.log.WarnContext(ctx, "health check failed", "service", check.Service, "error", errs[i])
		}
		checks = append(checks, object{{"service", check.Service}, {"ok", errs[i] == nil}})
	}
	if h.deps.Quota != nil {
		if q, err := h.deps.Quota(ctx); err == nil {
			total := q.Builds + q.Sessions
			checks = append(checks, object{
				{"service", "Pod quota"},
				{"total_pods", total},
				{"build_pods", q.Builds},
				{"user_pods", q.Sessions},
				{"quota", q.Limit},
				{"ok", total <= q.Limit},
				{"_ignore_failure", true},
			})
		}
	}
	return ok, object{{"ok", ok}, {"checks", checks}}
}

// legacyRepo is /repo/<user>/<repository>[/path], from before there were providers.
func (h *Hub) legacyRepo(w http.ResponseWriter, r *http.Request) error {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.EscapedPath(), "/repo/"), "/", 3)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return errNoPage()
	}
	// The parts are escaped and stay behind a fixed beginning: no other host
	// can be reached through here.
	to := "/v2/gh/" + parts[0] + "/" + parts[1] + "/master"
	if len(parts) == 3 && parts[2] != "" {
		rest, err := url.PathUnescape(parts[2])
		if err != nil {
			return errNoPage()
		}
		to += "?urlpath=" + url.QueryEscape("/"+rest)
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
	return nil
}

func errNoPage() error {
	return &binnacle.Error{Code: binnacle.CodeNotFound, Message: "There is no such page.", Hint: "Begin at the home page."}
}
