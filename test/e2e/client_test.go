package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle/test/jupyter"
)

// TestPublishedClient launches with @jupyterhub/binderhub-client from npm, as it
// is published, and works in the server it is given.
func TestPublishedClient(t *testing.T) {
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
				t.Fatalf("%s is not installed and BINNACLE_TEST_REQUIRE=all", program)
			}
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix", dir, "@jupyterhub/binderhub-client@0.5.0").CombinedOutput()
	if err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	script := read(t, filepath.Join("..", "..", "internal", "hub", "testdata", "client.mjs"))
	if err := os.WriteFile(filepath.Join(dir, "client.mjs"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	repo := the.example(t, "requirements")
	cmd := exec.CommandContext(t.Context(), "node", "client.mjs", "git/"+url.QueryEscape(repo.URL)+"/HEAD", the.url()+"build")
	cmd.Dir = dir
	out, err = cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the client: %v\n%s", err, out)
	}
	var s jupyter.Server
	for line := range strings.SplitSeq(string(out), "\n") {
		if u, err := url.Parse(line); err == nil && strings.HasPrefix(line, the.url()+"user/") {
			s = jupyter.Server{URL: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "lab"), Token: u.Query().Get("token"), Client: http.DefaultClient}
		}
	}
	if s.URL == "" || s.Token == "" {
		t.Fatalf("the client was told of no server:\n%s", out)
	}
	cell(t, s, "import humanize; print(humanize.intcomma(1234))", "1,234")
	id := strings.Trim(strings.TrimPrefix(s.URL, the.url()+"user/"), "/")
	if err := the.operator().Stop(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// TestStrangersStayOut: a session answers nobody without its token.
func TestStrangersStayOut(t *testing.T) {
	repo := the.example(t, "plain")
	l, s := ready(t, the.public(), launchOf(repo.URL))
	other, o := ready(t, the.public(), launchOf(repo.URL))
	stopAfter(t, other)
	for name, token := range map[string]string{"none": "", "another session's": o.Token, "wrong": "x"} {
		for _, path := range []string{"api/kernels", "api/contents", "lab", "files/README.md", "api/terminals"} {
			if _, err := (jupyter.Server{URL: s.URL, Token: token, Client: noRedirects()}).Get(t.Context(), path); err == nil {
				t.Errorf("%s was answered with %s token", path, name)
			}
		}
	}
	if err := the.operator().Stop(t.Context(), l.Session.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "api/status"); err == nil || (!strings.Contains(err.Error(), "404") && !strings.Contains(err.Error(), "410")) {
		t.Errorf("a stopped session answers %v", err)
	}
}
