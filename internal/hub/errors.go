package hub

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// retryAfter is what a client that met a limit is told to wait, in seconds.
const retryAfter = "30"

// Status is the HTTP status of an error's code.
func Status(code binnacle.Code) int {
	switch code {
	case binnacle.CodeInvalid:
		return http.StatusBadRequest
	case binnacle.CodeUnauthorized:
		return http.StatusUnauthorized
	case binnacle.CodeForbidden:
		return http.StatusForbidden
	case binnacle.CodeNotFound:
		return http.StatusNotFound
	case binnacle.CodeConflict:
		return http.StatusConflict
	case binnacle.CodeBuildFailed:
		return http.StatusUnprocessableEntity
	case binnacle.CodeLimited:
		return http.StatusTooManyRequests
	case binnacle.CodeUnavailable:
		return http.StatusServiceUnavailable
	case binnacle.CodeTimeout:
		return http.StatusGatewayTimeout
	case binnacle.CodeCanceled:
		return 499 // nobody is meant to read it
	default:
		return http.StatusInternalServerError
	}
}

// methodError is an invalid request whose status says more: 405.
type methodError struct{ allow string }

func (e *methodError) Error() string { return "method not allowed; allowed: " + e.allow }

// handlerFunc answers a request or says why not.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// renderError writes a public error; pages and programs want it differently.
type renderError func(w http.ResponseWriter, r *http.Request, status int, e *binnacle.Error)

// handle is the one place where an error becomes an answer and a log line.
func (h *Hub) handle(pattern string, f handlerFunc, render renderError) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		err := f(rec, r)
		h.metrics.request(pattern, r.Method, rec.status, err)
		if err == nil || r.Context().Err() != nil {
			return // done, or nobody is left to be told
		}
		if m, ok := errors.AsType[*methodError](err); ok {
			rec.Header().Set("Allow", m.allow)
			render(rec, r, http.StatusMethodNotAllowed, &binnacle.Error{Code: binnacle.CodeInvalid, Message: "This address does not take " + r.Method + ".", Hint: "It takes " + m.allow + "."})
			return
		}
		e := h.report(r, pattern, err)
		if rec.status != 0 {
			return // the answer has begun: it can only be cut
		}
		if e.Code.Retryable() {
			rec.Header().Set("Retry-After", retryIn(err))
		}
		render(rec, r, Status(e.Code), e)
	})
}

// retryIn is when to come again, in seconds: what the error says, or a while.
func retryIn(err error) string {
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return strconv.Itoa(int(math.Ceil(e.RetryAfter().Seconds())))
	}
	return retryAfter
}

// report makes err fit to be shown and logs the whole of it under its id.
func (h *Hub) report(r *http.Request, pattern string, err error) *binnacle.Error {
	e := binnacle.Public(err)
	if e.ID == "" {
		e.ID = strings.ToLower(rand.Text()[:10])
	}
	level := slog.LevelInfo
	switch e.Code {
	case binnacle.CodeInternal:
		level = slog.LevelError
	case binnacle.CodeUnavailable, binnacle.CodeTimeout:
		level = slog.LevelWarn
	}
	h.log.LogAttrs(r.Context(), level, "request failed",
		slog.String("route", pattern), slog.String("code", string(e.Code)), slog.String("err_id", e.ID), slog.String("error", clip(err.Error(), 2000)))
	return e
}

// jsonError is the API's form of an error.
func jsonError(w http.ResponseWriter, _ *http.Request, status int, e *binnacle.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e) // the client is gone: nobody is left to tell
}

// clip bounds text that a stranger wrote.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// recorder remembers whether and how an answer began.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write remembers that the answer began.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
