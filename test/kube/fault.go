package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

// Signal sends a signal to a program of the cluster. The programs are etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler; node1, which is all of
// that node; node1/containerd, node1/kubelet, node1/kube-proxy; and network, which
// enforces network policies on all nodes. A program
// that ends is started again after a second; a node only by StartNode.
func (c *Cluster) Signal(program string, sig syscall.Signal) error {
	pids, err := c.find(program)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal %s: %w", program, err)
		}
	}
	return nil
}

// Pause stops a program where it is, until the returned function is called or
// the test ends. Who asks it something waits, as on a network that has failed.
func (c *Cluster) Pause(t testing.TB, program string) (resume func()) {
	t.Helper()
	if err := c.Signal(program, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume = func() {
		if err := c.Signal(program, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(resume)
	c.stopped(t, program)
	return resume
}

// stopped waits until no thread of a program goes on: on a busy machine they do, for
// some time after the signal.
func (c *Cluster) stopped(t testing.TB, program string) {
	t.Helper()
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pids, err := c.find(program)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(pids, goesOn) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s goes on %s after it was stopped", program, patience)
		}
	}
}

// goesOn says whether a thread of a process has not stopped yet: see proc(5) on
// /proc/pid/stat, whose third field follows a name in parentheses.
func goesOn(pid int) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
	if err != nil {
		return true
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if end := strings.LastIndexByte(string(b), ')'); err == nil && end >= 0 && !strings.HasPrefix(string(b[end:]), ") T") {
			return true
		}
	}
	return false
}

// SpoilRegistry lets the registry fail, until the returned function is called or
// the test ends: "down" (connections end without an answer), "slow" (20 s for
// each answer), "denied" (403), "limited" (429, with Retry-After).
func (c *Cluster) SpoilRegistry(t testing.TB, how string) (mend func()) {
	t.Helper()
	if err := c.ask(t.Context(), cluster.Registry, how); err != nil {
		t.Fatalf("spoil the registry: %v", err)
	}
	mend = func() {
		if err := c.ask(context.WithoutCancel(t.Context()), cluster.Registry, "ok"); err != nil {
			t.Errorf("mend the registry: %v", err)
		}
	}
	t.Cleanup(mend)
	return mend
}

// find looks for the processes of a program by what they were started with.
func (c *Cluster) find(program string) ([]int, error) {
	node, name, onNode := strings.Cut(program, "/")
	place := c.Dir + "/"
	switch {
	case onNode:
		place += node + "/"
	case strings.HasPrefix(program, "node"):
		place, name = c.Dir+"/"+program, "node"
	default:
		name = program
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		b, err := os.ReadFile(file)
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if err != nil || len(args) < 2 || filepath.Base(args[0]) != name && args[1] != name {
			continue
		}
		if !slices.ContainsFunc(args[1:], func(a string) bool { return strings.Contains(a, place) }) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("%s does not run", program)
	}
	return pids, nil
}
