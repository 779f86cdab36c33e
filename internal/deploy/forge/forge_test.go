package forge_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
	"github.com/binnacle-hub/binnacle/internal/deploy/forge"
	"github.com/binnacle-hub/binnacle/test/forgehost"
)

// repositories are addresses of one, by kind of forge.
func repositories() map[string]string {
	return map[string]string{
		forge.GitHub: "/institute/hub.git", forge.Gitea: "/institute/hub", forge.GitLab: "/institute/group/hub.git", forge.Azure: "/institute/group/_git/hub",
	}
}

// each runs a test against every kind of forge.
func each(t *testing.T, test func(t *testing.T, h *forgehost.Host, c *forge.Client, kind string)) {
	t.Helper()
	for kind, path := range repositories() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h, err := forgehost.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			c, err := forge.New(forge.Options{Kind: kind, Repository: h.URL + path, Token: forgehost.Token, HTTP: new(http.Client)})
			if err != nil {
				t.Fatal(err)
			}
			test(t, h, c, kind)
			if bad := h.Refused(); len(bad) > 0 && kind != forge.GitLab {
				t.Errorf("refused: %q", bad)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	words := map[string][]string{
		forge.GitHub: {"pending", "success", "failure", "error"}, forge.Gitea: {"pending", "success", "failure", "error"},
		forge.GitLab: {"running", "success", "failed"}, forge.Azure: {"pending", "succeeded", "failed", "error"},
	}
	each(t, func(t *testing.T, h *forgehost.Host, c *forge.Client, kind string) {
		t.Helper()
		long := strings.Repeat("why ä ", 100)
		for _, s := range []forge.State{forge.Pending, forge.Success, forge.Failure, forge.Trouble} {
			if err := c.Status(t.Context(), "0123abcd", s, long); err != nil {
				t.Error(err)
			}
		}
		var got []string
		for _, s := range h.Statuses() {
			got = append(got, s.State)
			if s.Commit != "0123abcd" || !strings.HasSuffix(s.Repository, "/hub") || !strings.HasSuffix(s.Text, "…") {
				t.Errorf("%+v", s)
			}
		}
		// GitLab has one word for what failed; saying it twice is no news to it.
		if diff := cmp.Diff(words[kind], got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestComment: the second run writes the first one's comment anew, also far down.
func TestComment(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *forgehost.Host, c *forge.Client, _ string) {
		t.Helper()
		for n := range 120 {
			if err := c.Comment(t.Context(), 7, "another "+string(rune('a'+n%26))+strings.Repeat("x", n), "of others"); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range []string{"first", "second"} {
			if err := c.Comment(t.Context(), 7, "plan", text); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Comment(t.Context(), 8, "plan", "of another change"); err != nil {
			t.Fatal(err)
		}
		list := h.Comments()
		if len(list) != 122 || !strings.HasSuffix(list[120].Text, "\nsecond") || list[121].Change != 8 {
			t.Errorf("%d comments", len(list))
		}
	})
}

// TestIssue: one issue while something is wrong, closed when nothing is, and a new
// one afterwards.
func TestIssue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *forgehost.Host, c *forge.Client, kind string) {
		t.Helper()
		if kind == forge.Azure {
			if err := c.Issue(t.Context(), "report", "title", "text"); binnacle.CodeOf(err) != binnacle.CodeInvalid {
				t.Error(err)
			}
			return
		}
		for _, text := range []string{"", "one", "two", "", "", "three"} {
			if err := c.Issue(t.Context(), "report", "It drifts", text); err != nil {
				t.Fatal(err)
			}
		}
		list := h.Issues()
		if len(list) != 2 || list[0].Open || !strings.HasSuffix(list[0].Text, "\ntwo") || !list[1].Open || list[1].Title != "It drifts" {
			t.Errorf("%+v", list)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h, err := forgehost.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const secret = config.Secret("not-the-token")
	for kind, path := range repositories() {
		c, err := forge.New(forge.Options{Kind: kind, Repository: h.URL + path, Token: secret, HTTP: new(http.Client)})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Status(t.Context(), "0123", forge.Success, "")
		if binnacle.CodeOf(err) != binnacle.CodeForbidden || strings.Contains(err.Error(), string(secret)) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	h.Down(true)
	c, err := forge.New(forge.Options{Kind: forge.GitHub, Repository: h.URL + "/a/b", Token: forgehost.Token, HTTP: new(http.Client)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Status(t.Context(), "0123", forge.Success, ""); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Error(err)
	}
}

// TestAddresses: what is no repository of the forge is said at once.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ kind, address string }{
		{forge.GitHub, "git@github.com:institute/hub.git"},
		{forge.GitHub, "https://github.com/institute"},
		{forge.Gitea, "https://git.example.org/a/b/c"},
		{forge.GitLab, "https://gitlab.example.org/hub"},
		{forge.Azure, "https://dev.azure.com/institute/group/hub"},
		{"sourceforge", "https://git.example.org/a/b"},
		{forge.GitHub, "https://ada:secret@git.example.org/a"},
		{forge.GitHub, "https://ada:secret%@git.example.org/a/b"},
	} {
		_, err := forge.New(forge.Options{Kind: tt.kind, Repository: tt.address, HTTP: new(http.Client)})
		if binnacle.CodeOf(err) != binnacle.CodeInvalid || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s %s: %v", tt.kind, tt.address, err)
		}
	}
}
