package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups is the part of the cgroup tree that belongs to the build steps of one
// data directory: <mount>/binnacle/<name>/builds/<step>. runc makes a group for
// memory and CPU below it; we limit the number of processes, which BuildKit
// does not know about.
type cgroups struct {
	parent string   // the path inside each hierarchy
	mounts []string // the hierarchies: several with version 1, one with version 2
	pids   string   // the hierarchy with the pids controller; "" when there is none
}

func (e *Engine) groups() cgroups {
	sum := sha256.Sum256([]byte(e.cfg.Dir))
	g := cgroups{parent: filepath.Join("/binnacle", hex.EncodeToString(sum[:4]), "builds")}
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		g.mounts, g.pids = []string{root}, root
		return g
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return g
	}
	for _, entry := range entries {
		if entry.IsDir() { // version 1: links (cpu,cpuacct) would count twice
			g.mounts = append(g.mounts, filepath.Join(root, entry.Name()))
		}
		if entry.Name() == "pids" {
			g.pids = filepath.Join(root, "pids")
		}
	}
	return g
}

// probe makes the groups of all steps, which says whether the machine lets us. In
// a user namespace it may not: groups of version 1 belong to the machine's root,
// and those of version 2 to us only where the runtime gives them away.
func (g cgroups) probe() error {
	if len(g.mounts) == 0 {
		return errors.New("there are no control groups")
	}
	for _, m := range g.mounts {
		if err := os.MkdirAll(filepath.Join(m, g.parent), 0o755); err != nil {
			return err
		}
	}
	_, err := g.make("probe", 1)
	return errors.Join(err, removeGroups(g.mounts, filepath.Join(g.parent, "probe")))
}

// group is one build step's.
type group struct {
	cgroups
	parent string
}

func (g cgroups) make(step string, pids int64) (group, error) {
	one := group{cgroups: g, parent: filepath.Join(g.parent, step)}
	if pids <= 0 || g.pids == "" {
		return one, nil
	}
	dir := filepath.Join(g.pids, one.parent)
	if g.pids == "/sys/fs/cgroup" { // version 2: the controller is switched on from the top down
		if err := enable(g.pids, one.parent); err != nil {
			return one, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return one, fmt.Errorf("limit the processes of a build step: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.FormatInt(pids, 10)), 0o600); err != nil {
		return one, fmt.Errorf("limit the processes of a build step: %w", err)
	}
	return one, nil
}

func enable(root, path string) error {
	dir := root
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+pids +memory +cpu"), 0o600); err != nil {
			return fmt.Errorf("switch on the limits of build steps: %w", err)
		}
		dir = filepath.Join(dir, part)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("limit the processes of a build step: %w", err)
		}
	}
	return nil
}

// remove ends what the step may have left and takes its groups away.
func (g group) remove() error { return removeGroups(g.mounts, g.parent) }

// release takes the tree away when its last step has ended; sessions beside it
// keep theirs.
func (g cgroups) release() error {
	err := removeGroups(g.mounts, g.parent)
	for _, m := range g.mounts {
		_ = os.Remove(filepath.Join(m, filepath.Dir(g.parent))) // stays while it has sessions
	}
	return err
}

// removeGroups kills every process below path in each hierarchy, then removes
// the groups.
func removeGroups(mounts []string, path string) error {
	var errs []error
	for _, m := range mounts {
		errs = append(errs, removeTree(filepath.Join(m, path)))
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	const attempts, pause = 100, 20 * time.Millisecond // the kernel frees a group a moment after its last process
	var last error
	for range attempts {
		dirs, err := groupDirs(root)
		if err != nil || len(dirs) == 0 {
			return err
		}
		last = nil
		for _, dir := range dirs {
			killGroup(dir)
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		}
		if last == nil {
			return nil
		}
		<-time.After(pause)
	}
	return fmt.Errorf("remove the group of a build step: %w", last)
}

// groupDirs lists root and everything below, deepest first.
func groupDirs(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append([]string{path}, dirs...)
		}
		return nil
	})
	return dirs, err
}

func killGroup(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
		}
	}
}
