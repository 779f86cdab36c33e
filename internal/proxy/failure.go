package proxy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

//go:embed page.html
var pageHTML string

// retrySeconds is how soon a page that waits asks again.
const retrySeconds = 2

// page is what page.html shows.
type page struct {
	Title   string
	Message string
	Hint    string
	Hub     string
	Refresh int // seconds; 0: it does not reload itself
}

// mustListen breaks off when the client went away. Returning would let net/http
// send an empty 200, which a client that closed only its own side takes as the
// session's answer.
func mustListen(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// failDial answers a request whose session cannot be reached.
func (p *Proxy) failDial(w http.ResponseWriter, r *http.Request, rt route, err error) {
	mustListen(r)
	code := binnacle.CodeOf(err)
	if code == binnacle.CodeNotFound || code == binnacle.CodeUnavailable {
		if e := p.gone(rt.id); e != nil {
			p.fail(w, r, rt, http.StatusGone, e)
			return
		}
	}
	switch code {
	case binnacle.CodeNotFound:
		p.fail(w, r, rt, http.StatusNotFound, &binnacle.Error{
			Code: code, Message: "There is no session at this address.", Hint: "It may have ended. Launch the repository again.",
		})
	case binnacle.CodeUnavailable:
		e := &binnacle.Error{Code: code, Message: "The session has stopped.", Hint: "Launch the repository again."}
		if own, ok := errors.AsType[*binnacle.Error](err); ok && own.Message != "" {
			e.Message = own.Message
			if own.Hint != "" {
				e.Hint = own.Hint
			}
		}
		p.fail(w, r, rt, http.StatusServiceUnavailable, e)
	case binnacle.CodeTimeout:
		p.fail(w, r, rt, http.StatusServiceUnavailable, &binnacle.Error{
			Code: code, Message: "The session is still starting.", Hint: "This page tries again by itself.",
		})
	default:
		p.failBackend(w, r, rt, err)
	}
}

// gone is what to say of a session that is known to have ended, or nil.
func (p *Proxy) gone(id string) *binnacle.Error {
	reasons := p.reasons.Load()
	if reasons == nil {
		return nil
	}
	reason, ok := (*reasons).Gone(id)
	if !ok {
		return nil
	}
	if reason == "" {
		reason = "The session has ended."
	}
	return &binnacle.Error{Code: binnacle.CodeNotFound, Message: reason, Hint: "What was not downloaded is gone. Launch the repository again to start anew."}
}

// failBackend answers a request on which the session's server broke off.
func (p *Proxy) failBackend(w http.ResponseWriter, r *http.Request, rt route, err error) {
	mustListen(r)
	// The session may have been stopped under the request.
	if e := p.gone(rt.id); e != nil {
		p.fail(w, r, rt, http.StatusGone, e)
		return
	}
	p.log.WarnContext(r.Context(), "session did not answer", keySession, rt.id, keyCode, binnacle.CodeOf(err), keyError, err)
	p.fail(w, r, rt, http.StatusBadGateway, &binnacle.Error{
		Code: binnacle.CodeUnavailable, Message: "The session's server did not answer.",
		Hint: "Reload the page in a moment. If that does not help, stop the session and launch it again.",
	})
}

// fail sends an error of ours, as a page or as JSON.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, rt route, status int, e *binnacle.Error) {
	p.stats.failed.Add(1)
	starting := e.Code == binnacle.CodeTimeout
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if starting || status == http.StatusBadGateway {
		h.Set("Retry-After", strconv.Itoa(retrySeconds))
	}
	var body bytes.Buffer
	if wantsPage(r, rt) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
		data := page{Title: title(status, starting), Message: e.Message, Hint: e.Hint, Hub: p.cfg.HubURL}
		if data.Hub == "" {
			data.Hub = "/"
		}
		if starting && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			data.Refresh = retrySeconds
		}
		if err := p.page.Execute(&body, data); err != nil {
			p.log.ErrorContext(r.Context(), "error page is broken", keyError, err)
		}
	} else {
		h.Set("Content-Type", "application/json")
		if err := json.NewEncoder(&body).Encode(e); err != nil {
			p.log.ErrorContext(r.Context(), "error is not encoded", keyError, err)
		}
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes())
	}
}

func title(status int, starting bool) string {
	switch {
	case starting:
		return "Still starting"
	case status == http.StatusGone, status == http.StatusServiceUnavailable:
		return "Stopped"
	case status == http.StatusNotFound:
		return "Not here"
	case status == http.StatusBadGateway:
		return "No answer"
	}
	return "Not possible"
}

// wantsPage says whether a person's browser asks for something to show.
func wantsPage(r *http.Request, rt route) bool {
	if first, _, _ := strings.Cut(pathOf(rt.rest), "/"); first == "api" || isUpgrade(r) {
		return false
	}
	accept := r.Header.Get("Accept")
	if at := strings.Index(accept, "json"); at >= 0 {
		html := strings.Index(accept, "text/html")
		return html >= 0 && html < at
	}
	return true
}
