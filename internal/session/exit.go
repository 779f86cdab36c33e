package session

import (
	"fmt"
	"strconv"
	"syscall"

	"github.com/binnacle-hub/binnacle"
)

// KilledCode is the exit code of a process that was ended by force.
const KilledCode = 128 + int(syscall.SIGKILL)

// ExitByCode is a sentence about a server that ended with the code.
func ExitByCode(code int) string {
	switch code {
	case KilledCode:
		return "It was stopped by force."
	case 0:
		return "Its server ended."
	default:
		return fmt.Sprintf("Its server ended with code %d.", code)
	}
}

// ExitByMemory is a sentence about a session that used more memory than it may;
// 0 is an unknown limit.
func ExitByMemory(limit int64) string {
	if limit <= 0 {
		return "It used more memory than there was and was stopped."
	}
	return "It used more than " + size(limit) + " of memory and was stopped."
}

// ExitByDisk is a sentence about a session that wrote more than it may; 0 is an
// unknown limit.
func ExitByDisk(limit int64) string {
	if limit <= 0 {
		return "It wrote more to disk than it may and was stopped."
	}
	return "It wrote more than " + size(limit) + " to disk and was stopped."
}

func size(n int64) string {
	const mib, gib = 1 << 20, 1 << 30
	if n >= gib && n%gib == 0 {
		return strconv.FormatInt(n/gib, 10) + " GiB"
	}
	return strconv.FormatInt(n/mib, 10) + " MiB"
}

// Ended is the error of dialing a session that has exited.
func Ended(st Status) error {
	return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "session.dial", Message: "The session has ended.", Hint: st.Exit}
}

// NotThere is the error of a session that is not there.
func NotThere(id string) error {
	return binnacle.Errorf(binnacle.CodeNotFound, "There is no session %q.", id)
}

// Taken is the error of starting what is there already.
func Taken(id string) error {
	return binnacle.Errorf(binnacle.CodeConflict, "There is a session %q already.", id)
}
