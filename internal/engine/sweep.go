package engine

import (
	"bufio"
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
	"golang.org/x/sys/unix"
)

// sweep ends the build steps that an earlier process on this directory left
// running when it was killed, and unmounts their roots. Sessions are not
// touched: they have shims.
func (e *Engine) sweep(ctx context.Context) error {
	g := e.groups()
	if err := removeGroups(g.mounts, g.parent); err != nil {
		return fmt.Errorf("end the build steps of an earlier run: %w", err)
	}
	for _, dir := range []string{e.execDir(), tempDir(e.cfg.Dir)} {
		mounts, err := mountsBelow(dir)
		if err != nil {
			return err
		}
		for _, m := range slices.Backward(mounts) { // the deepest were mounted last
			if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount what a build step left: %w", err)
			}
		}
		if len(mounts) > 0 {
			e.log.InfoContext(ctx, "cleaned up after builds that were cut off", "mounts", len(mounts))
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what a build step left: %w", err)
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

// mountsBelow lists mount points under dir in the order they were mounted.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var points []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		const point = 4 // proc(5): the mount point is the fifth field
		if len(fields) > point && strings.HasPrefix(fields[point], filepath.Clean(dir)+"/") {
			points = append(points, fields[point])
		}
	}
	return points, scan.Err()
}
