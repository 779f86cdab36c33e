package cli

import (
	"context"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
)

// openBrowser opens the address where there is a desktop. The token stays off
// command lines, which everybody on the machine can read: the browser is given
// a private file that leads on. The returned func removes it.
func (a *app) openBrowser(ctx context.Context, address string) func() {
	nothing := func() {}
	if lookup(a.Environ, "DISPLAY") == "" && lookup(a.Environ, "WAYLAND_DISPLAY") == "" {
		return nothing
	}
	tool, err := exec.LookPath("xdg-open")
	if err != nil {
		return nothing
	}
	dir, err := os.MkdirTemp("", "binnacle-open-")
	if err != nil {
		return nothing
	}
	remove := func() { _ = os.RemoveAll(dir) }
	page := fmt.Sprintf("<!doctype html><meta http-equiv=refresh content=\"0;url=%[1]s\"><a href=\"%[1]s\">Open the session</a>\n", html.EscapeString(address))
	file := filepath.Join(dir, "open.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		remove()
		return nothing
	}
	if err := exec.CommandContext(context.WithoutCancel(ctx), tool, file).Run(); err != nil {
		fmt.Fprintln(a.Err, "The browser could not be opened; open the address above.")
	}
	return remove
}
