package cli

import (
	"errors"

	"github.com/binnacle-hub/binnacle"
)

// The exit codes.
const (
	ExitOK          = 0
	ExitInternal    = 1   // a fault of ours
	ExitUsage       = 2   // the request cannot be right
	ExitRefused     = 3   // the repository's fault, or it is not there
	ExitForbidden   = 4   // who you are, or what you may
	ExitUnavailable = 5   // later it may work
	ExitCanceled    = 130 // you asked for it, as for SIGINT
)

// ExitCode is the exit code of an error.
func ExitCode(err error) int {
	code := binnacle.CodeOf(err)
	if s, ok := errors.AsType[*silentError](err); ok {
		code = s.code
	}
	switch code {
	case "":
		return ExitOK
	case binnacle.CodeInvalid:
		return ExitUsage
	case binnacle.CodeUnauthorized, binnacle.CodeForbidden:
		return ExitForbidden
	case binnacle.CodeNotFound, binnacle.CodeConflict, binnacle.CodeBuildFailed:
		return ExitRefused
	case binnacle.CodeLimited, binnacle.CodeUnavailable, binnacle.CodeTimeout:
		return ExitUnavailable
	case binnacle.CodeCanceled:
		return ExitCanceled
	default:
		return ExitInternal
	}
}
