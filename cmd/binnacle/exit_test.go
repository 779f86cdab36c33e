package main_test

import (
	"errors"
	"os/exec"
	"strconv"
)

func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return -1
}

func itoa(n int) string { return strconv.Itoa(n) }
