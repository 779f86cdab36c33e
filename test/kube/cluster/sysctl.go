package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sysctls are set by kubelet, and forwarding by us, for the whole machine. The
// cluster gives them back.
func sysctls() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward",
	}
}

// saveSysctls notes how they are in a file of dir.
func saveSysctls(dir string) error {
	values := map[string]string{}
	for _, name := range sysctls() {
		if b, err := os.ReadFile("/proc/sys/" + name); err == nil {
			values[name] = string(b)
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "sysctls.json"), b, 0o600)
}

// restoreSysctls makes them what they were.
func restoreSysctls(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "sysctls.json"))
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
	return errors.Join(errs...)
}
