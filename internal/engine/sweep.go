package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// sweep ends the build steps that an earlier process on this directory left
// running when it was killed, and unmounts their roots and caches. Sessions are not
// touched: they have shims.
func (e *Engine) sweep(ctx context.Context) error {
	g := e.groups()
	if err := removeGroups(g.mounts, g.parent); err != nil {
		return fmt.Errorf("end the build steps of an earlier run: %w", err)
	}
	if err := e.sweepMounts(); err != nil {
		return err
	}
	for _, dir := range []string{e.buildDir(), tempDir(e.cfg.Dir)} {
		n, err := unmountBelow(dir)
		if err != nil {
			return err
		}
		if n > 0 {
			e.log.InfoContext(ctx, "cleaned up after builds that were cut off", "mounts", n)
		}
	}
	if err := errors.Join(os.RemoveAll(e.execDir()), os.RemoveAll(tempDir(e.cfg.Dir))); err != nil {
		return fmt.Errorf("remove what a build step left: %w", err)
	}
	return nil
}

// unmountBelow takes away what steps and their caches have mounted in a directory,
// and says how many mounts there were.
func unmountBelow(dir string) (int, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return 0, fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) { // the deepest were mounted last
		if err := unmount(m); err != nil {
			return 0, fmt.Errorf("unmount what a build step left: %w", err)
		}
	}
	return len(mounts), nil
}

// unmount takes a mount away. It may be gone by now, with its place: a step that
// ends does so itself.
func unmount(m *mountinfo.Info) error {
	err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// sweepMounts takes away layers that BuildKit was looking into when it was
// killed: it mounts them among the machine's temporary files.
func (e *Engine) sweepMounts() error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		ours := strings.HasPrefix(m.Root, e.cfg.Dir+"/") || strings.Contains(m.VFSOptions, "="+e.cfg.Dir+"/")
		return !ours || !strings.HasPrefix(filepath.Base(m.Mountpoint), "buildkit-mount"), false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range mounts {
		if err := unmount(m); err != nil {
			return fmt.Errorf("unmount a layer that a build left: %w", err)
		}
		if err := os.Remove(m.Mountpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what a build left: %w", err)
		}
	}
	return nil
}

// sweepSnapshots removes the directories of layers that containerd's database
// does not know: a process that was killed between making one and writing it
// down leaves it, and the next layer of that number could not be made.
func (e *Engine) sweepSnapshots(ctx context.Context) error {
	root := filepath.Join(e.cfg.Dir, "containerd", "root", "io.containerd.snapshotter.v1.overlayfs")
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// Opened for a moment, before containerd does: its own service has no way to ask for this.
	s, err := overlay.NewSnapshotter(root)
	if err != nil {
		return fmt.Errorf("open the layers: %w", err)
	}
	cleaner, ok := s.(snapshots.Cleaner)
	if !ok {
		return errors.Join(errors.New("containerd's snapshotter can't be cleaned"), s.Close())
	}
	err = cleaner.Cleanup(ctx)
	if errdefs.IsNotFound(err) { // the database has no layer at all, so every directory is left over
		err = os.RemoveAll(filepath.Join(root, "snapshots"))
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("remove layers that were cut off: %w", err)
	}
	return nil
}
