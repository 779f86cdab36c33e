package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
)

// TestExamples launches every example that this machine can build and runs its
// notebook through the kernel.
func TestExamples(t *testing.T) {
	for _, name := range []string{"plain", "requirements", "apt", "pyproject", "dockerfile", "postbuild-start", "binder-dir", "ignore"} {
		t.Run(name, func(t *testing.T) {
			repo := the.example(t, name)
			l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			stopAfter(t, l)
			if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
				t.Error(err)
			}
			hashed := map[string][][2]string{"apt": {{"apt", "tree"}}, "requirements": {{"pip", "humanize"}, {"pip", "jupyterlab"}}}
			for _, p := range hashed[name] {
				if in := resolved(t, l, p[0], p[1]); in.Version == "" || len(in.Sums) == 0 || !strings.HasPrefix(in.Sums[0], "sha256:") {
					t.Errorf("the image says of %s that %+v", p[1], in)
				}
			}
		})
	}
}

// TestSubdir launches a folder of a repository, by a link, with the notebook that the
// link names as the whole repository has it.
func TestSubdir(t *testing.T) {
	repo, err := the.git.Repo(t.Context(), "courses", "")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"requirements.txt": "no-such-package-anywhere\n", "autumn/README.md": "not this one\n"}
	for _, name := range []string{"requirements.txt", "index.ipynb"} {
		content, err := os.ReadFile(filepath.Join("../../examples/requirements", name))
		if err != nil {
			t.Fatal(err)
		}
		files["autumn/one/"+name] = string(content)
	}
	if _, err := repo.Commit(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: "git/" + url.PathEscape(repo.URL) + "/HEAD?subdir=autumn/one&filepath=autumn/one/index.ipynb"})
	stopAfter(t, l)
	if l.Path != "lab/tree/index.ipynb" || l.Spec.Subdir != "autumn/one" {
		t.Errorf("launched %v, opens %s", l.Spec, l.Path)
	}
	if err := server.RunNotebook(t.Context(), "index.ipynb"); err != nil {
		t.Error(err)
	}
	cell(t, server, `import os; print(sorted(f for f in os.listdir(os.environ["REPO_DIR"]) if f[0] != "."))`, "['index.ipynb', 'requirements.txt']")
	missing, _ := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL, Subdir: "one"})
	if missing.Error == nil || missing.Error.Code != binnacle.CodeNotFound || !strings.Contains(missing.Error.Hint, "autumn/one") {
		t.Errorf("a folder that is not there: %+v", missing.Error)
	}
}

func TestFailingExamples(t *testing.T) {
	for name, want := range map[string]struct {
		file string
		says string
	}{
		"failing-requirement": {"requirements.txt", ""},
		"failing-postbuild":   {"postBuild", ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo := the.example(t, name)
			l, events := launch(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
			if l.Phase != binnacle.PhaseFailed || l.Error == nil {
				t.Fatalf("ended as %s", l.Phase)
			}
			if l.Error.Code != binnacle.CodeBuildFailed || l.Error.File != want.file || l.Error.Hint == "" || len(l.Error.Excerpt) == 0 {
				t.Errorf("the error is %+v; want build_failed in %s, with a hint", l.Error, want.file)
			}
			if len(events) == 0 || events[len(events)-1].Kind != binnacle.EventEnd {
				t.Error("the events have no end")
			}
			t.Logf("%s:%d %s %s", l.Error.File, l.Error.Line, l.Error.Message, l.Error.Hint)
		})
	}
}

// TestLargeRepositories has many files, and a large one that a commit beside it
// must not carry again.
func TestLargeRepositories(t *testing.T) {
	t.Run("2000 files", func(t *testing.T) {
		dir := t.TempDir()
		for i := range 2000 {
			path := filepath.Join(dir, fmt.Sprintf("d%02d/f%04d.txt", i%50, i))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strconv.Itoa(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		repo, err := the.git.Repo(t.Context(), "many", dir)
		if err != nil {
			t.Fatal(err)
		}
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		cell(t, server, `import glob; print(len(glob.glob('d*/f*.txt')))`, "2000")
	})
	t.Run("200 MB", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "data.bin"), []byte(strings.Repeat("0123456789abcdef", 200<<20/16)), 0o644); err != nil {
			t.Fatal(err)
		}
		repo, err := the.git.Repo(t.Context(), "large", dir)
		if err != nil {
			t.Fatal(err)
		}
		l, server := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
		stopAfter(t, l)
		cell(t, server, `import os; print(os.path.getsize('data.bin'))`, strconv.Itoa(200<<20))
	})
}
