package engine_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/binnacle-hub/binnacle/internal/engine"
)

// TestUnmountGone: what a step takes away itself, between the list of mounts and
// their end, is no fault: neither a mount that is gone nor one whose place is.
func TestUnmountGone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("unmounts")
	}
	at := t.TempDir()
	for _, place := range []string{at, filepath.Join(at, "rootfs")} {
		if err := engine.Unmount(&mountinfo.Info{Mountpoint: place}); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	if err := engine.Unmount(&mountinfo.Info{Mountpoint: "/proc/self/status/below"}); err == nil {
		t.Error("what can't be unmounted is passed over")
	}
}
