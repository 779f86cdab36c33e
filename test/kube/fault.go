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

	"github.com/binnacle-hub/binnacle/test/kube/cluster"
)

// Signal sends a signal to a program of the cluster. The programs are etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler; node1, which is all of
// that node; and node1/containerd, node1/kubelet, node1/kube-proxy. A program
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
	return resume
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
