package binnacle

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Code is the class of an error. It decides the HTTP status, the exit code of
// the command line and whether trying again can help.
type Code string

// The codes. Anything without one is internal.
const (
	CodeInvalid      Code = "invalid"      // the request cannot be right: 400, exit 2
	CodeUnauthorized Code = "unauthorized" // who are you: 401, exit 4
	CodeForbidden    Code = "forbidden"    // not allowed: 403, exit 4
	CodeNotFound     Code = "not_found"    // 404, exit 3
	CodeConflict     Code = "conflict"     // 409, exit 3
	CodeBuildFailed  Code = "build_failed" // the repository's own fault: 422, exit 3
	CodeLimited      Code = "limited"      // a limit was reached: 429, exit 5, retry
	CodeUnavailable  Code = "unavailable"  // something we need is away: 503, exit 5, retry
	CodeTimeout      Code = "timeout"      // 504, exit 5, retry
	CodeCanceled     Code = "canceled"     // the person asked for it: exit 130
	CodeInternal     Code = "internal"     // ours: 500, exit 1
)

// Codes lists every code once.
func Codes() []Code {
	return []Code{
		CodeInvalid, CodeUnauthorized, CodeForbidden, CodeNotFound, CodeConflict, CodeBuildFailed,
		CodeLimited, CodeUnavailable, CodeTimeout, CodeCanceled, CodeInternal,
	}
}

// Retryable says whether the same request may succeed later.
func (c Code) Retryable() bool {
	return c == CodeLimited || c == CodeUnavailable || c == CodeTimeout
}

// Error is what a person is told when something fails. Message and Hint are
// shown as they are; Err is for the log only and never sent.
type Error struct {
	Code    Code   `json:"code"`
	Op      string `json:"-"`              // "build.solve"; for the operator
	Message string `json:"message"`        // a full sentence; no secrets, no paths of this machine
	Hint    string `json:"hint,omitempty"` // what to do next
	// File and Line (from 1; 0 unknown) name the repository's file at fault.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Excerpt are up to ten lines of what the tool that failed said, those that
	// show why, in its order and without colours; "…" stands where lines between
	// two of them are left out, and is not counted.
	Excerpt []string `json:"excerpt,omitempty"`
	// ID finds the occurrence in the operator's log; set where it is logged.
	ID  string `json:"id,omitempty"`
	Err error  `json:"-"`
}

func (e *Error) Error() string {
	s := e.Message
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with a code and a message for people. It takes no %w:
// set Err for a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf is the code of the first Error in err's chain; canceled and timeout
// for a bare context error, internal for anything else, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if errors.Is(err, context.Canceled) {
		return CodeCanceled
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return CodeTimeout
	}
	return CodeInternal
}

// Public is what may be shown of err: the first Error in its chain, or a fixed
// sentence. The result is a copy without Err.
func Public(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		c := *e
		c.Err = nil
		return &c
	}
	switch CodeOf(err) {
	case CodeCanceled:
		return Errorf(CodeCanceled, "This was canceled.")
	case CodeTimeout:
		return &Error{Code: CodeTimeout, Message: "This took too long.", Hint: "Try again in a few minutes."}
	default:
		return &Error{Code: CodeInternal, Message: "Something went wrong on our side.", Hint: "Tell the operator of this hub the id of this error."}
	}
}

// quote writes untrusted text so that it stays on one line and short.
func quote(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strconv.Quote(s)
}
