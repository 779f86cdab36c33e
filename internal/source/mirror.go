package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// mirror is a bare repository that keeps what was fetched from one address, so
// that the next commit costs what it changed. Each fetched object has a ref of
// its own, refs/binnacle/<id>: git tells the server of refs, not of objects.
type mirror struct {
	s      *Source
	name   string
	dir    string
	format string // sha1 or sha256
}

const (
	mirrorSuffix  = ".git"
	historySuffix = ".history"
	lockSuffix    = ".lock"
	watchInterval = 250 * time.Millisecond
	lockInterval  = 50 * time.Millisecond
)

// mirror names the mirror of an address. What a trusted caller fetched, maybe
// with credentials, has one of its own: the public must not find it there.
func (s *Source) mirror(r remote, p Policy, idLength int) *mirror {
	format := "sha1"
	if idLength == 64 {
		format = "sha256"
	}
	who := "public"
	if p.Local {
		who = "local"
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{who, format, r.String()}, "\x00")))
	name := slug(r) + "-" + hex.EncodeToString(sum[:8])
	return &mirror{s: s, name: name, dir: filepath.Join(s.cfg.Dir, name+mirrorSuffix), format: format}
}

// slug is the readable part of a mirror's name.
func slug(r remote) string {
	s := strings.Map(func(c rune) rune {
		if asciiWord(c) || c == '-' {
			return c
		}
		return '-'
	}, strings.TrimSuffix(r.host+r.path, ".git"))
	if len(s) > 60 {
		s = s[len(s)-60:]
	}
	return strings.Trim(strings.ToLower(s), "-")
}

// lock waits until nobody else works on the mirror: others of this process by
// a channel, other processes by flock. It marks the mirror as used now.
func (m *mirror) lock(ctx context.Context) (unlock func(), err error) {
	s := m.s
	s.mu.Lock()
	held := s.locks[m.name]
	if held == nil {
		held = make(chan struct{}, 1)
		s.locks[m.name] = held
	}
	s.mu.Unlock()
	select {
	case held <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	file, err := flock(ctx, filepath.Join(s.cfg.Dir, m.name+lockSuffix))
	if err != nil {
		<-held
		return nil, err
	}
	now := time.Now()
	_ = os.Chtimes(file.Name(), now, now)
	return func() { _ = file.Close(); <-held }, nil
}

func flock(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock mirror: %w", err)
	}
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock mirror: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// init makes the bare repository when it is not there. HEAD comes last, so a
// directory without it is what a killed process left.
func (m *mirror) init(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	if err := m.s.git(ctx, command{args: []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + m.format, "--initial-branch=none", "--", tmp}}); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("make mirror: %w", err)
	}
	return nil
}

// has says whether the object was fetched completely: its ref is written last.
func (m *mirror) has(ctx context.Context, id string) bool {
	var out bytes.Buffer
	err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"rev-parse", "--verify", "--quiet", "refs/binnacle/" + id}, stdout: &out})
	return err == nil && strings.TrimSpace(out.String()) == id
}

// commit is the commit an object stands for. Returns invalid when it is a file
// or a folder; a tag may name those too.
func (m *mirror) commit(ctx context.Context, id string) (string, error) {
	var out bytes.Buffer
	err := m.s.git(ctx, command{gitDir: m.dir, args: []string{"rev-parse", "--verify", "--quiet", id + "^{commit}"}, stdout: &out})
	if _, failed := errors.AsType[*gitError](err); failed {
		return "", invalid("Give the commit, not a file or a folder of it.", quote(id)+" is an object of the repository but not a commit.")
	}
	return strings.TrimSpace(out.String()), err
}

// fetch brings one object, all it needs and no history, unless it is there.
// Servers that do not give out a commit by its name are asked for everything.
func (m *mirror) fetch(ctx context.Context, n *network, id string, line func(string), maxBytes int64) error {
	if err := m.init(ctx, m.dir); err != nil {
		return err
	}
	if m.has(ctx, id) {
		return nil
	}
	err := m.run(ctx, n, m.dir, line, maxBytes, "--depth=1", "--update-shallow", "--", n.address(), "+"+id+":refs/binnacle/"+id)
	ge, failed := errors.AsType[*gitError](err)
	if !failed {
		return err
	}
	if ge.says("does not allow request for unadvertised object", "does not support shallow", "no matching remote head", "does not support --depth") {
		err = m.fetchAll(ctx, n, id, line, maxBytes)
		ge, failed = errors.AsType[*gitError](err)
	}
	if failed && ge.says("not our ref", "Unable to find", "bad object", "nonexistent object") {
		return &binnacle.Error{
			Code: binnacle.CodeNotFound, Op: "source.fetch", Err: err,
			Message: "The repository " + quote(n.remote.String()) + " has no commit " + id + ".",
			Hint:    "It may have been removed by a forced push. Use a branch or a tag.",
		}
	}
	return err
}

func (m *mirror) fetchAll(ctx context.Context, n *network, id string, line func(string), maxBytes int64) error {
	args := []string{"--", n.address(), "+refs/heads/*:refs/binnacle/all/heads/*", "+refs/tags/*:refs/binnacle/all/tags/*"}
	if _, err := os.Stat(filepath.Join(m.dir, "shallow")); err == nil {
		args = append([]string{"--unshallow"}, args...)
	}
	if err := m.run(ctx, n, m.dir, line, maxBytes, args...); err != nil {
		return err
	}
	return m.s.git(ctx, command{gitDir: m.dir, args: []string{"update-ref", "refs/binnacle/" + id, id}})
}

// run is git fetch under watch: the transfer ends when the mirror grew by more
// than maxBytes.
func (m *mirror) run(ctx context.Context, n *network, dir string, line func(string), maxBytes int64, args ...string) error {
	sweep(dir)
	base := []string{"fetch", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--progress"}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch(ctx, filepath.Join(dir, "objects"), maxBytes, cancel)
	}()
	err := m.s.git(ctx, command{gitDir: dir, args: append(base, args...), net: n, line: progress(line)})
	cancel(nil)
	<-done
	if err != nil {
		sweep(dir)
	}
	return err
}

// watch cancels when the tree at dir has grown by more than limit bytes.
func watch(ctx context.Context, dir string, limit int64, cancel context.CancelCauseFunc) {
	start := treeSize(dir)
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if treeSize(dir)-start > limit {
				cancel(errTooBig)
				return
			}
		}
	}
}

func treeSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // git removes files while we look
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// sweep takes away what a killed git leaves behind. Whoever calls it holds the
// mirror, so no lock file of git's is in use.
func sweep(dir string) {
	for _, pattern := range []string{"*.lock", "refs/binnacle/*.lock", "objects/pack/tmp_*", "objects/tmp_*"} {
		left, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range left {
			_ = os.RemoveAll(f)
		}
	}
}

// progress leaves out the lines about our own refs.
func progress(line func(string)) func(string) {
	return func(text string) {
		if line != nil && !strings.HasPrefix(text, "From ") && !strings.HasPrefix(text, "* ") {
			line(text)
		}
	}
}

// searchHistory completes a short commit from all branches and tags, fetched
// without trees into a repository beside the mirror. It is kept apart because
// git marks such a repository as partial, and would ask the server again for
// what is missing.
func (s *Source) searchHistory(ctx context.Context, n *network, rs refs, short string) (string, error) {
	length := 40
	for _, commit := range rs.commits {
		length = len(commit)
	}
	m := s.mirror(n.remote, n.policy, length)
	unlock, err := m.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := strings.TrimSuffix(m.dir, mirrorSuffix) + historySuffix
	if err := m.init(ctx, dir); err != nil {
		return "", err
	}
	err = m.run(ctx, n, dir, nil, s.cfg.MaxBytes, "--filter=tree:0", "--prune", "--", n.address(), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	if err != nil {
		_ = os.RemoveAll(dir) // whatever state it is in
		return "", err
	}
	var out bytes.Buffer
	err = s.git(ctx, command{gitDir: dir, args: []string{"rev-parse", "--disambiguate=" + short}, stdout: &out})
	if err != nil {
		return "", fmt.Errorf("complete a commit: %w", err)
	}
	var found []string
	for id := range strings.FieldsSeq(out.String()) {
		var kind bytes.Buffer
		err := s.git(ctx, command{gitDir: dir, args: []string{"cat-file", "-t", id}, stdout: &kind})
		if err == nil && strings.TrimSpace(kind.String()) == "commit" {
			found = append(found, id)
		}
	}
	if len(found) > 1 {
		return "", shortConflict(short)
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0], nil
}
