package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelNote is where the first cluster of a machine notes the kernel's
// settings, and from where the last one gives them back. Like the settings, it
// does not outlive a restart of the machine.
const kernelNote = "/run/binnacle-kube.sysctls"

// sysctls are set by kubelet, and forwarding by us, for the whole machine.
func sysctls() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward",
	}
}

// saveSysctls notes how they are, unless another cluster has.
func saveSysctls() error {
	values := map[string]string{}
	for _, name := range sysctls() {
		if b, err := os.ReadFile("/proc/sys/" + name); err == nil {
			values[name] = string(b)
		}
	}
	f, err := os.OpenFile(kernelNote, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	return errors.Join(json.NewEncoder(f).Encode(values), f.Close())
}

// restoreSysctls makes them what they were, unless another cluster runs.
func restoreSysctls() error {
	for n := range maxClusters {
		if _, err := netlink.LinkByName(layout{number: n}.bridge()); err == nil {
			return nil
		}
	}
	b, err := os.ReadFile(kernelNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	values := map[string]string{}
	if err == nil {
		err = json.Unmarshal(b, &values)
	}
	if err != nil {
		return fmt.Errorf("read what the kernel's settings were: %w", err)
	}
	var errs []error
	for _, name := range sysctls() {
		now, err := os.ReadFile("/proc/sys/" + name)
		if before, ok := values[name]; ok && err == nil && string(now) != before {
			errs = append(errs, os.WriteFile("/proc/sys/"+name, []byte(before), 0o600))
		}
	}
	return errors.Join(append(errs, os.Remove(kernelNote))...)
}
