package source

import (
	"bytes"
	"context"
	"log/slog"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// Resolve finds the commit spec means now: HEAD, a branch, a tag, a full ref
// (refs/heads/x, refs/tags/x, refs/pull/1/head), or a commit, in full or at
// least seven digits of it. A full commit is proved by fetching it.
//
// Returns invalid for what cannot be a repository or a ref, forbidden for what
// the policy does not allow, not_found when repository, ref or commit does not
// exist (or is private, which looks the same), conflict when the ref names
// more than one commit, timeout, limited (too big) or unavailable.
func (s *Source) Resolve(ctx context.Context, spec binnacle.Spec, p Policy) (binnacle.Revision, error) {
	rev, _, err := s.ResolveTarget(ctx, Target{Spec: spec}, p)
	return rev, err
}

// ResolveTarget is Resolve for what [Parse] read: where a ref and a path follow
// each other it takes the longest ref the repository has. It also returns the
// path to open, empty for none. The codes are those of Resolve.
func (s *Source) ResolveTarget(ctx context.Context, t Target, p Policy) (binnacle.Revision, string, error) {
	if t.Spec.Ref == "" && t.Spec.Provider != binnacle.Dir {
		t.Spec.Ref = binnacle.HeadRef
	}
	if err := t.check(); err != nil {
		return binnacle.Revision{}, "", err
	}
	limit := s.cfg.ResolveTimeout
	if isCommit(t.Spec.Ref) {
		limit = s.cfg.FetchTimeout // to prove it is to fetch it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	if t.Spec.Provider == binnacle.Dir {
		rev, err := s.resolveDir(ctx, t.Spec, p)
		return rev, t.Path, err
	}
	r, err := s.origin(t.Spec)
	if err != nil {
		return binnacle.Revision{}, "", err
	}
	n, err := s.open(ctx, r, p)
	if err != nil {
		return binnacle.Revision{}, "", err
	}
	defer n.close()
	commit, ref, path, err := s.find(ctx, n, t)
	gone := ""
	if err != nil {
		if gone = renamed(t, err); gone != "" {
			commit, ref, err = s.defaultBranch(ctx, n, err)
			_, path, _ = strings.Cut(t.Spec.Ref, "/")
		}
		if err != nil {
			return binnacle.Revision{}, "", n.explain(ctx, err)
		}
	}
	t.Spec.Ref = ref
	if path == "" {
		path = t.Path
	}
	if !isCommit(commit) {
		return binnacle.Revision{}, "", binnacle.Errorf(binnacle.CodeInternal, "The ref did not lead to a commit.")
	}
	s.log.InfoContext(ctx, "ref resolved", slog.String("repo", r.String()), slog.String("ref", ref), slog.String("commit", commit))
	return binnacle.Revision{Spec: t.Spec, URL: r.String(), Commit: commit, WebURL: s.webURL(t.Spec, commit), Gone: gone}, path, nil
}

// renamed is the branch that a link names and that was the default of many
// repositories until they renamed it, or the other way round: links in papers
// go on naming it. Empty when it is another one, or what is wrong is not that it
// is missing.
func renamed(t Target, err error) string {
	name := t.Spec.Ref
	if t.RefAndPath {
		name, _, _ = strings.Cut(name, "/")
	}
	if binnacle.CodeOf(err) == binnacle.CodeNotFound && (name == "master" || name == "main") {
		return name
	}
	return ""
}

// defaultBranch is what HEAD stands for, by its name where the server tells it.
// Without one, missing is the error.
func (s *Source) defaultBranch(ctx context.Context, n *network, missing error) (commit, ref string, err error) {
	rs, err := s.refs(ctx, n, binnacle.HeadRef)
	if err != nil {
		return "", "", err
	}
	if commit = rs.commits[binnacle.HeadRef]; commit == "" {
		return "", "", missing
	}
	if name, ok := strings.CutPrefix(rs.head, "refs/heads/"); ok && rs.commits[rs.head] == commit {
		return commit, name, nil
	}
	return commit, binnacle.HeadRef, nil
}

// find returns the commit, the ref that led to it and the path that is left.
func (s *Source) find(ctx context.Context, n *network, t Target) (commit, ref, path string, err error) {
	ref = t.Spec.Ref
	if isCommit(ref) {
		commit, err = s.prove(ctx, n, ref)
		return commit, ref, "", err
	}
	rs, err := s.refs(ctx, n, ref)
	if err != nil {
		return "", "", "", err
	}
	if !t.RefAndPath {
		commit, err = s.pick(ctx, n, rs, ref)
		return commit, ref, "", err
	}
	parts := strings.Split(ref, "/")
	for i := len(parts); i > 0; i-- {
		name, rest := strings.Join(parts[:i], "/"), strings.Join(parts[i:], "/")
		if checkRef(name) != nil {
			continue // a path may hold what a ref may not
		}
		commit, err := rs.lookup(name)
		if err != nil || commit != "" {
			return commit, name, rest, err
		}
	}
	commit, err = s.pick(ctx, n, rs, parts[0])
	return commit, parts[0], strings.Join(parts[1:], "/"), err
}

// refs asks the repository. For a branch or tag the server is told to leave out
// what forges keep beside them (a ref for each pull request).
func (s *Source) refs(ctx context.Context, n *network, ref string) (refs, error) {
	args := []string{"ls-remote", "--symref"}
	filter := ref != binnacle.HeadRef && (!strings.HasPrefix(ref, "refs/") || strings.HasPrefix(ref, "refs/heads/") || strings.HasPrefix(ref, "refs/tags/"))
	if filter {
		args = append(args, "--heads", "--tags")
	}
	args = append(args, "--", n.address())
	var out bytes.Buffer
	if err := s.git(ctx, command{args: args, net: n, stdout: &out}); err != nil {
		return refs{}, err
	}
	rs, err := parseRefs(out.Bytes())
	if err != nil {
		return refs{}, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "source.resolve", Err: err,
			Message: "The server of " + quote(n.remote.String()) + " gave an answer that is not git's.", Hint: "Check the address.",
		}
	}
	return rs, nil
}

// lookup is the commit of a branch, a tag or a full ref; "" when there is none.
func (r refs) lookup(name string) (string, error) {
	if name == binnacle.HeadRef || strings.HasPrefix(name, "refs/") {
		return r.commits[name], nil
	}
	branch, tag := r.commits["refs/heads/"+name], r.commits["refs/tags/"+name]
	if branch != "" && tag != "" && branch != tag {
		return "", &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "source.resolve",
			Message: "The ref " + quote(name) + " is ambiguous: the branch is at " + branch[:12] + ", the tag of the same name at " + tag[:12] + ".",
			Hint:    "Write refs/heads/" + name + " for the branch or refs/tags/" + name + " for the tag.",
		}
	}
	if branch == "" {
		branch = tag
	}
	return branch, nil
}

// pick is lookup that goes on with the digits of a commit and explains what is
// missing.
func (s *Source) pick(ctx context.Context, n *network, rs refs, ref string) (string, error) {
	commit, err := rs.lookup(ref)
	if err != nil || commit != "" {
		return commit, err
	}
	if len(ref) >= minShort && len(ref) < 64 && isHex(ref) {
		commit, err := s.expand(ctx, n, rs, ref)
		if err != nil || commit != "" {
			return commit, err
		}
	}
	e := &binnacle.Error{Code: binnacle.CodeNotFound, Op: "source.resolve"}
	repo := quote(n.remote.String())
	switch near, names := rs.near(ref), rs.names(); {
	case len(names) == 0:
		e.Message, e.Hint = "The repository "+repo+" has no commits yet.", "Push something to it first."
	case ref == binnacle.HeadRef:
		e.Message, e.Hint = "The repository "+repo+" does not say which branch is its default.", "Name a branch, for example "+names[0]+"."
	case len(near) > 0:
		e.Message = "The repository " + repo + " has no branch, tag or commit " + quote(ref) + "."
		e.Hint = "Did you mean " + strings.Join(near, ", ") + "?"
	default:
		e.Message = "The repository " + repo + " has no branch, tag or commit " + quote(ref) + "."
		e.Hint = "Leave out the ref to take the default branch."
	}
	return "", e
}

// expand completes a short commit: among the tips, else in the history, which
// is fetched without files. Returns "" when there is none.
func (s *Source) expand(ctx context.Context, n *network, rs refs, short string) (string, error) {
	found := map[string]bool{}
	for _, commit := range rs.commits {
		if strings.HasPrefix(commit, short) {
			found[commit] = true
		}
	}
	switch {
	case len(found) > 1:
		return "", shortConflict(short)
	case len(found) == 1:
		for commit := range found {
			return commit, nil
		}
	case len(rs.commits) == 0:
		return "", nil
	}
	return s.searchHistory(ctx, n, rs, short)
}

func shortConflict(short string) *binnacle.Error {
	return &binnacle.Error{
		Code: binnacle.CodeConflict, Op: "source.resolve",
		Message: "More than one commit begins with " + quote(short) + ".", Hint: "Give more digits of the commit.",
	}
}

// prove fetches a full commit into the mirror, where Fetch will find it. A
// commit that is there has been proved before under the same policy. The name
// of an annotated tag's object gives the commit it stands for.
func (s *Source) prove(ctx context.Context, n *network, id string) (string, error) {
	m := s.mirror(n.remote, n.policy, len(id))
	unlock, err := m.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := m.fetch(ctx, n, id, nil, s.cfg.MaxBytes); err != nil {
		return "", err
	}
	return m.commit(ctx, id)
}
