package containerd_test

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestMain runs the tests in a network of their own: what they call this
// machine is an empty namespace, and no packet can reach the real one.
func TestMain(m *testing.M) {
	flag.Parse()
	const inside = "BINNACLE_TEST_INSIDE"
	if os.Getuid() != 0 || testing.Short() {
		os.Exit(m.Run())
	}
	if os.Getenv(inside) != "" {
		code := m.Run()
		if shared != nil {
			shared.close()
		}
		os.Exit(code)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		os.Stderr.WriteString("start the tests in a network of their own: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}
