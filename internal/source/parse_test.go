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

const sha = "0123456789abcdef0123456789abcdef01234567"

func TestParse(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	type want struct {
		spec    string // provider|repo|ref
		path    string
		urlPath string
		loose   bool
	}
	for input, w := range map[string]want{
		"gh/owner/repo/main":                           {spec: "gh|owner/repo|main"},
		"gh/owner/repo":                                {spec: "gh|owner/repo|HEAD"},
		"v2/gh/owner/repo.git/feature/x":               {spec: "gh|owner/repo|feature/x"},
		"gl/group%2Fsub%2Fproject/v1.0":                {spec: "gl|group/sub/project|v1.0"},
		"gist/user/8a658f7f63b13768d1e75fa2464f5092":   {spec: "gist|user/8a658f7f63b13768d1e75fa2464f5092|HEAD"},
		"gist/8a658f7f63b13768d1e75fa2464f5092":        {spec: "gist|8a658f7f63b13768d1e75fa2464f5092|HEAD"},
		"git/https%3A%2F%2Fgit.example.org%2Frepo/dev": {spec: "git|https://git.example.org/repo|dev"},
		"git/https://git.example.org/repo":             {spec: "git|https://git.example.org/repo|HEAD"},
		"git/git":                                      {spec: "gh|git/git|HEAD"},
		"owner/repo":                                   {spec: "gh|owner/repo|HEAD"},
		"  owner/repo.git/ \n":                         {spec: "gh|owner/repo|HEAD"},
		"github.com/owner/repo":                        {spec: "gh|owner/repo|HEAD"},
		"gh/owner/repo/main?urlpath=lab%2Ftree%2Fa":    {spec: "gh|owner/repo|main", urlPath: "lab/tree/a"},
		"https://hub.example.org/v2/gh/owner/repo/main?labpath=a%20b.ipynb":                                    {spec: "gh|owner/repo|main", path: "a b.ipynb"},
		"https://hub.example.org/binder/v2/git/https%3A%2F%2Fgit.example.org%2Fx%2Fy/f%2Fg?filepath=n/a.ipynb": {spec: "git|https://git.example.org/x/y|f/g", path: "n/a.ipynb"},
		"https://hub.example.org/v2/gl/a%2Fb/HEAD":                                                             {spec: "gl|a/b|HEAD"},
		"https://github.com/owner/repo":                                                                        {spec: "gh|owner/repo|HEAD"},
		"https://www.github.com/owner/repo/":                                                                   {spec: "gh|owner/repo|HEAD"},
		"http://github.com/owner/repo.git":                                                                     {spec: "gh|owner/repo|HEAD"},
		"https://github.com/owner/repo/tree/main":                                                              {spec: "gh|owner/repo|main"},
		"https://github.com/owner/repo/tree/feature/x/notebooks":                                               {spec: "gh|owner/repo|feature/x/notebooks", loose: true},
		"https://github.com/owner/repo/blob/main/My%20Notebook.ipynb?plain=1#L3":                               {spec: "gh|owner/repo|main/My Notebook.ipynb", loose: true},
		"https://github.com/owner/repo/blob/" + sha + "/a/b.ipynb":                                             {spec: "gh|owner/repo|" + sha, path: "a/b.ipynb"},
		"https://github.com/owner/repo/blob/HEAD/b.ipynb":                                                      {spec: "gh|owner/repo|HEAD", path: "b.ipynb"},
		"https://github.com/owner/repo/commit/" + sha:                                                          {spec: "gh|owner/repo|" + sha},
		"https://github.com/owner/repo/releases/tag/v1.0":                                                      {spec: "gh|owner/repo|refs/tags/v1.0"},
		"https://github.com/owner/repo/pull/12/files":                                                          {spec: "gh|owner/repo|refs/pull/12/head"},
		"https://github.com/owner/repo/issues":                                                                 {spec: "gh|owner/repo|HEAD"},
		"https://raw.githubusercontent.com/owner/repo/main/a.ipynb":                                            {spec: "gh|owner/repo|main/a.ipynb", loose: true},
		"https://gist.github.com/user/8a658f7f63b13768d1e75fa2464f5092#file-a-py":                              {spec: "gist|user/8a658f7f63b13768d1e75fa2464f5092|HEAD"},
		"https://gist.github.com/user/8a658f7f63b13768d1e75fa2464f5092/" + sha:                                 {spec: "gist|user/8a658f7f63b13768d1e75fa2464f5092|" + sha},
		"https://gist.github.com/8a658f7f63b13768d1e75fa2464f5092.git":                                         {spec: "gist|8a658f7f63b13768d1e75fa2464f5092|HEAD"},
		"https://gitlab.com/group/sub/project":                                                                 {spec: "gl|group/sub/project|HEAD"},
		"https://gitlab.com/group/project.git":                                                                 {spec: "gl|group/project|HEAD"},
		"https://gitlab.com/group/sub/project/-/tree/main":                                                     {spec: "gl|group/sub/project|main"},
		"https://gitlab.com/group/project/-/blob/dev/x/a.ipynb":                                                {spec: "gl|group/project|dev/x/a.ipynb", loose: true},
		"https://gitlab.com/group/project/tree/main":                                                           {spec: "gl|group/project|main"},
		"https://gitlab.com/group/project/-/issues":                                                            {spec: "gl|group/project|HEAD"},
		"https://git.example.org/group/project/-/tree/main/x":                                                  {spec: "git|https://git.example.org/group/project|main/x", loose: true},
		"https://code.example.org/owner/repo/src/branch/main/a.ipynb":                                          {spec: "git|https://code.example.org/owner/repo|main/a.ipynb", loose: true},
		"https://bitbucket.org/owner/repo/src/main/":                                                           {spec: "git|https://bitbucket.org/owner/repo|main"},
		"https://git.example.org:8443/team/repo.git/?x=1#y":                                                    {spec: "git|https://git.example.org:8443/team/repo.git|HEAD"},
		"git@git.example.org:team/repo.git":                                                                    {spec: "git|ssh://git@git.example.org/team/repo.git|HEAD"},
		"ssh://git@git.example.org:2222/team/repo":                                                             {spec: "git|ssh://git@git.example.org:2222/team/repo|HEAD"},
		"git://git.example.org/repo":                                                                           {spec: "git|git://git.example.org/repo|HEAD"},
		"file:///srv/repo":                                                                                     {spec: "git|file:///srv/repo|HEAD"},
		"FILE:///srv/repo":                                                                                     {spec: "git|file:///srv/repo|HEAD"},
		"/srv/data/../repo":                                                                                    {spec: "dir|/srv/repo|"},
		"./x":                                                                                                  {spec: "dir|" + filepath.Join(cwd, "x") + "|"},
		"..":                                                                                                   {spec: "dir|" + filepath.Dir(cwd) + "|"},
		"~/x":                                                                                                  {spec: "dir|" + filepath.Join(home, "x") + "|"},
	} {
		got, err := source.Parse(input)
		if err != nil {
			t.Errorf("Parse(%q): %v", input, err)
			continue
		}
		parts := strings.Split(w.spec, "|")
		wanted := source.Target{
			Spec: binnacle.Spec{Provider: binnacle.Provider(parts[0]), Repo: parts[1], Ref: parts[2]},
			Path: w.path, URLPath: w.urlPath, RefAndPath: w.loose,
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", input, diff)
		}
	}
}

// hostileInputs are addresses that must not reach git (A1, A2, A9).
func hostileInputs() []string {
	return []string{
		"", " ", "word", "a/b/c/d", "--upload-pack=touch /tmp/p", "-u/x", "-owner/repo", "owner/-repo", "owner/..", "owner/repo;id",
		"ext::sh -c id", "EXT::sh -c id", "ext::sh%20-c%20id", "fd::17/foo", "transport::https://example.org/x", "ext://sh -c id",
		"ssh://-oProxyCommand=id/x", "ssh://-oProxyCommand=id@host/x", "ssh://git@-oProxyCommand=id/x", "-oProxyCommand=id:x", "git@-host:x", "ssh://git@host/-x",
		"https://user:hunter2@git.example.org/x", "https://hunter2@git.example.org/x", "https://user:hunter2@github.com/owner/repo", "ssh://git:hunter2@git.example.org/x",
		"git://user@git.example.org/x", "https://git.example.org/a\nb", "https://git.example.org/a%0Ab", "https://git.example.org/a\x00b", "https://git.example.org/a%00b",
		"https://git.example.org/\u2028x", "https://git.example.org/../etc", "https://git.example.org", "https://git.example.org/", "file:///", "file://host/x", "file:///../etc",
		"https://git.example.org:99999/x", "https://[fe80::1%25eth0]/x", "https:///x", "https://a b/x",
		"javascript:alert(1)", "data:text/plain,x", "ftp://git.example.org/x", "gopher://git.example.org/x",
		"gh/owner/repo/--output=/x", "gh/owner/repo/-c", "gh/owner/repo/HEAD^{/x}", "gh/owner/repo/a..b", "gh/owner/repo/a@{1}", "gh/owner/repo/" + strings.Repeat("a", 5000),
		"gh/owner/repo/" + strings.Repeat("a", 251), "gh/owner/repo/a%20b", "gh/owner/repo/a%0Ab", "gh/owner/repo/\uff0d\uff0doutput", "gh/owner/repo/\u2010x", "gh/owner/repo/a\u200bb",
		"gh/owner/repo/a.lock", "gh/owner/repo/a:b", "gh/owner%2F..%2Fx/repo/main", "gh/own er/repo", "gl/single/main", "gl/..%2Fx/main", "git/ext%3A%3Ash%20-c%20id/main",
		"git/--upload-pack%3Did/main", "gist/user/a%2Fb", "zenodo/10.5281/zenodo.1", "https://hub.example.org/v2/gh/o/r/main?filepath=../../etc/passwd",
		"https://hub.example.org/v2/gh/o/r/main?labpath=/etc/passwd", "https://hub.example.org/v2/gh/o/r/main?urlpath=a%0Ab", "https://github.com/o/r/tree/main/../../x",
		"https://github.com/o/r/blob/-x/y", "dir/..%2Fetc", "gh/o/r/\xff",
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, input := range hostileInputs() {
		got, err := source.Parse(input)
		if binnacle.CodeOf(err) != binnacle.CodeInvalid {
			t.Errorf("Parse(%q) = %+v, %v, want invalid", input, got, err)
			continue
		}
		public := binnacle.Public(err)
		if strings.ContainsAny(public.Message, "\n\x00") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse(%q): message %q", input, err)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"fatal: 'https://me:pw@h/x' and http://t@h": "fatal: 'https://***@h/x' and http://***@h",
		"ssh://git@h/x https://h/a@b":               "ssh://git@h/x https://h/a@b",
		"https://a@b:c@h/":                          "https://***@h/",
		"nothing":                                   "nothing",
		"://":                                       "://",
	} {
		if got := source.Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range hostileInputs() {
		f.Add(s)
	}
	f.Add("https://github.com/owner/repo/tree/feature/x/notebooks")
	f.Add("https://hub.example.org/v2/git/https%3A%2F%2Fgit.example.org%2Fx/main?urlpath=lab")
	f.Fuzz(func(t *testing.T, input string) {
		got, err := source.Parse(input)
		if err != nil {
			if binnacle.CodeOf(err) != binnacle.CodeInvalid {
				t.Errorf("code %s: %v", binnacle.CodeOf(err), err)
			}
			return
		}
		for _, s := range []string{got.Spec.Repo, got.Spec.Ref, got.Path, got.URLPath} {
			if strings.ContainsAny(s, "\n\r\x00") {
				t.Errorf("control character in %q", s)
			}
		}
		if strings.HasPrefix(got.Spec.Repo, "-") || strings.HasPrefix(got.Spec.Ref, "-") {
			t.Errorf("option in %+v", got)
		}
		if got.RefAndPath || got.Spec.Provider == binnacle.Dir {
			return
		}
		again, err := source.Parse(got.Spec.String())
		if err != nil || again.Spec != got.Spec {
			t.Errorf("%q → %+v → %q → %+v, %v", input, got.Spec, got.Spec.String(), again.Spec, err)
		}
	})
}
