package containerd_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"

	"github.com/binnacle-hub/binnacle/internal/session"
	"github.com/binnacle-hub/binnacle/internal/session/containerd"
	"github.com/binnacle-hub/binnacle/internal/session/sessiontest"
)

// childDir makes the test binary a hub that starts a session and waits to be
// killed.
const childDir = "BINNACLE_TEST_CHILD"

func TestKilledHub(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		child(t, dir)
		return
	}
	m := theMachine(t) // for its programs
	dir, err := os.MkdirTemp("", "bk")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledHub$", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+dir, "BINNACLE_TEST_PROGRAMS="+filepath.Join(m.dir, "bin"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	up := false
	var said strings.Builder
	for lines := bufio.NewScanner(out); !up && lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		up = strings.Contains(lines.Text(), "the session is up")
	}
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait() // killed
	if !up {
		t.Fatalf("the first hub did not start its session:\n%s", said.String())
	}

	// The second hub, on the same directory. Its containerd is a process of its
	// own too, because one process holds only one.
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledHub$", "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+dir, "BINNACLE_TEST_PROGRAMS="+filepath.Join(m.dir, "bin"), "BINNACLE_TEST_SECOND=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the second hub: %v\n%s", err, b)
	}
}

func child(t *testing.T, dir string) {
	t.Helper()
	second := os.Getenv("BINNACLE_TEST_SECOND") != ""
	m, err := startMachine(t.Context(), dir, os.Getenv("BINNACLE_TEST_PROGRAMS"), !second)
	must(t, err)
	cfg := containerd.Config{Dir: filepath.Join(m.dir, "sessions"), Runc: m.paths.Runc, Shim: m.paths.Shim}
	s, err := containerd.New(cfg, m.client, m.net.Sessions(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	must(t, s.Reconcile(t.Context()))
	spec, ended, half := sessiontest.NewSpec("survivor-1", testImage), sessiontest.NewSpec("ended-1", testImage), sessiontest.NewSpec("half-1", testImage)
	if !second {
		for _, spec := range []session.Spec{spec, ended, half} {
			_, err = s.Start(t.Context(), spec)
			must(t, err)
			fetch(t, s, spec, "api/status")
		}
		must(t, os.Remove(filepath.Join(m.dir, "sessions", half.ID, "started"))) // as if killed before the end of Start
		must(t, os.Mkdir(filepath.Join(m.dir, "sessions", "nobodys"), 0o700))
		_, err := m.net.Attach(t.Context(), "s-nobodys")
		must(t, err)
		// The end comes while no hub runs.
		_, err = sessiontest.Fetch(t.Context(), s, ended, "x/print?line=before")
		must(t, err)
		c, err := m.client.LoadContainer(t.Context(), ended.ID)
		must(t, err)
		task, err := c.Task(t.Context(), nil)
		must(t, err)
		fmt.Println("pid", task.Pid(), "the session is up")
		<-t.Context().Done()
		return
	}
	before, err := s.Get(t.Context(), spec.ID)
	must(t, err)
	if before.State != session.Running || before.Token != spec.Token || before.Labels["owner"] != "o1" {
		t.Errorf("found: %+v", before)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := sessiontest.Fetch(ctx, s, spec, "api/status"); err != nil {
		t.Errorf("the session does not answer: %v", err)
	}
	if _, err := sessiontest.Fetch(ctx, s, spec, "x/print?line=still-logged"); err != nil {
		t.Error(err)
	}
	list, err := s.List(t.Context())
	must(t, err)
	if len(list) != 2 {
		t.Errorf("sessions: %+v, want the survivor and the other; what was half started is gone", list)
	}
	_, _ = sessiontest.Fetch(ctx, s, ended, "x/exit?n=7") // its connection breaks
	if st := sessiontest.Await(t, s, ended.ID); !strings.Contains(st.Exit, "code 7") {
		t.Errorf("the end of a session of before: %q", st.Exit)
	}
	var b strings.Builder
	must(t, s.Logs(t.Context(), spec.ID, false, &b))
	if !strings.Contains(b.String(), "still-logged") {
		t.Errorf("log: %q", b.String())
	}
	for _, id := range []string{spec.ID, ended.ID} {
		must(t, s.Stop(t.Context(), id))
	}
	if left := m.residue(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	must(t, s.Close())
	m.client.Close()
	must(t, m.net.Remove(t.Context()))
	m.server.Stop()
}

// A machine that was restarted has the containers but none of their processes.
func TestRestartedMachine(t *testing.T) {
	m := theMachine(t)
	s := m.open(t) // nobody notes how the process ended
	spec := sessiontest.NewSpec("reboot-1", testImage)
	begin(t, s, spec)
	c, err := m.client.LoadContainer(t.Context(), spec.ID)
	must(t, err)
	task, err := c.Task(t.Context(), nil)
	must(t, err)
	_, err = task.Delete(t.Context(), client.WithProcessKill)
	must(t, err)
	again := m.open(t)
	st, err := again.Get(t.Context(), spec.ID)
	must(t, err)
	if st.State != session.Exited || !strings.Contains(st.Exit, "restarted") {
		t.Errorf("%s, %q", st.State, st.Exit)
	}
}

func TestTwentyAtOnce(t *testing.T) {
	m := theMachine(t)
	s := m.run(t)
	const n = 20
	var wg sync.WaitGroup
	began := time.Now()
	for i := range n {
		wg.Go(func() {
			spec := sessiontest.NewSpec(fmt.Sprintf("twenty-%d", i), testImage)
			if _, err := s.Start(t.Context(), spec); err != nil {
				t.Error(err)
				return
			}
			if _, err := sessiontest.Fetch(t.Context(), s, spec, "api/status"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sessions answer after %s", n, time.Since(began))
	began = time.Now()
	for i := range n {
		wg.Go(func() {
			if err := s.Stop(t.Context(), fmt.Sprintf("twenty-%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("stopped after %s", time.Since(began))
	if left := m.residue(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func BenchmarkStart(b *testing.B) {
	m := theMachine(b)
	s := m.run(b)
	var up, answer, down time.Duration
	i := 0
	for b.Loop() {
		i++
		spec := sessiontest.NewSpec(fmt.Sprintf("bench-%d", i), testImage)
		t0 := time.Now()
		_, err := s.Start(b.Context(), spec)
		must(b, err)
		t1 := time.Now()
		fetch(b, s, spec, "api/status")
		t2 := time.Now()
		must(b, s.Stop(b.Context(), spec.ID))
		up, answer, down = up+t1.Sub(t0), answer+t2.Sub(t1), down+time.Since(t2)
	}
	b.ReportMetric(float64(up.Microseconds())/1000/float64(b.N), "start-ms/op")
	b.ReportMetric(float64(answer.Microseconds())/1000/float64(b.N), "answer-ms/op")
	b.ReportMetric(float64(down.Microseconds())/1000/float64(b.N), "stop-ms/op")
}

// TestKilledStarts kills the hub at several moments of its starts. Whatever was
// under way, the next hub finds whole sessions and removes the rest.
func TestKilledStarts(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		if os.Getenv("BINNACLE_TEST_SECOND") != "" {
			sweepUp(t, dir)
		} else {
			startMany(t, dir)
		}
		return
	}
	m := theMachine(t)
	dir, err := os.MkdirTemp("", "bk")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	env := append(os.Environ(), childDir+"="+dir, "BINNACLE_TEST_PROGRAMS="+filepath.Join(m.dir, "bin"))
	for _, delay := range []int{0, 15, 40, 70, 110, 160, 250, 400, 800} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledStarts$", "-test.v")
		cmd.Env = env
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "starting sessions") {
				break
			}
		}
		<-time.After(time.Duration(delay) * time.Millisecond)
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		_ = cmd.Wait() // killed
		cmd = exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledStarts$", "-test.v")
		cmd.Env = append(slices.Clone(env), "BINNACLE_TEST_SECOND=1")
		b, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("killed after %d ms: %v\n%s", delay, err, b)
		}
		if _, said, ok := strings.Cut(string(b), "started: "); ok {
			t.Logf("killed after %d ms, started: %.1s of 4", delay, said)
		}
	}
	shims, err := exec.Command("ps", "-eo", "args").Output()
	must(t, err)
	for line := range strings.Lines(string(shims)) {
		if strings.Contains(line, "containerd-shim") && strings.Contains(line, dir) {
			t.Errorf("left running: %s", line)
		}
	}
}

func hub(t *testing.T, dir string, withImages bool) (*machine, *containerd.Spawner) {
	t.Helper()
	m, err := startMachine(t.Context(), dir, os.Getenv("BINNACLE_TEST_PROGRAMS"), withImages)
	must(t, err)
	cfg := containerd.Config{Dir: filepath.Join(m.dir, "sessions"), Runc: m.paths.Runc, Shim: m.paths.Shim}
	s, err := containerd.New(cfg, m.client, m.net.Sessions(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	must(t, s.Reconcile(t.Context()))
	return m, s
}

func startMany(t *testing.T, dir string) {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, "root"))
	_, s := hub(t, dir, err != nil)
	fmt.Println("starting sessions")
	for i := range 4 {
		go func() { _, _ = s.Start(t.Context(), sessiontest.NewSpec(fmt.Sprintf("killed-%d", i), testImage)) }()
	}
	<-t.Context().Done()
}

func sweepUp(t *testing.T, dir string) {
	t.Helper()
	m, s := hub(t, dir, false)
	list, err := s.List(t.Context())
	must(t, err)
	for _, st := range list {
		if st.State == session.Running {
			fetch(t, s, sessiontest.NewSpec(st.ID, testImage), "api/status")
		}
		must(t, s.Stop(t.Context(), st.ID))
	}
	t.Logf("started: %d", len(list))
	if left := m.residue(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	must(t, s.Close())
	m.client.Close()
	must(t, m.net.Remove(t.Context()))
	m.server.Stop()
}
