package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// nodeSpec is what the first process of a node is told.
type nodeSpec struct {
	Name     string
	Dir      string // of the node: lib, log and run are mounted at their usual places
	Logs     string
	Bin      string
	Address  string // with the length of its network
	Gateway  string
	Routes   map[string]string // to the pods of other nodes
	Programs []program
}

// program is one that a node runs, and starts again when it ends.
type program struct {
	Name string
	Args []string
}

const nodeConfigs = `
{{define "containerd.toml"}}version = 3
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{{.Pause}}"

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{{.Etc}}/registries"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true # a sandbox of CI may not have CAP_SYS_RESOURCE

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{{.Bin}}"]
conf_dir = "{{.Etc}}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{{.Bin}}/runc"
{{end}}
{{define "hosts.toml"}}server = "http://{{.Registry}}"
[host."http://{{.Registry}}"]
capabilities = ["pull", "resolve"]
{{end}}
{{define "cni/pods.conflist"}}{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "{{.Pods}}"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}
]}
{{end}}
{{define "kubelet.yaml"}}apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {{.Address}}
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: {{.Shared}}/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: {{.Shared}}/{{.Name}}.crt
tlsPrivateKeyFile: {{.Shared}}/{{.Name}}.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: {{.Cgroup}}
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDNS: [{{.DNS}}]
clusterDomain: cluster.local
resolvConf: {{.Shared}}/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%, imagefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
maxPods: 200
nodeLeaseDurationSeconds: 12
nodeStatusUpdateFrequency: 5s
serializeImagePulls: false
shutdownGracePeriod: 0s
{{end}}
{{define "proxy.yaml"}}apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {{.AllPods}}
detectLocalMode: ClusterCIDR
hostnameOverride: {{.Name}}
clientConnection: {kubeconfig: {{.ProxyKubeconfig}}}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
oomScoreAdj: 0
{{end}}
`

// writeNode writes the configuration of node i and returns what its first
// process needs to know.
func (c *cluster) writeNode(i int) (nodeSpec, error) {
	name, dir := nodeName(i), c.path(nodeName(i))
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{"etc/cni", "etc/registries/" + c.registry(), "lib", "log", "run", "cgroup"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nodeSpec{}, err
		}
	}
	values := map[string]any{
		"Name": name, "Etc": etc, "Shared": c.path("etc"), "Bin": c.nodeBin(), "Pause": c.box(), "Registry": c.registry(),
		"Pods": c.podsOf(i), "AllPods": c.pods(), "Address": c.node(i), "Cgroup": c.cgroup(i), "DNS": c.dnsService(),
		"ProxyKubeconfig": c.kubeconfig("system:kube-proxy"),
	}
	t := template.Must(template.New("").Parse(nodeConfigs))
	files := map[string]string{"hosts.toml": "registries/" + c.registry() + "/hosts.toml"}
	for _, name := range []string{"containerd.toml", "hosts.toml", "cni/pods.conflist", "kubelet.yaml", "proxy.yaml"} {
		path := name
		if files[name] != "" {
			path = files[name]
		}
		var b strings.Builder
		if err := t.ExecuteTemplate(&b, name, values); err != nil {
			return nodeSpec{}, fmt.Errorf("write %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(etc, path), []byte(b.String()), 0o600); err != nil {
			return nodeSpec{}, err
		}
	}
	spec := nodeSpec{
		Name: name, Dir: dir, Logs: c.path("logs"), Bin: c.bin, Address: c.node(i).String() + "/24", Gateway: c.host().String(), Routes: map[string]string{},
		Programs: []program{
			{"containerd", []string{c.nodeProgram("containerd"), "--config", filepath.Join(etc, "containerd.toml")}},
			{"kubelet", []string{
				c.nodeProgram("kubernetes"), "kubelet", "--config=" + filepath.Join(etc, "kubelet.yaml"), "--hostname-override=" + name,
				"--kubeconfig=" + c.kubeconfig("system:node:"+name), "--node-ip=" + c.node(i).String(),
			}},
			{"network", []string{"/proc/self/exe", "network", "-kubeconfig=" + c.kubeconfig("binnacle:network"), "-node=" + name}},
			{"kube-proxy", []string{c.nodeProgram("kubernetes"), "kube-proxy", "--config=" + filepath.Join(etc, "proxy.yaml")}},
		},
	}
	for j := 1; j <= c.cfg.Nodes; j++ {
		if j != i {
			spec.Routes[c.podsOf(j).String()] = c.node(j).String()
		}
	}
	return spec, nil
}

// startNode starts a node: one process in namespaces of its own, process 1
// there. What it makes, processes, mounts and interfaces, ends with it.
func (c *cluster) startNode(ctx context.Context, i int) error {
	spec, err := c.writeNode(i)
	if err != nil {
		return fmt.Errorf("write the configuration of %s: %w", nodeName(i), err)
	}
	if err := makeCgroup(c.cgroup(i)); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "node", c.path(nodeName(i))) // by this name it is there even when it has been compiled anew
	cmd.Env = append(os.Environ(), "PATH="+c.nodeBin()+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	cmd.Stdin = r
	err = c.processes.start(ctx, nodeName(i), cmd)
	r.Close()
	if err != nil {
		return err
	}
	if err := c.connect(ctx, i, cmd.Process.Pid); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(spec)
}

// restartNode starts a node that has ended, as after a power cut: its disk is as
// it was, and /run and the control groups are empty.
func (c *cluster) restartNode(ctx context.Context, name string) error {
	for i := 1; i <= c.cfg.Nodes; i++ {
		if nodeName(i) != name {
			continue
		}
		select {
		case <-c.processes.list()[name].done:
		default:
			return fmt.Errorf("%s runs", name)
		}
		// kubelet would wait for the containers of groups that are left.
		if err := errors.Join(removeCgroup(ctx, c.cgroup(i)), os.RemoveAll(c.path(name, "run"))); err != nil {
			return err
		}
		return c.startNode(ctx, i)
	}
	return fmt.Errorf("there is no node %q", name)
}

// cgroupRoots are the hierarchies: several with version 1, one with version 2.
func cgroupRoots() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() { // links (cpu,cpuacct) would count twice
			list = append(list, filepath.Join(root, e.Name()))
		}
	}
	return list
}

// makeCgroup makes the group below which a kubelet makes those of its pods.
func makeCgroup(path string) error {
	for _, root := range cgroupRoots() {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the control group %s: %w", path, err)
		}
		// Version 1: a group without processors and memory takes no process.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if b, err := os.ReadFile(filepath.Join(root, file)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, file), b, 0o600)
			}
		}
		// Version 2: controllers are switched on from the top down.
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil && len(cgroupRoots()) == 1 {
			for _, d := range []string{root, dir} {
				_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids +io"), 0o600)
			}
		}
	}
	return nil
}

// removeCgroup removes the groups of a node that has ended.
func removeCgroup(ctx context.Context, path string) error {
	const attempts, pause = 100, 50 * time.Millisecond // the kernel frees a group a moment after its last process
	var errs []error
	for _, root := range cgroupRoots() {
		var err error
		for range attempts {
			if err = removeGroups(filepath.Join(root, path)); err == nil {
				break
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeGroups removes a directory of groups from the leaves up.
func removeGroups(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the control groups of %s: %w", dir, err)
	}
	for _, d := range slices.Backward(dirs) {
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a control group: %w", err)
		}
	}
	return nil
}
