package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// KernelNote is where the first cluster of a machine notes the kernel's
// settings, by name in JSON, and from where the last one gives them back. Like
// the settings, it does not outlive a restart of the machine.
const KernelNote = "/run/binnacle-kube.sysctls"

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
	// A name is given to the whole file, so that nobody reads half of it.
	f, err := os.CreateTemp(filepath.Dir(KernelNote), filepath.Base(KernelNote))
	if err != nil {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	defer os.Remove(f.Name())
	if err := errors.Join(json.NewEncoder(f).Encode(values), f.Close()); err != nil {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	if err := os.Link(f.Name(), KernelNote); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note the kernel's settings: %w", err)
	}
	return nil
}

// restoreSysctls makes them what they were, unless another cluster runs.
func restoreSysctls() error {
	for n := range maxClusters {
		if _, err := netlink.LinkByName(layout{number: n}.bridge()); err == nil {
			return nil
		}
	}
	b, err := os.ReadFile(KernelNote)
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
	return errors.Join(append(errs, os.Remove(KernelNote))...)
}
