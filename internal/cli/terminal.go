package cli

import (
	"os"

	"golang.org/x/term"
)

// Terminal says whether f is a terminal that can be redrawn, and how wide it is.
func Terminal(f *os.File, environ []string) (is bool, width func() int) {
	fd := int(f.Fd())
	kind := lookup(environ, "TERM")
	width = func() int {
		w, _, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return w
	}
	return term.IsTerminal(fd) && kind != "dumb" && kind != "", width
}
