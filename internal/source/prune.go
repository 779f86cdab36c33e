package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cached is a mirror as it lies on disk: its objects, its history, its lock.
type cached struct {
	name string
	size int64
	used time.Time
}

// Usage is how many bytes the mirrors take.
func (s *Source) Usage(ctx context.Context) (int64, error) {
	list, err := s.cached(ctx)
	var total int64
	for _, c := range list {
		total += c.size
	}
	return total, err
}

// Prune removes mirrors that were not used for keep, then the ones used
// longest ago until the others take no more than budget bytes; 0 leaves out
// that limit. A mirror in use stays. The packs of those that stay, one from
// each fetch, are put together when they are many. It returns how many bytes
// were freed.
func (s *Source) Prune(ctx context.Context, keep time.Duration, budget int64) (freed int64, err error) {
	list, err := s.cached(ctx)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(list, func(a, b cached) int { return a.used.Compare(b.used) })
	var total int64
	for _, c := range list {
		total += c.size
	}
	for _, c := range list {
		old := keep > 0 && time.Since(c.used) > keep
		full := budget > 0 && total > budget
		if !old && !full {
			if err := s.repack(ctx, c.name); err != nil {
				return freed, err
			}
			continue
		}
		removed, err := s.remove(ctx, c.name)
		if err != nil {
			return freed, err
		}
		if removed {
			freed += c.size
			total -= c.size
		}
	}
	return freed, nil
}

func (s *Source) cached(ctx context.Context) ([]cached, error) {
	files, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("source: list mirrors: %w", err)
	}
	byName := map[string]*cached{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		base := strings.TrimSuffix(f.Name(), ".new")
		ext := filepath.Ext(base)
		if !f.IsDir() || (ext != mirrorSuffix && ext != historySuffix) {
			continue
		}
		name := strings.TrimSuffix(base, ext)
		c := byName[name]
		if c == nil {
			c = &cached{name: name}
			byName[name] = c
			if info, err := os.Stat(filepath.Join(s.cfg.Dir, name+lockSuffix)); err == nil {
				c.used = info.ModTime()
			}
		}
		c.size += treeSize(filepath.Join(s.cfg.Dir, f.Name()))
	}
	var list []cached
	for _, c := range byName {
		list = append(list, *c)
	}
	return list, nil
}

// remove takes a mirror away unless somebody works on it. Its lock file stays:
// removing it would let two processes hold two files of one name.
func (s *Source) remove(ctx context.Context, name string) (bool, error) {
	m := &mirror{s: s, name: name, dir: filepath.Join(s.cfg.Dir, name+mirrorSuffix)}
	unlock, ok := m.tryLock()
	if !ok {
		return false, nil
	}
	defer unlock()
	for _, suffix := range []string{mirrorSuffix, historySuffix} {
		for _, end := range []string{"", ".new"} {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if err := os.RemoveAll(filepath.Join(s.cfg.Dir, name+suffix+end)); err != nil {
				return false, fmt.Errorf("source: remove a mirror: %w", err)
			}
		}
	}
	return true, nil
}

// maxPacks is how many packs a mirror may have before looking into all of them
// costs more than putting them together.
const maxPacks = 40

func (s *Source) repack(ctx context.Context, name string) error {
	m := &mirror{s: s, name: name, dir: filepath.Join(s.cfg.Dir, name+mirrorSuffix)}
	packs, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) <= maxPacks {
		return err
	}
	unlock, ok := m.tryLock()
	if !ok {
		return nil
	}
	defer unlock()
	if err := s.git(ctx, command{gitDir: m.dir, args: []string{"repack", "-a", "-d", "-q"}}); err != nil {
		return fmt.Errorf("source: put packs together: %w", err)
	}
	return nil
}

// tryLock is lock for who would rather not wait, and does not count as use.
func (m *mirror) tryLock() (unlock func(), ok bool) {
	m.s.mu.Lock()
	held := m.s.locks[m.name]
	if held == nil {
		held = make(chan struct{}, 1)
		m.s.locks[m.name] = held
	}
	m.s.mu.Unlock()
	select {
	case held <- struct{}{}:
	default:
		return nil, false
	}
	file, err := os.OpenFile(filepath.Join(m.s.cfg.Dir, m.name+lockSuffix), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil || syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = file.Close()
		<-held
		return nil, false
	}
	return func() { _ = file.Close(); <-held }, true
}
