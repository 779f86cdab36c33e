package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// cell runs code in a new kernel and checks what it prints.
func cell(t *testing.T, s jupyter.Server, code, want string) {
	t.Helper()
	k, err := s.StartKernel(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	runCell(t, k, code, want)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

// runCell runs code in k.
func runCell(t *testing.T, k *jupyter.Kernel, code, want string) {
	t.Helper()
	res, err := k.Execute(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(res.Stdout + res.Text); res.Error != "" || got != want {
		t.Errorf("%s\ngave %q %s; want %q", code, got, res.Error, want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// processes is every command line of this machine.
func processes(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func launchOf(address string) binnacle.LaunchRequest { return binnacle.LaunchRequest{Repo: address} }

// noRedirects is a client that takes a redirect to a login page for what it is.
func noRedirects() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
