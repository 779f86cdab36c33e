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

// TestTerminal: a terminal has the environment of the notebooks, and what the start
// script made of it. It is a login shell, whose PATH Debian's profile would replace.
func TestTerminal(t *testing.T) {
	repo, err := the.git.Repo(t.Context(), "terminal", plainDir(t, map[string]string{
		"requirements.txt": "six\n", "start": "#!/bin/bash\nexport PATH=/srv/tide/bin:$PATH TIDE=high\nexec \"$@\"\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	l, s := ready(t, the.public(), launchOf(repo.URL))
	stopAfter(t, l)
	got, err := s.Terminal(t.Context(), `shopt -q login_shell && echo login; command -v python pip jupyter; python -c 'import six; print("six")'; echo $TIDE ${PATH%%:*}`)
	const bin = "/srv/conda/envs/notebook/bin/"
	if want := "login\n" + bin + "python\n" + bin + "pip\n" + bin + "jupyter\nsix\nhigh /srv/tide/bin\n"; err != nil || got != want {
		t.Errorf("the terminal says %q %v, want %q", got, err, want)
	}
}
