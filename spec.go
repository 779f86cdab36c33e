package binnacle

import (
	"net/url"
	"path"
	"strings"
)

// Provider says where a repository lives. The short names are BinderHub's, so
// that its links and clients work unchanged.
type Provider string

// The providers of this release. Dir is a directory of the machine Binnacle
// runs on; only a trusted caller (the command line) may ask for it.
const (
	GitHub Provider = "gh"
	GitLab Provider = "gl"
	Gist   Provider = "gist"
	Git    Provider = "git"
	Dir    Provider = "dir"
)

// HeadRef is the ref that always names a repository's default branch.
const HeadRef = "HEAD"

// Spec names a repository at a ref that may still move: what a link says.
type Spec struct {
	Provider Provider `json:"provider"`
	// Repo is written the provider's way and never escaped: owner/name (gh),
	// namespace/…/name (gl), user/id or id (gist), a clone URL (git), an
	// absolute path (dir).
	Repo string `json:"repo"`
	// Ref is a branch (slashes allowed), a tag or a commit; "HEAD" when the
	// person named none. Empty for dir.
	Ref string `json:"ref"`
	// Subdir is the folder of the repository that counts as all of it, e.g.
	// "courses/one"; empty is the whole. See [Spec.In].
	Subdir string `json:"subdir,omitempty"`
}

// ParseSpec reads BinderHub's written form, e.g. "gh/owner/name/ref" or
// "git/https%3A%2F%2Fgit.example.org%2Frepo/main" (repositories of gl and git
// are percent-encoded because they hold slashes). A missing ref is HEAD. Behind
// it may stand a folder, "?subdir=courses/one", which BinderHub does not know.
// Returns invalid for an unknown provider, a bad escape, a missing part or a
// control character.
func ParseSpec(s string) (Spec, error) {
	s, query, _ := strings.Cut(s, "?") // no ref of git has one
	spec, err := parseSpec(s)
	if err != nil || query == "" {
		return spec, err
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return Spec{}, badSpec(s)
	}
	return spec.In(q.Get("subdir"))
}

func parseSpec(s string) (Spec, error) {
	provider, rest, _ := strings.Cut(s, "/")
	rest = strings.TrimSuffix(rest, "/")
	if hasControl(s) || rest == "" {
		return Spec{}, badSpec(s)
	}
	var repo, ref string
	switch Provider(provider) {
	case GitHub:
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
			return Spec{}, badSpec(s)
		}
		repo = parts[0] + "/" + strings.TrimSuffix(parts[1], ".git")
		if len(parts) == 3 {
			ref = parts[2]
		}
	case Gist:
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
			return Spec{}, badSpec(s)
		}
		repo = parts[0] + "/" + parts[1]
		if len(parts) == 3 {
			ref = parts[2]
		}
	case GitLab, Git, Dir:
		repo, ref, _ = strings.Cut(rest, "/")
	default:
		return Spec{}, Errorf(CodeInvalid, "No provider is called %q; known are gh, gl, gist and git.", provider)
	}
	repo, err := url.PathUnescape(repo)
	if err != nil {
		return Spec{}, badSpec(s)
	}
	ref, err = url.PathUnescape(ref)
	if err != nil || hasControl(repo) || hasControl(ref) || repo == "" {
		return Spec{}, badSpec(s)
	}
	if ref == "" && Provider(provider) != Dir {
		ref = HeadRef
	}
	return Spec{Provider: Provider(provider), Repo: repo, Ref: ref}, nil
}

// In is the Spec with that folder of the repository, written with slashes, in
// place of its own: "./courses/one/" is "courses/one"; "." and the empty one are
// the whole. A folder of a directory is a directory. Returns invalid for one that
// is outside or holds control characters.
func (s Spec) In(folder string) (Spec, error) {
	subdir := strings.TrimPrefix(path.Clean("/"+folder), "/")
	if as := path.Clean(folder); hasControl(folder) || as != subdir && as != "." {
		return Spec{}, &Error{
			Code: CodeInvalid, Op: "spec.subdir", Message: "This is not a folder of a repository: " + quote(folder) + ".",
			Hint: "Write it as the repository has it, from its root on: courses/one.",
		}
	}
	if s.Provider == Dir {
		s.Repo, subdir = path.Join(s.Repo, subdir), ""
	}
	s.Subdir = subdir
	return s, nil
}

// String is the form ParseSpec reads back.
func (s Spec) String() string {
	if s.Subdir != "" {
		subdir := s.Subdir
		s.Subdir = ""
		return s.String() + "?" + url.Values{"subdir": {subdir}}.Encode()
	}
	repo := s.Repo
	if s.Provider == GitLab || s.Provider == Git || s.Provider == Dir {
		repo = url.PathEscape(repo)
	}
	if s.Ref == "" {
		return string(s.Provider) + "/" + repo
	}
	return string(s.Provider) + "/" + repo + "/" + s.Ref
}

// Revision is a Spec that no longer moves.
type Revision struct {
	Spec Spec `json:"spec"`
	// URL is what git fetches; it never holds credentials. An absolute path for dir.
	URL string `json:"url"`
	// Commit is the full object name, 40 or 64 lower-case hex digits; for dir
	// the digest of the directory's content (64 hex digits).
	Commit string `json:"commit"`
	// WebURL is the page a person can read the revision on; may be empty.
	WebURL string `json:"web_url,omitempty"`
	// Gone is the ref that was asked for when the repository has none of that
	// name: master or main, for which the default branch (Spec.Ref) was taken.
	Gone string `json:"-"`
}

// Renamed says that another branch was taken than the link names; nil when not.
func (r Revision) Renamed() *Error {
	if r.Gone == "" {
		return nil
	}
	return &Error{
		Code: CodeNotFound, Message: "The repository has no branch " + r.Gone + " any more: its default branch, " + r.Spec.Ref + ", is taken instead.",
		Hint: "Write HEAD in the link, which is always the default branch.",
	}
}

// Fixed is the Spec that names exactly this revision, for links that last.
func (r Revision) Fixed() Spec {
	s := r.Spec
	if s.Provider != Dir {
		s.Ref = r.Commit
	}
	return s
}

func badSpec(s string) *Error {
	return &Error{
		Code:    CodeInvalid,
		Op:      "spec.parse",
		Message: "This is not a repository Binnacle understands: " + quote(s) + ".",
		Hint:    "Write gh/owner/repository/ref, or paste the address of the repository's page.",
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\u2028' || r == '\u2029' })
}
