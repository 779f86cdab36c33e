package containerd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

func TestDiskLimit(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	for name, path := range map[string]string{"files": "/tmp/big", "socket directory": "/run/binnacle/big"} {
		t.Run(name, func(t *testing.T) {
			other, hog := sessiontest.NewSpec("disk-1", testImage), sessiontest.NewSpec("disk-2", testImage)
			hog.Limits.Disk = 100 << 20
			begin(t, s, other)
			begin(t, s, hog)
			fetch(t, s, hog, fmt.Sprintf("x/write?n=%d&path=%s", 150<<20, path))
			began := time.Now()
			st := sessiontest.Await(t, s, hog.ID)
			if st.State != session.Exited || !strings.Contains(st.Exit, "100 MiB to disk") {
				t.Errorf("the hog: %s, %q", st.State, st.Exit)
			}
			t.Logf("stopped after %s", time.Since(began))
			fetch(t, s, other, "api/status")
		})
	}
}

func TestLogIsCut(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	spec := sessiontest.NewSpec("loud-1", testImage)
	begin(t, s, spec)
	line := strings.Repeat("x", 100)
	fetch(t, s, spec, "x/print?n=10000&line="+line) // 1 MB, 64 KiB are kept
	file := filepath.Join(m.dir, "sessions", spec.ID, "log")
	var size int64
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if info, err := os.Stat(file); err == nil {
			size = info.Size()
		}
		if size > 0 && size <= 64<<10 {
			break
		}
	}
	fetch(t, s, spec, "x/print?line=after")
	<-time.After(100 * time.Millisecond)
	var b strings.Builder
	must(t, s.Logs(t.Context(), spec.ID, false, &b))
	if size > 64<<10 || !strings.HasPrefix(b.String(), "[binnacle:") || !strings.HasSuffix(b.String(), "\nafter\n") {
		t.Errorf("%d bytes; begins %.80q", size, b.String())
	}
}

func TestStubbornSessionIsKilled(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	spec := sessiontest.NewSpec("stubborn-1", testImage)
	spec.Env["TEST_STUBBORN"] = "1"
	begin(t, s, spec)
	fetch(t, s, spec, "api/status")
	began := time.Now()
	must(t, s.Stop(t.Context(), spec.ID))
	if took := time.Since(began); took < 2*time.Second || took > 6*time.Second {
		t.Errorf("took %s, want the grace of 2 s and a little", took)
	}
	if left := m.residue(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
