package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	"golang.org/x/sys/unix"
)

// diskInterval is how often the disk is looked at while a step runs.
const diskInterval = 500 * time.Millisecond

var errDisk = errors.New("the step wrote more to the disk than it may")

// boundDisk ends the step when it has written more than it may. Ordinary file
// systems have no quota for a layer, and counting files takes long: so it looks
// what the file system has lost, and counts only when that could be too much, since
// others write too. The returned function stops the watch.
func (x *stepExecutor) boundDisk(ctx context.Context, out io.Writer, at *places) (context.Context, func()) {
	free, err := freeSpace(x.dir)
	if x.limits.Disk <= 0 || err != nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(diskInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, err := freeSpace(x.dir)
			if err != nil || free-now <= x.limits.Disk {
				continue
			}
			if own := at.written(ctx, began); own <= x.limits.Disk {
				free = now + own // the rest was others'
				continue
			}
			// In the words that explain a full disk to the author.
			fmt.Fprintf(out, "Stopped: this step wrote more than the %d MiB it may. No space left on device\n", x.limits.Disk>>20)
			cancel(errDisk)
			return
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// freeSpace of the file system that holds dir, in bytes.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no file system has 8 EiB
}

// places are the directories of this machine that a step writes to.
type places struct {
	mu   sync.Mutex
	dirs []string
}

// of lets a step have its mount, and notes where it leads.
func (p *places) of(m executor.Mount) executor.Mount {
	if !m.Readonly && m.Src != nil {
		m.Src = notedMount{m.Src, p}
	}
	return m
}

func (p *places) note(mounts []mount.Mount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range mounts {
		if m.Type == "bind" || m.Type == "rbind" {
			p.dirs = append(p.dirs, m.Source)
		}
		for _, option := range m.Options {
			if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
				p.dirs = append(p.dirs, upper)
			}
		}
	}
}

// written is what files that changed since then take on the disk, in bytes: in a
// cache that steps share those of others too. What vanishes meanwhile is not counted.
func (p *places) written(ctx context.Context, since time.Time) (total int64) {
	p.mu.Lock()
	dirs := slices.Clone(p.dirs)
	p.mu.Unlock()
	since = since.Add(-time.Second) // the kernel's clock for files is a coarse one
	linked := map[uint64]bool{}     // by inode: names of one file
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok || time.Unix(st.Ctim.Unix()).Before(since) || linked[st.Ino] {
				return nil
			}
			if st.Nlink > 1 && !d.IsDir() {
				linked[st.Ino] = true
			}
			const unit = 512 // bytes, of st_blocks
			total += st.Blocks * unit
			return nil
		})
	}
	return total
}

// notedMount is a mount that tells where it leads.
type notedMount struct {
	executor.Mountable
	places *places
}

// Mount implements executor.Mountable.
func (m notedMount) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	ref, err := m.Mountable.Mount(ctx, readonly)
	if err != nil || readonly {
		return ref, err
	}
	return notedRef{ref, m.places}, nil
}

type notedRef struct {
	executor.MountableRef
	places *places
}

// Mount implements executor.MountableRef.
func (r notedRef) Mount() ([]mount.Mount, func() error, error) {
	mounts, release, err := r.MountableRef.Mount()
	if err == nil {
		r.places.note(mounts)
	}
	return mounts, release, err
}
