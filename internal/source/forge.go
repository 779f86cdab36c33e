package source

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// forgePage reads the address of a page for people. False means that it may
// still be a clone URL.
func forgePage(u *url.URL) (Target, bool) {
	host := strings.TrimPrefix(strings.ToLower(u.Hostname()), "www.")
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	switch {
	case len(parts) == 0 || parts[0] == "":
		return Target{}, false
	case u.Port() != "":
	case host == "github.com":
		return githubPage(parts)
	case host == "raw.githubusercontent.com" && len(parts) > 2:
		return page(binnacle.GitHub, parts[0]+"/"+parts[1], parts[2:]), true
	case host == "gist.github.com" || host == "gist.githubusercontent.com":
		return gistPage(parts)
	case host == "gitlab.com":
		return gitlabPage(parts), true
	case host == "bitbucket.org" && len(parts) > 3 && parts[2] == "src":
		return page(binnacle.Git, "https://bitbucket.org/"+parts[0]+"/"+parts[1], parts[3:]), true
	}
	return selfHostedPage(u, parts)
}

func githubPage(parts []string) (Target, bool) {
	if len(parts) < 2 {
		return Target{}, false
	}
	repo, rest := parts[0]+"/"+strings.TrimSuffix(parts[1], ".git"), parts[2:]
	if len(rest) > 1 {
		switch rest[0] {
		case "tree", "blob", "raw", "edit", "blame", "commits", "commit":
			return page(binnacle.GitHub, repo, rest[1:]), true
		case "releases":
			if rest[1] == "tag" && len(rest) > 2 {
				return ref(binnacle.GitHub, repo, "refs/tags/"+strings.Join(rest[2:], "/")), true
			}
		case "pull":
			return ref(binnacle.GitHub, repo, "refs/pull/"+rest[1]+"/head"), true
		}
	}
	return ref(binnacle.GitHub, repo, binnacle.HeadRef), true
}

// gistPage reads user/id, user/id/revision and a bare id.
func gistPage(parts []string) (Target, bool) {
	parts[len(parts)-1] = strings.TrimSuffix(parts[len(parts)-1], ".git")
	switch {
	case len(parts) == 1 && isGist(parts[0]):
		return ref(binnacle.Gist, parts[0], binnacle.HeadRef), true
	case len(parts) == 1:
		return Target{}, false
	case len(parts) > 2 && isCommit(parts[2]):
		return ref(binnacle.Gist, parts[0]+"/"+parts[1], parts[2]), true
	}
	return ref(binnacle.Gist, parts[0]+"/"+parts[1], binnacle.HeadRef), true
}

func gitlabPage(parts []string) Target {
	repo, rest := splitGitLab(parts)
	if rest == nil {
		return ref(binnacle.GitLab, repo, binnacle.HeadRef)
	}
	return page(binnacle.GitLab, repo, rest)
}

// splitGitLab parts the project from what follows /-/tree/, or /tree/ in the
// addresses of older versions.
func splitGitLab(parts []string) (repo string, rest []string) {
	end := len(parts)
	for i, p := range parts {
		kind := i
		if p == "-" {
			kind = i + 1
		}
		known := kind < len(parts) && slices.Contains([]string{"tree", "blob", "raw", "commit", "commits", "tags", "edit"}, parts[kind])
		if p != "-" && (!known || i < 2) {
			continue
		}
		end = i
		if known && kind+1 < len(parts) {
			rest = parts[kind+1:]
		}
		break
	}
	return strings.TrimSuffix(strings.Join(parts[:end], "/"), ".git"), rest
}

// selfHostedPage knows GitLab and Gitea (Forgejo) on any host by the marks
// their addresses carry.
func selfHostedPage(u *url.URL, parts []string) (Target, bool) {
	base := url.URL{Scheme: u.Scheme, Host: u.Host}
	if i := slices.Index(parts, "-"); i >= 2 {
		repo, rest := splitGitLab(parts)
		base.Path = "/" + repo
		if rest == nil {
			return ref(binnacle.Git, base.String(), binnacle.HeadRef), true
		}
		return page(binnacle.Git, base.String(), rest), true
	}
	if len(parts) > 4 && parts[2] == "src" && slices.Contains([]string{"branch", "tag", "commit"}, parts[3]) {
		base.Path = "/" + parts[0] + "/" + parts[1]
		return page(binnacle.Git, base.String(), parts[4:]), true
	}
	return Target{}, false
}

// ref is the target that names a ref and no file.
func ref(p binnacle.Provider, repo, name string) Target {
	return Target{Spec: binnacle.Spec{Provider: p, Repo: repo, Ref: name}}
}

// page is the target of a page whose address ends with a ref and perhaps a
// path. A commit and HEAD hold no slash, so there the two can be told apart.
func page(p binnacle.Provider, repo string, rest []string) Target {
	t := ref(p, repo, strings.Join(rest, "/"))
	switch {
	case len(rest) == 1:
	case isCommit(rest[0]) || rest[0] == binnacle.HeadRef:
		t.Spec.Ref, t.Path = rest[0], strings.Join(rest[1:], "/")
	default:
		t.RefAndPath = true
	}
	return t
}

// checkRepo refuses what cannot be the name of a repository of its provider.
func checkRepo(spec binnacle.Spec) error {
	parts := strings.Split(spec.Repo, "/")
	var ok bool
	switch spec.Provider {
	case binnacle.GitHub:
		ok = len(parts) == 2 && accountName(parts[0]) && repoName(parts[1])
	case binnacle.GitLab:
		ok = len(parts) >= 2 && len(parts) <= 21 && !slices.ContainsFunc(parts, func(p string) bool { return !repoName(p) })
	case binnacle.Gist:
		id := parts[len(parts)-1]
		ok = len(parts) == 1 && isGist(id) || len(parts) == 2 && accountName(parts[0]) && accountName(id)
	case binnacle.Git:
		_, err := parseRemote(spec.Repo)
		return err
	case binnacle.Dir:
		ok = filepath.IsAbs(spec.Repo) && filepath.Clean(spec.Repo) == spec.Repo
	default:
		ok = false
	}
	if !ok {
		return unknownInput(spec.Repo)
	}
	return nil
}

func accountName(s string) bool { return repoName(s) && !strings.Contains(s, ".") }

func repoName(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '-' && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(r rune) bool { return !asciiWord(r) && r != '-' && r != '.' && r != '+' })
}

// origin is where git finds the repository of a spec.
func (s *Source) origin(spec binnacle.Spec) (remote, error) {
	if err := checkRepo(spec); err != nil {
		return remote{}, err
	}
	base := strings.TrimSuffix(s.cfg.Hosts[spec.Provider], "/") + "/" + spec.Repo
	switch spec.Provider {
	case binnacle.GitHub:
		return parseRemote(base)
	case binnacle.GitLab, binnacle.Gist:
		return parseRemote(base + ".git")
	case binnacle.Git:
		return parseRemote(spec.Repo)
	}
	return remote{}, unknownInput(spec.Repo)
}

// webURL is the page that shows a commit, empty where none is known.
func (s *Source) webURL(spec binnacle.Spec, commit string) string {
	base := strings.TrimSuffix(s.cfg.Hosts[spec.Provider], "/") + "/" + spec.Repo
	switch spec.Provider {
	case binnacle.GitHub:
		return base + "/tree/" + commit
	case binnacle.GitLab:
		return base + "/-/tree/" + commit
	case binnacle.Gist:
		return base + "/" + commit
	}
	return ""
}
