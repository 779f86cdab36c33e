package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// Fetch writes the files of a revision to dir, which must not exist: no .git,
// submodules filled in, large files replaced when Config.LFS is set. Links that
// lead out of the repository are left out. out, which may be nil, gets a line
// for that, beginning with [Note], and for what git reports.
//
// Nothing is left at dir when it fails. Returns invalid (a file name, a
// submodule's address), not_found, forbidden, limited, timeout, unavailable;
// build_failed names the submodule that could not be fetched.
func (s *Source) Fetch(ctx context.Context, rev binnacle.Revision, p Policy, dir string, out func(line string)) (err error) {
	if out == nil {
		out = func(string) {}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.FetchTimeout, errSlow)
	defer cancel()
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("source: make the checkout: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	left := &tally{files: s.cfg.MaxFiles, bytes: s.cfg.MaxBytes}
	if rev.Spec.Provider == binnacle.Dir {
		return s.copyDir(ctx, rev, p, dir, left, out)
	}
	r, err := parseRemote(rev.URL)
	if err != nil {
		return err
	}
	if !isCommit(rev.Commit) {
		return invalid("Resolve the ref first.", "A revision is fetched by its commit.")
	}
	start := time.Now()
	f := &fetching{s: s, policy: p, left: left, line: out, subdir: rev.Spec.Subdir}
	if err := f.repository(ctx, r, rev.Commit, dir, "", 0); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "repository fetched", slog.String("repo", r.String()), slog.String("commit", rev.Commit),
		slog.Int("files", s.cfg.MaxFiles-left.files), slog.Duration("duration", time.Since(start)))
	return nil
}

// fetching is one Fetch of a git repository.
type fetching struct {
	s       *Source
	policy  Policy
	left    *tally
	line    func(string)
	modules int // submodules so far
	subdir  string
}

// repository writes a commit to dir, then its submodules. prefix is where dir
// stands in the whole, empty or with a slash at its end.
func (f *fetching) repository(ctx context.Context, r remote, commit, dir, prefix string, depth int) error {
	n, err := f.s.open(ctx, r, f.policy)
	if err != nil {
		return err
	}
	defer n.close()
	list, modules, err := f.content(ctx, n, commit, dir, prefix)
	if err != nil {
		return n.explain(ctx, err)
	}
	if err := f.large(ctx, n, list, dir, prefix); err != nil {
		return n.explain(ctx, err)
	}
	return f.submodules(ctx, r, list, modules, dir, prefix, depth)
}

// content does what needs the mirror, and holds its lock meanwhile. It returns
// the tree and the addresses of its submodules. A mirror that cannot be read
// (a disk that was full, a machine that lost power) is made anew, once.
func (f *fetching) content(ctx context.Context, n *network, commit, dir, prefix string) ([]entry, []module, error) {
	m := f.s.mirror(n.remote, f.policy, len(commit))
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	left := *f.left
	for first := true; ; first = false {
		if err := m.fetch(ctx, n, commit, f.line, f.s.cfg.MaxBytes); err != nil {
			return nil, nil, err
		}
		list, modules, err := f.materialise(ctx, m, commit, dir, prefix)
		if _, broken := errors.AsType[*gitError](err); !broken || !first {
			return list, modules, err
		}
		f.s.log.WarnContext(ctx, "mirror cannot be read, made anew", slog.String("repo", n.remote.String()), slog.Any("err", err))
		*f.left = left
		for _, d := range []string{m.dir, dir} {
			if err := os.RemoveAll(d); err != nil {
				return nil, nil, fmt.Errorf("make a mirror anew: %w", err)
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, nil, fmt.Errorf("make a mirror anew: %w", err)
		}
	}
}

// materialise writes the files of a commit that the mirror has.
func (f *fetching) materialise(ctx context.Context, m *mirror, commit, dir, prefix string) ([]entry, []module, error) {
	list, err := m.tree(ctx, commit, f.left)
	if err != nil {
		return nil, nil, err
	}
	// Asked after tree, so that what cannot be read is told from what is no commit.
	if _, err := m.commit(ctx, commit); err != nil {
		return nil, nil, err
	}
	// What .gitmodules says is for paths of the whole.
	modules, err := m.modules(ctx, commit, list)
	if err != nil {
		return nil, nil, err
	}
	if prefix == "" && f.subdir != "" {
		if list, modules, err = below(f.subdir, list, modules); err != nil {
			return nil, nil, err
		}
	}
	list = dropLinks(list, prefix, f.line)
	index := filepath.Join(m.dir, "checkout.index")
	for _, name := range []string{index, index + ".lock"} {
		_ = os.Remove(name) // a killed process leaves them
	}
	defer os.Remove(index)
	return list, modules, m.checkout(ctx, list, dir, index)
}

// Note begins those lines of [Source.Fetch] that say what is not as the author of
// the repository means it, and what to do.
const Note = "note: "

// maxNotes is how many notes of a kind a person is given.
const maxNotes = 20

// dropLinks leaves out the links that lead out of the tree.
func dropLinks(list []entry, prefix string, line func(string)) []entry {
	out := escaping(list)
	for i, p := range out {
		if i == maxNotes {
			line(Note + fmt.Sprintf("So were %d more.", len(out)-i))
			break
		}
		line(Note + "The symbolic link " + quote(prefix+p) + " leads out of the repository and was left out.")
	}
	return slices.DeleteFunc(list, func(e entry) bool {
		_, found := slices.BinarySearch(out, e.path)
		return found && e.kind == kindLink
	})
}

// CommitTime is when the commit of a fetched revision was made; for a
// directory it is when the newest of its files was changed.
func (s *Source) CommitTime(ctx context.Context, rev binnacle.Revision) (time.Time, error) {
	if rev.Spec.Provider == binnacle.Dir {
		return newest(ctx, rev.URL)
	}
	r, err := parseRemote(rev.URL)
	if err != nil {
		return time.Time{}, err
	}
	if !isCommit(rev.Commit) {
		return time.Time{}, invalid("Resolve the ref first.", "A revision is known by its commit.")
	}
	// Whoever fetched it, a commit's time is the same.
	for _, p := range []Policy{{}, {Local: true}} {
		m := s.mirror(r, p, len(rev.Commit))
		if _, err := os.Stat(m.dir); err != nil {
			continue
		}
		var out bytes.Buffer
		err := s.git(ctx, command{gitDir: m.dir, args: []string{"log", "-1", "--no-show-signature", "--format=%ct", rev.Commit, "--"}, stdout: &out})
		if _, failed := errors.AsType[*gitError](err); failed {
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("source: the time of commit %s: %w", rev.Commit, err)
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	return time.Time{}, binnacle.Errorf(binnacle.CodeNotFound, "The commit %s has not been fetched.", rev.Commit)
}
