package hub

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

//go:embed openapi.json
var openAPI []byte

// maxBody bounds what is read of a request; a launch with many variables is far below.
const maxBody = 1 << 20

// route is one method of the API; the table is also what the tests walk.
type route struct {
	method, pattern string
	handler         handlerFunc
	trusted         bool // only for the operator
}

func (h *Hub) apiRoutes() []route {
	return []route{
		{method: "POST", pattern: "/api/launches", handler: h.postLaunch},
		{method: "GET", pattern: "/api/launches", handler: h.listLaunches},
		{method: "GET", pattern: "/api/launches/{id}", handler: h.getLaunch},
		{method: "DELETE", pattern: "/api/launches/{id}", handler: h.deleteLaunch},
		{method: "GET", pattern: "/api/launches/{id}/events", handler: h.launchEvents},
		{method: "GET", pattern: "/api/launches/{id}/log", handler: h.launchLog},
		{method: "GET", pattern: "/api/launches/{id}/resolved", handler: h.listResolved},
		{method: "GET", pattern: "/api/launches/{id}/resolved/{name}", handler: h.getResolved},
		{method: "GET", pattern: "/api/sessions", handler: h.listSessions},
		{method: "GET", pattern: "/api/sessions/{id}", handler: h.getSession},
		{method: "DELETE", pattern: "/api/sessions/{id}", handler: h.deleteSession},
		{method: "POST", pattern: "/api/sessions/{id}/keep-alive", handler: h.keepAlive},
		{method: "GET", pattern: "/api/sessions/{id}/log", handler: h.sessionLog},
		{method: "GET", pattern: "/api/parse", handler: h.getParse},
		{method: "POST", pattern: "/api/parse", handler: h.postParse},
		{method: "GET", pattern: "/api/version", handler: h.getVersion},
		{method: "GET", pattern: "/api/openapi.json", handler: getOpenAPI},
		{method: "GET", pattern: "/api/repoproviders", handler: getProviders},
		{method: "GET", pattern: "/api/usage", handler: h.getUsage, trusted: true},
		{method: "POST", pattern: "/api/clean", handler: h.postClean, trusted: true},
	}
}

// mountAPI registers the routes, and for every address what other methods get.
func (h *Hub) mountAPI(mux *http.ServeMux, trusted bool) {
	allow := map[string][]string{}
	for _, rt := range h.api {
		if rt.trusted && !trusted {
			continue
		}
		mux.Handle(rt.method+" "+rt.pattern, h.handle(rt.pattern, rt.handler, jsonError))
		allow[rt.pattern] = append(allow[rt.pattern], rt.method)
	}
	for pattern, methods := range allow {
		slices.Sort(methods)
		mux.Handle(pattern, h.handle(pattern, func(http.ResponseWriter, *http.Request) error {
			return &methodError{allow: strings.Join(methods, ", ")}
		}, jsonError))
	}
	mux.Handle("/api/", h.handle("/api/", func(http.ResponseWriter, *http.Request) error {
		return &binnacle.Error{Code: binnacle.CodeNotFound, Message: "The API has no such address.", Hint: "See /api/openapi.json."}
	}, jsonError))
}

func (h *Hub) postLaunch(w http.ResponseWriter, r *http.Request) error {
	c, err := h.caller(w, r, true)
	if err != nil {
		return err
	}
	var req binnacle.LaunchRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	l, err := h.deps.Service.Launch(ctx, c, req)
	if err != nil {
		return err
	}
	h.watch.observe(c, l.ID, false)
	w.Header().Set("Location", "/api/launches/"+l.ID)
	return writeJSON(w, http.StatusAccepted, h.absolute(r, l))
}

func (h *Hub) listLaunches(w http.ResponseWriter, r *http.Request) error {
	c, err := h.caller(w, r, false)
	if err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	list, err := h.deps.Service.List(ctx, c)
	if err != nil {
		return err
	}
	out := make([]binnacle.Launch, 0, len(list))
	for _, l := range list {
		out = append(out, h.absolute(r, l))
	}
	return writeJSON(w, http.StatusOK, out)
}

// launchOf finds the launch a request names.
func (h *Hub) launchOf(w http.ResponseWriter, r *http.Request) (Caller, binnacle.Launch, error) {
	c, err := h.caller(w, r, false)
	if err != nil {
		return c, binnacle.Launch{}, err
	}
	id, err := pathID(r)
	if err != nil {
		return c, binnacle.Launch{}, err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	l, err := h.deps.Service.Get(ctx, c, id)
	return c, l, err
}

func (h *Hub) getLaunch(w http.ResponseWriter, r *http.Request) error {
	_, l, err := h.launchOf(w, r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, h.absolute(r, l))
}

func (h *Hub) deleteLaunch(w http.ResponseWriter, r *http.Request) error {
	c, l, err := h.launchOf(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	if err := h.deps.Service.Cancel(ctx, c, l.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Hub) listSessions(w http.ResponseWriter, r *http.Request) error {
	c, err := h.caller(w, r, false)
	if err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	list, err := h.deps.Service.Sessions(ctx, c)
	if err != nil {
		return err
	}
	out := make([]binnacle.Session, 0, len(list))
	for _, s := range list {
		out = append(out, h.absoluteSession(r, s))
	}
	return writeJSON(w, http.StatusOK, out)
}

// sessionOf finds the session a request names among the caller's.
func (h *Hub) sessionOf(w http.ResponseWriter, r *http.Request) (Caller, binnacle.Session, error) {
	c, err := h.caller(w, r, false)
	if err != nil {
		return c, binnacle.Session{}, err
	}
	id, err := pathID(r)
	if err != nil {
		return c, binnacle.Session{}, err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	s, err := h.deps.Service.Session(ctx, c, id)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		err = &binnacle.Error{
			Code: binnacle.CodeNotFound, Message: "This session is not running, or it is not yours.", Hint: "Launch the repository again.", Err: err,
		}
	}
	return c, s, err
}

func (h *Hub) getSession(w http.ResponseWriter, r *http.Request) error {
	_, s, err := h.sessionOf(w, r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, h.absoluteSession(r, s))
}

func (h *Hub) deleteSession(w http.ResponseWriter, r *http.Request) error {
	c, s, err := h.sessionOf(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	if err := h.deps.Service.Stop(ctx, c, s.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Hub) keepAlive(w http.ResponseWriter, r *http.Request) error {
	c, s, err := h.sessionOf(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := h.quick(r)
	defer cancel()
	if s, err = h.deps.Service.KeepAlive(ctx, c, s.ID); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, h.absoluteSession(r, s))
}

func (h *Hub) getVersion(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, VersionInfo{Version: h.cfg.Version})
}

// VersionInfo is what /api/version answers.
type VersionInfo struct {
	Version string `json:"version"`
}

func getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(openAPI)
	return err
}

func (h *Hub) getUsage(w http.ResponseWriter, r *http.Request) error {
	if h.deps.Janitor == nil || !isTrusted(r) {
		return binnacle.Errorf(binnacle.CodeNotFound, "This hub does not tell what takes disk.")
	}
	u, err := h.deps.Janitor.Usage(r.Context())
	if err != nil {
		return err
	}
	u.Parts = orEmpty(u.Parts)
	return writeJSON(w, http.StatusOK, u)
}

func (h *Hub) postClean(w http.ResponseWriter, r *http.Request) error {
	if h.deps.Janitor == nil || !isTrusted(r) {
		return binnacle.Errorf(binnacle.CodeNotFound, "This hub does not clean on request.")
	}
	var req CleanRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	rep, err := h.deps.Janitor.Clean(r.Context(), req)
	if err != nil {
		return err
	}
	rep.Parts, rep.After.Parts = orEmpty(rep.Parts), orEmpty(rep.After.Parts)
	return writeJSON(w, http.StatusOK, rep)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// absolute makes the address of a launch's session one that can be opened.
func (h *Hub) absolute(r *http.Request, l binnacle.Launch) binnacle.Launch {
	l.Phases = orEmpty(l.Phases)
	if l.Session != nil {
		s := h.absoluteSession(r, *l.Session)
		l.Session = &s
	}
	return l
}

func (h *Hub) absoluteSession(r *http.Request, s binnacle.Session) binnacle.Session {
	if strings.HasPrefix(s.URL, "/") {
		s.URL = h.base(r) + s.URL
	} else if own := strings.TrimSuffix(h.cfg.URL, "/"); len(h.cfg.Aliases) > 0 && strings.HasPrefix(s.URL, own+"/") {
		s.URL = h.base(r) + strings.TrimPrefix(s.URL, own)
	}
	return s
}

// pathID is the id in the address; ids are short and of few characters, and
// what is not one need not be looked for.
func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	ok := id != "" && len(id) <= 63 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	if !ok {
		return "", binnacle.Errorf(binnacle.CodeNotFound, "Nothing is called %q here.", clip(id, 63))
	}
	return id, nil
}

// readJSON reads a request's body into v; unknown keys are a mistake worth telling.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	// A form of another site can send text/plain without the browser asking first.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Message: "The request's body is not JSON.", Hint: "Send it with Content-Type: application/json."}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.Decode(&struct{}{}) != io.EOF {
		err = errors.New("something follows the object")
	}
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Message: "The request's body is not what is expected here: " + clip(err.Error(), 200) + ".", Hint: "See /api/openapi.json.", Err: err}
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(data, '\n'))
	return err
}

// sessionLog streams what a session's server wrote.
func (h *Hub) sessionLog(w http.ResponseWriter, r *http.Request) error {
	c, s, err := h.sessionOf(w, r)
	if err != nil {
		return err
	}
	return h.plain(w, r, func(ctx context.Context, out io.Writer) error {
		return h.deps.Service.Logs(ctx, c, s.ID, isTrue(r.URL.Query().Get("follow")), out)
	})
}

func isTrue(s string) bool { return strings.EqualFold(s, "true") || s == "1" }
