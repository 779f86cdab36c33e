package engine_test

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/engine"
)

// nobody is the first id of this machine that the user namespace of a test has.
const nobody = 1 << 20

// userNamespaceBase names the base image's archive to the process inside.
const userNamespaceBase = "BINNACLE_TEST_USER_NAMESPACE_BASE"

// inUserNamespace runs the engine as a process that is root in a user namespace and
// nobody on the machine: as in a pod with hostUsers: false. archive is the base.
func inUserNamespace(t *testing.T, archive string) {
	t.Helper()
	work := dir(t)
	base := filepath.Join(work, "base.tar")
	if err := os.Link(archive, base); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInside$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), userNamespaceBase+"="+base, "TMPDIR="+work)
	const ids = 1 << 16
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: ids}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: mapping, GidMappings: mapping, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{}, Pdeathsig: syscall.SIGKILL,
	}
	if err := os.Chown(work, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestInside")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInside is the part of TestBaseAndSteps that runs in a user namespace, where
// no control group can be made.
func TestInside(t *testing.T) {
	archive := os.Getenv(userNamespaceBase)
	if archive == "" {
		t.Log("TestBaseAndSteps runs it")
		return
	}
	// As in a pod: runc keeps there what runs.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(filepath.Dir(archive), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cfg := engine.Config{Dir: data, Base: engine.Base{Archive: archive, Packages: []string{"ca-certificates"}}, CABundle: "none", BuildLimits: binnacle.Limits{Memory: 64 << 20, PIDs: 100, Disk: 512 << 20}}
	e, err := engine.Start(t.Context(), cfg, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if n := strings.Count(said.String(), "no limits of memory and CPU of their own"); n != 1 {
		t.Errorf("it is said %d times that steps have no limits:\n%s", n, said.String())
	}
	name, err := e.EnsureBase(t.Context(), func(line string) { t.Errorf("bootstrapped: %s", line) })
	if err != nil {
		t.Fatal(err)
	}
	script := `touch /srv/root && chown 1000:1000 /srv/root && stat -c %u /srv/root; ulimit -u; cat /proc/self/oom_score_adj; cat /proc/self/uid_map`
	out, err := solve(t, e, llb.Image(name, llb.ResolveModePreferLocal).Run(llb.Args([]string{"bash", "-c", script})).Root())
	if want := "1000 100 500 0 1048576 65536"; err != nil || strings.Join(strings.Fields(out), " ") != want {
		t.Errorf("a step said %q, not %q: %v", strings.Fields(out), want, err)
	}
	// Processes are bounded all the same.
	bomb := `for i in $(seq 200); do sleep 20 & done; wait -n; echo all`
	out, err = solve(t, e, llb.Image(name, llb.ResolveModePreferLocal).Run(llb.Args([]string{"bash", "-c", bomb})).Root())
	if err == nil || strings.Contains(out, "all") {
		t.Errorf("a step made 200 processes of 100: %q", out)
	}
}
