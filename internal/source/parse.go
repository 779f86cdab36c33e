package source

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Target is what a person pasted: a repository and where to land in it.
type Target struct {
	Spec binnacle.Spec `json:"spec"`
	// RefAndPath says that Spec.Ref may go on with the path of a file or folder
	// ("feature/x/notebooks/a.ipynb"): where the ref ends can only be told from
	// the repository's refs, which [Source.ResolveTarget] does.
	RefAndPath bool `json:"ref_and_path,omitempty"`
	// Path is the file or folder of the repository to open; empty is none.
	Path string `json:"path,omitempty"`
	// URLPath is what the session is asked for, as in ?urlpath=lab/tree/x.
	URLPath string `json:"url_path,omitempty"`
}

// maxInput is more than any address that is meant seriously.
const maxInput = 4096

// Parse tells offline what input names: a spec (gh/owner/repository/ref, also
// with v2/ before it or as the link of a hub), GitHub's short form
// owner/repository, a page of GitHub, GitLab, Gitea or Bitbucket, a gist, a
// clone URL, user@host:path, or a directory, which begins with /, ./, ../ or ~
// and is made absolute here.
//
// Returns invalid when it is none of them, holds credentials or control
// characters, or names a ref that cannot be one.
func Parse(input string) (Target, error) {
	s := strings.Trim(input, " \t\r\n")
	if len(s) > maxInput {
		return Target{}, invalid("Paste the address of the repository alone.", "This is too long for an address.")
	}
	if s == "" {
		return Target{}, invalid("Paste the address of a repository.", "No repository is named.")
	}
	if hasControl(s) {
		return Target{}, invalid("Type the address by hand if copying brought the characters in.",
			"The address "+quote(s)+" holds a line break or another control character.")
	}
	t, err := parse(s)
	if err != nil {
		return Target{}, err
	}
	if t.Spec, err = t.Spec.In(t.Spec.Subdir); err != nil {
		return Target{}, err
	}
	return t, t.check()
}

func parse(s string) (Target, error) {
	switch {
	case isDirectory(s):
		return parseDirectory(s)
	case hasScheme(s):
		return parseURL(s)
	}
	bare, query, _ := strings.Cut(s, "?")
	bare = strings.TrimPrefix(bare, "v2/")
	if spec, ok, err := parseSpec(bare); ok {
		return withQuery(Target{Spec: spec}, query), err
	}
	first, rest, slash := strings.Cut(s, "/")
	if _, ok := scpURL(s); ok {
		r, err := parseRemote(s)
		return Target{Spec: binnacle.Spec{Provider: binnacle.Git, Repo: r.String(), Ref: binnacle.HeadRef}}, err
	}
	if slash && rest != "" && hostName(first) && strings.Contains(first, ".") {
		return parseURL("https://" + s) // "github.com/owner/repository", as browsers show it
	}
	return parseShort(s)
}

// parseShort reads GitHub's owner/repository.
func parseShort(s string) (Target, error) {
	s, _, _ = strings.Cut(s, "#")
	parts := strings.Split(strings.TrimSuffix(s, "/"), "/")
	if len(parts) != 2 {
		return Target{}, unknownInput(s)
	}
	return Target{Spec: binnacle.Spec{
		Provider: binnacle.GitHub, Repo: parts[0] + "/" + strings.TrimSuffix(parts[1], ".git"), Ref: binnacle.HeadRef,
	}}, nil
}

// parseSpec reads s as a spec when its first word is a provider. The short
// form git/git is GitHub's repository of that name, not a spec.
func parseSpec(s string) (binnacle.Spec, bool, error) {
	word, rest, _ := strings.Cut(s, "/")
	rest = strings.TrimSuffix(rest, "/")
	decoded, _ := url.PathUnescape(rest)
	two := rest != "" && !strings.Contains(rest, "/")
	switch p := binnacle.Provider(word); p {
	case binnacle.GitHub, binnacle.GitLab, binnacle.Gist, binnacle.Git, binnacle.Dir:
		if id, ref, _ := strings.Cut(rest, "/"); p == binnacle.Gist && isGist(id) {
			return bareGist(id, ref)
		}
		if two && p != binnacle.GitHub && p != binnacle.Gist && !strings.ContainsAny(decoded, "/:") {
			return binnacle.Spec{}, false, nil
		}
		if p != binnacle.GitHub && p != binnacle.Gist && strings.Contains(rest, "://") {
			return plainURLSpec(p, rest)
		}
		spec, err := binnacle.ParseSpec(s)
		return spec, true, err
	}
	return binnacle.Spec{}, false, nil
}

// isGist tells the id of a gist, which stands in an address without its owner
// too, from the name of an account.
func isGist(s string) bool { return (len(s) == 20 || len(s) == 32) && isHex(s) }

// bareGist reads what follows an id: a ref, or another id, the first being an
// account after all.
func bareGist(id, ref string) (binnacle.Spec, bool, error) {
	spec := binnacle.Spec{Provider: binnacle.Gist, Repo: id, Ref: binnacle.HeadRef}
	if next, rest, _ := strings.Cut(ref, "/"); isGist(next) {
		spec.Repo, ref = id+"/"+next, rest
	}
	ref, err := url.PathUnescape(ref)
	if err != nil {
		return spec, true, unknownInput(ref)
	}
	if ref != "" {
		spec.Ref = ref
	}
	return spec, true, nil
}

// plainURLSpec reads git/https://host/path, whose address should have been
// percent-encoded. Without a mark where it ends, all of it is the address.
func plainURLSpec(p binnacle.Provider, rest string) (binnacle.Spec, bool, error) {
	r, err := parseRemote(rest)
	if p != binnacle.Git {
		err = unknownInput(rest)
	}
	return binnacle.Spec{Provider: p, Repo: r.String(), Ref: binnacle.HeadRef}, true, err
}

// parseURL reads the link of a hub, the page of a forge, or a clone URL.
func parseURL(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Target{}, badRemote(s)
	}
	if (u.Scheme == "http" || u.Scheme == "https") && u.User != nil {
		return Target{}, credentialsError()
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		if t, ok := forgePage(u); ok {
			t.Spec.Subdir = u.Query().Get("subdir")
			return t, nil
		}
		if i := strings.Index(u.EscapedPath(), "/v2/"); i >= 0 {
			if spec, ok, err := parseSpec(u.EscapedPath()[i+len("/v2/"):]); ok {
				return withQuery(Target{Spec: spec}, u.RawQuery), err
			}
		}
	}
	subdir := u.Query().Get("subdir")
	u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
	r, err := parseRemote(u.String())
	if err != nil {
		return Target{}, err
	}
	return Target{Spec: binnacle.Spec{Provider: binnacle.Git, Repo: r.String(), Ref: binnacle.HeadRef, Subdir: subdir}}, nil
}

// withQuery adds what BinderHub's links say about where to land.
func withQuery(t Target, query string) Target {
	query, _, _ = strings.Cut(query, "#")
	q, err := url.ParseQuery(query)
	if err != nil {
		return t // a stray % in an old badge is no reason to refuse the repository
	}
	t.Spec.Subdir = q.Get("subdir")
	t.URLPath = q.Get("urlpath")
	t.Path = q.Get("labpath")
	if t.Path == "" {
		t.Path = q.Get("filepath")
	}
	return t
}

func hasScheme(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && !strings.ContainsAny(scheme, "/?#")
}

func isDirectory(s string) bool {
	return s == "." || s == ".." || s == "~" || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") ||
		strings.HasPrefix(s, "../") || strings.HasPrefix(s, "~/")
}

func parseDirectory(s string) (Target, error) {
	if s == "~" || strings.HasPrefix(s, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return Target{}, invalid("Write the directory out.", "It is not known whose directory ~ is.")
		}
		s = home + s[1:]
	}
	abs, err := filepath.Abs(s)
	if err != nil {
		return Target{}, invalid("Write the directory out, from / on.", "The current directory is gone.")
	}
	return Target{Spec: binnacle.Spec{Provider: binnacle.Dir, Repo: abs}}, nil
}

// check looks over the parts whichever way they came in.
func (t Target) check() error {
	for _, s := range []string{t.Spec.Repo, t.Spec.Ref, t.Path, t.URLPath} {
		if hasControl(s) || len(s) > maxInput {
			return invalid("Remove it from the link.", "The link holds a line break or another control character, perhaps written as %0A.")
		}
	}
	if strings.HasPrefix(t.Path, "/") || strings.HasPrefix(t.Path, "~") || inPath(t.Path, "..") {
		return invalid("Name a file as it is called in the repository.", "The file to open, "+quote(t.Path)+", is not in the repository.")
	}
	if err := checkRepo(t.Spec); err != nil {
		return err
	}
	if t.Spec.Provider == binnacle.Dir {
		return nil
	}
	if t.RefAndPath {
		if inPath(t.Spec.Ref, "..") || inPath(t.Spec.Ref, "") {
			return invalid("Name a branch and a file as they are called in the repository.", "The link names "+quote(t.Spec.Ref)+", which is neither a ref nor a file.")
		}
		first, _, _ := strings.Cut(t.Spec.Ref, "/")
		return checkRef(first)
	}
	return checkRef(t.Spec.Ref)
}

// inPath says whether name is one of p's components.
func inPath(p, name string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == name && p != "" {
			return true
		}
	}
	return false
}

func unknownInput(s string) *binnacle.Error {
	return invalid("Paste the address of the repository's page, write owner/repository for GitHub, or begin a directory with ./ or /.",
		"This is not a repository Binnacle understands: "+quote(s)+".")
}
