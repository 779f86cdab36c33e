package source_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	r := srv.repo(t, "team/repo.git")
	first := r.write("a", "1").commit("first")
	r.git("tag", "light")
	second := r.write("a", "2").commit("second")
	r.git("tag", "-a", "-m", "annotated", "v1.0")
	r.git("branch", "feature/x", first)
	r.git("branch", "both", first)
	r.git("tag", "both", second)
	r.git("branch", "same", first)
	r.git("tag", "same", first)
	r.git("update-ref", "refs/pull/7/head", first)
	third := r.write("a", "3").commit("third")
	tagObject := r.git("rev-parse", "v1.0")
	s := newSource(t, nil)

	for _, c := range []struct {
		ref, commit string
		code        binnacle.Code
		says        string
	}{
		{ref: "HEAD", commit: third},
		{ref: "", commit: third},
		{ref: "main", commit: third},
		{ref: "feature/x", commit: first},
		{ref: "light", commit: first},
		{ref: "v1.0", commit: second},
		{ref: "refs/tags/v1.0", commit: second},
		{ref: "refs/heads/both", commit: first},
		{ref: "refs/tags/both", commit: second},
		{ref: "refs/pull/7/head", commit: first},
		{ref: "same", commit: first},
		{ref: third, commit: third},
		{ref: second, commit: second}, // not a tip of any branch
		{ref: tagObject, commit: second},
		{ref: third[:7], commit: third},
		{ref: second[:8], commit: second},
		{ref: first[:12], commit: first},
		{ref: "both", code: binnacle.CodeConflict, says: "refs/heads/both"},
		{ref: "master", commit: third}, // renamed to main
		{ref: "refs/heads/master", code: binnacle.CodeNotFound},
		{ref: "trunk", code: binnacle.CodeNotFound, says: "Leave out the ref"},
		{ref: "v1.1", code: binnacle.CodeNotFound, says: "Did you mean v1.0?"},
		{ref: "1.0", code: binnacle.CodeNotFound, says: "Did you mean v1.0?"},
		{ref: "x", code: binnacle.CodeNotFound, says: "Leave out the ref"},
		{ref: "feature", code: binnacle.CodeNotFound},
		{ref: "0000000", code: binnacle.CodeNotFound},
		{ref: sha, code: binnacle.CodeNotFound, says: "no commit"},
		{ref: r.git("rev-parse", "HEAD^{tree}"), code: binnacle.CodeInvalid, says: "not a commit"},
	} {
		rev, err := s.Resolve(t.Context(), srv.spec("team/repo.git", c.ref), source.Policy{})
		if rev.Commit != c.commit || binnacle.CodeOf(err) != c.code {
			t.Errorf("Resolve(%q) = %s, %v, want %s%s", c.ref, rev.Commit, err, c.commit, c.code)
		}
		if err != nil && !strings.Contains(binnacle.Public(err).Message+binnacle.Public(err).Hint, c.says) {
			t.Errorf("Resolve(%q): %+v, want %q", c.ref, binnacle.Public(err), c.says)
		}
	}

	rev, path, err := s.ResolveTarget(t.Context(), source.Target{Spec: srv.spec("team/repo.git", "master/notes/a.ipynb"), RefAndPath: true}, source.Policy{})
	if err != nil || rev.Gone != "master" || rev.Spec.Ref != "main" || rev.Commit != third || path != "notes/a.ipynb" {
		t.Errorf("a renamed branch: %+v, %q, %v", rev, path, err)
	}
	if rev, err := s.Resolve(t.Context(), srv.spec("team/repo.git", "main"), source.Policy{}); err != nil || rev.Gone != "" {
		t.Errorf("a branch that is there: %+v, %v", rev, err)
	}
	r.git("branch", "-m", "main", "development")
	if rev, err := s.Resolve(t.Context(), srv.spec("team/repo.git", "main"), source.Policy{}); err != nil || rev.Gone != "main" || rev.Spec.Ref != "development" || rev.Commit != third {
		t.Errorf("a default branch of another name: %+v, %v", rev, err)
	}
	r.git("branch", "-m", "development", "main")
	r.git("branch", "-D", "feature/x")
	if _, err := s.Resolve(t.Context(), srv.spec("team/repo.git", "feature/x"), source.Policy{}); binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("a deleted branch: %v", err)
	}
	when, err := s.CommitTime(t.Context(), binnacle.Revision{Spec: srv.spec("", ""), URL: srv.URL + "/team/repo.git", Commit: second})
	if err != nil || when != time.Unix(1700000000, 0).UTC() {
		t.Errorf("CommitTime = %v, %v", when, err)
	}
}

func TestResolveTarget(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	r := srv.repo(t, "repo")
	first := r.write("a", "1").commit("first")
	r.git("branch", "feature/x")
	second := r.write("a", "2").commit("second")
	s := newSource(t, nil)
	for ref, want := range map[string][3]string{
		"main":                        {second, "main", ""},
		"main/a b.ipynb":              {second, "main", "a b.ipynb"},
		"main/x^y/..z.ipynb":          {second, "main", "x^y/..z.ipynb"},
		"feature/x":                   {first, "feature/x", ""},
		"feature/x/notebooks/a.ipynb": {first, "feature/x", "notebooks/a.ipynb"},
		first[:9] + "/docs":           {first, first[:9], "docs"},
	} {
		target := source.Target{Spec: srv.spec("repo", ref), RefAndPath: true}
		rev, path, err := s.ResolveTarget(t.Context(), target, source.Policy{})
		if err != nil || rev.Commit != want[0] || rev.Spec.Ref != want[1] || path != want[2] {
			t.Errorf("%q: %s at %q, path %q, %v, want %q", ref, rev.Commit, rev.Spec.Ref, path, err, want)
		}
	}
	_, _, err := s.ResolveTarget(t.Context(), source.Target{Spec: srv.spec("repo", "feature/y/a.ipynb"), RefAndPath: true}, source.Policy{})
	if binnacle.CodeOf(err) != binnacle.CodeNotFound {
		t.Errorf("no such branch: %v", err)
	}
}

// TestProviders sends the providers' addresses to a server of ours.
func TestProviders(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	var want []string
	for _, name := range []string{"owner/repo", "group/sub/project.git", "user/abc123.git"} {
		want = append(want, srv.repo(t, name).write("name", name).commit(name))
	}
	s := newSource(t, func(c *source.Config) {
		c.Hosts = map[binnacle.Provider]string{binnacle.GitHub: srv.URL, binnacle.GitLab: srv.URL, binnacle.Gist: srv.URL}
	})
	var got []binnacle.Revision
	for _, spec := range []string{"gh/owner/repo", "gl/group%2Fsub%2Fproject", "gist/user/abc123"} {
		target, err := source.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		rev, err := s.Resolve(t.Context(), target.Spec, source.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		rev.Spec = binnacle.Spec{}
		got = append(got, rev)
	}
	wanted := []binnacle.Revision{
		{URL: srv.URL + "/owner/repo", Commit: want[0], WebURL: srv.URL + "/owner/repo/tree/" + want[0]},
		{URL: srv.URL + "/group/sub/project.git", Commit: want[1], WebURL: srv.URL + "/group/sub/project/-/tree/" + want[1]},
		{URL: srv.URL + "/user/abc123.git", Commit: want[2], WebURL: srv.URL + "/user/abc123/" + want[2]},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}

func TestResolveEmptyAndMissing(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	srv.repo(t, "empty")
	s := newSource(t, nil)
	for name, says := range map[string]string{"empty": "no commits yet", "missing": "does not exist or is not public"} {
		_, err := s.Resolve(t.Context(), srv.spec(name, "HEAD"), source.Policy{})
		if binnacle.CodeOf(err) != binnacle.CodeNotFound || !strings.Contains(binnacle.Public(err).Message, says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSHA256 is a repository of git's newer object format.
func TestSHA256(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	r := srv.repo(t, "repo", "--object-format=sha256")
	old := r.write("a", "1").commit("one")
	r.write("a", "2").commit("two")
	s := newSource(t, nil)
	for _, ref := range []string{old, old[:10]} {
		got, _, err := fetch(t, s, srv.spec("repo", ref), source.Policy{})
		if diff := cmp.Diff(map[string]string{"a": "1"}, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", ref, err, diff)
		}
	}
}

// TestArguments asserts that untrusted words follow "--" in every run, and that
// refused input starts none (A1, A2).
func TestArguments(t *testing.T) {
	t.Parallel()
	program, log := recorder(t)
	srv := serve(t, nil)
	r := srv.repo(t, "repo")
	old := r.write("a", "1").commit("one")
	r.write("a", "2").commit("two")
	s := newSource(t, func(c *source.Config) { c.Git = program })
	marker := filepath.Join(t.TempDir(), "marker")
	var inputs []binnacle.Spec
	for _, evil := range []string{
		"--upload-pack=touch " + marker, "-utouch " + marker, "ext::touch " + marker, "EXT::touch " + marker, "fd::3", "ssh://-oProxyCommand=touch " + marker + "/x",
		"ssh://git@-oProxyCommand=id/x", "https://git.example.org/a\nb", "https://git.example.org/\x00", srv.URL + "/repo\n--upload-pack=touch " + marker,
		"https://user:hunter2@git.example.org/x", "ftp://git.example.org/x", "/srv/repo", "../repo",
	} {
		inputs = append(inputs, gitSpec(evil, "HEAD"))
	}
	for _, evil := range []string{
		"--output=" + marker, "-c core.sshCommand=touch " + marker, "--upload-pack=touch " + marker, "HEAD^{/x}", "a..b", "@{-1}", "x y", "x\n", strings.Repeat("x", 5000), "\uff0dx",
	} {
		inputs = append(inputs, gitSpec(srv.URL+"/repo", evil))
	}
	for _, spec := range inputs {
		for _, p := range []source.Policy{{}, {Local: true}} {
			_, err := s.Resolve(t.Context(), spec, p)
			if binnacle.CodeOf(err) != binnacle.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Resolve(%q, %q): %v, want invalid", spec.Repo, spec.Ref, err)
			}
		}
	}
	if runs := argv(t, log); len(runs) > 0 {
		t.Errorf("refused input started git: %q", runs)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("refused input ran a command")
	}

	for _, ref := range []string{"main", old, old[:8]} {
		if _, _, err := fetch(t, s, srv.spec("repo", ref), source.Policy{}); err != nil {
			t.Fatal(err)
		}
	}
	network := 0
	for _, run := range argv(t, log) {
		i := slices.Index(run, srv.URL+"/repo")
		if i < 0 {
			continue
		}
		network++
		if run[i-1] != "--" || !slices.Contains(run, "protocol.allow=never") || !slices.Contains(run, "credential.helper=") {
			t.Errorf("unsafe arguments: %q", run)
		}
	}
	if network < 4 {
		t.Errorf("%d runs reached the repository, want 4 or more", network)
	}
}
