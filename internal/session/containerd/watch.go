package containerd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

const (
	logEvery  = time.Second
	diskEvery = 3 * time.Second
	diskDrop  = 64 << 20 // free space that must have gone before anybody is measured
)

// Run keeps sessions within their disk limits, cuts their logs and notes why
// they end, until ctx does.
func (s *Spawner) Run(ctx context.Context) error {
	exits, failed := s.client.EventService().Subscribe(s.with(ctx), `topic=="/tasks/exit"`)
	logs, disk := time.NewTicker(logEvery), time.NewTicker(diskEvery)
	defer logs.Stop()
	defer disk.Stop()
	free, turn := freeSpace(s.cfg.Dir), 0
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err = <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return away("listen to the container engine", err)
		case e := <-exits:
			err = s.recordExit(ctx, exitedSession(e))
		case <-logs.C:
			err = s.cutLogs()
		case <-disk.C:
			now := freeSpace(s.cfg.Dir)
			// All when much has gone; one in turn in any case, because what one
			// session writes may be what another one frees.
			turn++
			all := now+diskDrop < free
			if err = s.checkDisk(ctx, all, turn); all {
				free = now
			}
			free = max(free, now)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "could not look after the sessions; trying again", "error", err)
		}
	}
}

// exitedSession is the container whose first process ended; "" for another event.
func exitedSession(e *events.Envelope) string {
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return ""
	}
	if exit, ok := v.(*eventtypes.TaskExit); ok && exit.ID == exit.ContainerID {
		return exit.ContainerID
	}
	return ""
}

// recordExit keeps the reason with the container: it is known only as long as
// the process's control group is there.
func (s *Spawner) recordExit(ctx context.Context, id string) error {
	if id == "" || s.claims.Claimed(id) { // being stopped
		return nil
	}
	st, err := s.Get(ctx, id)
	if binnacle.CodeOf(err) == binnacle.CodeNotFound || err == nil && st.State != session.Exited {
		return nil
	}
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "a session ended", "session_id", id, "reason", st.Exit)
	return s.setExit(ctx, id, st.Exit)
}

func (s *Spawner) setExit(ctx context.Context, id, reason string) error {
	ctx = s.with(ctx)
	c, err := s.client.LoadContainer(ctx, id)
	if err == nil {
		_, err = c.SetLabels(ctx, map[string]string{labelExit: reason})
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return away("note why the session ended", err)
	}
	return nil
}

// exitReason is a sentence about an end that we did not bring about.
func (s *Spawner) exitReason(c containers.Container, code uint32) string {
	if limits := limitsOf(c); code == uint32(session.KilledCode) && limits.Memory > 0 && s.oomKills(c.ID) > 0 {
		return session.ExitByMemory(limits.Memory)
	}
	return session.ExitByCode(int(code))
}

func limitsOf(c containers.Container) binnacle.Limits {
	var l binnacle.Limits
	_ = json.Unmarshal([]byte(c.Labels[labelLimits]), &l) // ours; a broken one limits nothing
	return l
}

// oomKills counts how often the kernel ended a process of the session for memory.
func (s *Spawner) oomKills(id string) int {
	group := filepath.Join(s.cgroup(), id)
	for _, file := range []string{
		filepath.Join("/sys/fs/cgroup/memory", group, "memory.oom_control"), // version 1
		filepath.Join("/sys/fs/cgroup", group, "memory.events"),             // version 2
	} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
				count, _ := strconv.Atoi(n)
				return count
			}
		}
	}
	return 0
}

func (s *Spawner) cutLogs() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the directories of sessions: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, cutLog(s.logFile(e.Name()), s.cfg.LogSize))
	}
	return errors.Join(errs...)
}

func freeSpace(dir string) uint64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return st.Bavail * uint64(max(st.Bsize, 0))
}

// checkDisk measures what each session wrote, or only the one whose turn it is,
// and stops those over their limit.
// An ordinary ext4 has no quota for a directory, so this is all there is.
func (s *Spawner) checkDisk(ctx context.Context, each bool, turn int) error {
	list, err := s.containers(s.with(ctx))
	if err != nil {
		return err
	}
	if !each && len(list) > 0 {
		list = list[turn%len(list):][:1]
	}
	var errs []error
	for _, c := range list {
		limit := limitsOf(c).Disk
		if limit <= 0 || c.Labels[labelExit] != "" || s.claims.Claimed(c.ID) {
			continue
		}
		used, err := s.diskUse(ctx, c.ID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if used > limit {
			errs = append(errs, s.stopFor(ctx, c.ID, session.ExitByDisk(limit)))
		}
	}
	return errors.Join(errs...)
}

func (s *Spawner) diskUse(ctx context.Context, id string) (int64, error) {
	usage, err := s.client.SnapshotService(s.cfg.Snapshotter).Usage(s.with(ctx), snapshotKey(id))
	if err != nil && !errdefs.IsNotFound(err) {
		return 0, away("measure a session's files", err)
	}
	used := usage.Size
	// The socket directory is the session's, too.
	err = filepath.WalkDir(s.dir(id), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away meanwhile
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				const block = 512
				used += st.Blocks * block
			}
		}
		return ctx.Err()
	})
	return used, err
}

// stopFor ends a session's process and says why; the rest is the hub's to remove.
func (s *Spawner) stopFor(ctx context.Context, id, reason string) error {
	if err := s.setExit(ctx, id, reason); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "stopping a session", "session_id", id, "reason", reason)
	ctx = s.with(ctx)
	c, err := s.client.LoadContainer(ctx, id)
	if err != nil {
		return away("look for the session", err)
	}
	task, err := c.Task(ctx, nil)
	if err == nil {
		err = task.Kill(ctx, syscall.SIGKILL)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return away("stop the session", err)
	}
	return nil
}
