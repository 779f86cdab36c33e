package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/source"
)

// largest is how much of a deployment's file is read, in bytes.
const largest = 1 << 20

// Git is a branch of a git repository. The operator names it, so addresses of
// this site are fine.
type Git struct {
	source *source.Source
	target source.Target
	file   string
	last   binnacle.Revision
}

var _ Repository = (*Git)(nil)

// NewGit follows the branch of a repository, as people write its address; file is
// the deployment's, below its root. Returns invalid for an address that is none.
func NewGit(src *source.Source, repo, branch, file string) (*Git, error) {
	t, err := source.Parse(repo)
	if err != nil {
		return nil, err
	}
	if t.Spec.Provider == binnacle.Dir {
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "A directory has no commits to follow: name a repository, such as file://%s.", t.Spec.Repo)
	}
	if branch != "" {
		t.Spec.Ref, t.RefAndPath = branch, false
	}
	return &Git{source: src, target: t, file: file}, nil
}

// Head implements Repository.
func (g *Git) Head(ctx context.Context) (string, error) {
	rev, _, err := g.source.ResolveTarget(ctx, g.target, source.Policy{Local: true})
	if err != nil {
		return "", err
	}
	g.last = rev
	return rev.Commit, nil
}

// File implements Repository.
func (g *Git) File(ctx context.Context, commit string) (_ []byte, err error) {
	if g.last.Commit != commit {
		return nil, binnacle.Errorf(binnacle.CodeConflict, "The commit %s is not the one that was found last.", commit)
	}
	parent, err := os.MkdirTemp("", "binnacle-watch-")
	if err != nil {
		return nil, fmt.Errorf("fetch the deployment's file: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(parent)) }()
	dir := parent + "/tree"
	if err := g.source.Fetch(ctx, g.last, source.Policy{Local: true}, dir, func(string) {}); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir) // a link of the repository leads nowhere else
	if err != nil {
		return nil, fmt.Errorf("read the deployment's file: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	f, err := root.Open(g.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "There is no %s in the repository.", g.file)
	}
	if err != nil {
		return nil, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "watch.file", Message: g.file + " of the repository can't be read.", Err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(b) > largest {
		err = binnacle.Errorf(binnacle.CodeInvalid, "%s of the repository is too large to be a deployment's.", g.file)
	}
	return b, err
}
