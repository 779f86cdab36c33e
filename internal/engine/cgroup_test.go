package engine_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle/internal/engine"
)

// TestRemoveGroupsOfVersion2: what a step left is ended and its groups are removed,
// in a real hierarchy of version 2.
func TestRemoveGroupsOfVersion2(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts control groups")
	}
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	group := "binnacle-test-" + strconv.Itoa(os.Getpid())
	inner := filepath.Join(root, group, "step", "buildkit")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(errors.Join(err, cmd.Process.Kill(), cmd.Wait()))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := engine.RemoveGroups([]string{root}, group); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, group)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
	err := <-ended
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Errorf("the step's process ended by %v", err)
	}
}
