package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// TestFolders: a folder of a repository is fetched as if it were all of it, with the
// submodules in it, and links lead out of it where they lead above it.
func TestFolders(t *testing.T) {
	t.Parallel()
	srv := serve(t, nil)
	commit := srv.repo(t, "tools").write("tool.py", "t").commit("one")
	r := srv.repo(t, "courses")
	r.write("README", "all", "autumn/one/requirements.txt", "six", "autumn/one/data/a.csv", "1", "autumn/one-more/b", "2", "spring/c", "3")
	for name, target := range map[string]string{"autumn/one/up": "../../README", "autumn/one/here": "data/a.csv"} {
		if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.module("autumn/one/tools", srv.URL+"/tools", commit)
	r.module("spring/tools", srv.URL+"/no-such-repository", commit)
	r.git("commit", "-q", "-m", "one")

	s := newSource(t, nil)
	in := func(folder string) binnacle.Spec {
		spec := srv.spec("courses", "main")
		spec.Subdir = folder
		return spec
	}
	got, l, err := fetch(t, s, in("autumn/one"), source.Policy{})
	want := map[string]string{"requirements.txt": "six", "data/a.csv": "1", "here": "link → data/a.csv", "tools/tool.py": "t"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !l.has("up\" leads out of the repository") {
		t.Errorf("notes: %q", l.list)
	}
	for folder, says := range map[string]string{
		"one":              "Did you mean autumn/one?",
		"winter":           "Among its folders are autumn, spring.",
		"README":           `"README" is a file`,
		"autumn/one/here":  `"autumn/one/here" is a link`,
		"autumn/one/tools": "Launch the repository of the submodule",
		"spring/tools/x":   "Launch the repository of the submodule",
	} {
		_, _, err := fetch(t, s, in(folder), source.Policy{})
		e := binnacle.Public(err)
		if e.Code != binnacle.CodeNotFound || !strings.Contains(e.Message+" "+e.Hint, says) {
			t.Errorf("%s: %+v; want it to say %s", folder, e, says)
		}
	}
}

// TestFolderOfAnAddress reads the folder that an address names, and refuses what is none.
func TestFolderOfAnAddress(t *testing.T) {
	t.Parallel()
	for input, want := range map[string]binnacle.Spec{
		"gh/o/r/main?subdir=courses%2Fone":                     {Provider: binnacle.GitHub, Repo: "o/r", Ref: "main", Subdir: "courses/one"},
		"gh/o/r?subdir=./courses/one/&urlpath=lab":             {Provider: binnacle.GitHub, Repo: "o/r", Ref: "HEAD", Subdir: "courses/one"},
		"https://hub.example.org/v2/gl/a%2Fb/f/x?subdir=ü%20n": {Provider: binnacle.GitLab, Repo: "a/b", Ref: "f/x", Subdir: "ü n"},
		"https://github.com/o/r?subdir=a":                      {Provider: binnacle.GitHub, Repo: "o/r", Ref: "HEAD", Subdir: "a"},
		"https://git.example.org/r.git?subdir=a":               {Provider: binnacle.Git, Repo: "https://git.example.org/r.git", Ref: "HEAD", Subdir: "a"},
		"gh/o/r/main?subdir=.":                                 {Provider: binnacle.GitHub, Repo: "o/r", Ref: "main"},
		"dir/%2Fsrv%2Frepo?subdir=a/b":                         {Provider: binnacle.Dir, Repo: "/srv/repo/a/b"},
	} {
		got, err := source.Parse(input)
		if diff := cmp.Diff(want, got.Spec); err != nil || diff != "" {
			t.Errorf("Parse(%q): %v (-want +got):\n%s", input, err, diff)
		}
		if back, err := binnacle.ParseSpec(got.Spec.String()); err != nil || back != got.Spec {
			t.Errorf("%s reads back as %v, %v", got.Spec, back, err)
		}
	}
	for _, folder := range []string{"..", "a/../../b", "/etc", "a//../../..", "a\nb", "a\x00b"} {
		if got, err := (binnacle.Spec{Provider: binnacle.GitHub, Repo: "o/r"}).In(folder); binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("In(%q): %v, %v", folder, got, err)
		}
	}
}
