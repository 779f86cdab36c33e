package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

const (
	socketDir  = "/run/binnacle"
	socketName = "jupyter.sock"
)

type imageConfig = ocispec.ImageConfig

func readImage(ctx context.Context, img client.Image) (imageConfig, error) {
	spec, err := img.Spec(ctx)
	return spec.Config, err
}

type user struct{ uid, gid uint32 }

// userOf is who the session runs as: always 1000, whatever the image says, with
// the image's group when it is a number. With a mounted directory it is the
// directory's owner, so that what the session writes belongs to them; a
// directory of root stays read-only for the session.
func userOf(c imageConfig, mount string) (user, error) {
	u := user{session.UserID, session.Group(c)}
	if mount == "" {
		return u, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(mount, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return user{}, &binnacle.Error{Code: binnacle.CodeInvalid, Op: "session.mount", Message: "The directory to work in is not there.", Err: err}
	}
	if st.Uid != 0 {
		u = user{st.Uid, st.Gid}
	}
	return u, nil
}

// oci describes the container: nothing it does not need, nothing it may gain.
func (s *Spawner) oci(ctx context.Context, spec session.Spec, c imageConfig, u user, netns string) (*specs.Spec, error) {
	o, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: spec.ID},
		oci.WithHostname(spec.ID),
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: netns}),
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.CgroupNamespace}),
		oci.WithCgroup(path.Join(s.cgroup(), spec.ID)),
		oci.WithUIDGID(u.uid, u.gid),
		oci.WithCapabilities(nil), oci.WithNoNewPrivileges,
		oci.WithDefaultUnixDevices,
		seccomp.WithDefaultProfile(), // after the capabilities: it depends on them
	)
	if err != nil {
		return nil, fmt.Errorf("describe the session's container: %w", err)
	}
	p := o.Process
	p.Args = session.Command(c, spec, session.Address{Socket: path.Join(socketDir, socketName)})
	p.Env = list(session.Environment(c, spec, s.cfg.CABundle != ""))
	p.Cwd = c.WorkingDir
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	p.User.AdditionalGids = []uint32{u.gid}
	p.Rlimits = rlimits()
	score, err := oomScore()
	if err != nil {
		return nil, err
	}
	p.OOMScoreAdj = &score
	limit(o, spec.Limits)
	s.mounts(o, spec, c)
	return o, nil
}

// cgroup is the parent of all sessions of this directory.
func (s *Spawner) cgroup() string {
	sum := sha256.Sum256([]byte(filepath.Dir(s.cfg.Dir))) // as the engine names its own
	return path.Join("/binnacle", hex.EncodeToString(sum[:4]), "sessions")
}

func limit(o *specs.Spec, l binnacle.Limits) {
	const period = 100_000 // microseconds; the kernel's default
	r := o.Linux.Resources
	if l.Memory > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory}
		if hasSwapLimit() {
			r.Memory.Swap = &l.Memory // memory and swap together: no swap
		}
		for i, m := range o.Mounts {
			if m.Destination == "/dev/shm" {
				o.Mounts[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(opt string) bool { return strings.HasPrefix(opt, "size=") }),
					"size="+strconv.FormatInt(l.Memory/2, 10))
			}
		}
	}
	if l.CPU > 0 {
		quota, every := max(int64(l.CPU*period), 1000), uint64(period)
		r.CPU = &specs.LinuxCPU{Quota: &quota, Period: &every}
	}
	if l.PIDs > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.PIDs}
	}
}

// hasSwapLimit says whether the kernel counts swap; version 2 always accepts it.
func hasSwapLimit() bool {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

func (s *Spawner) mounts(o *specs.Spec, spec session.Spec, c imageConfig) {
	bind := func(source, target string, opts ...string) {
		o.Mounts = append(o.Mounts, specs.Mount{
			Type: "bind", Source: source, Destination: target, Options: append([]string{"rbind", "rprivate", "nosuid", "nodev"}, opts...),
		})
	}
	dir := s.dir(spec.ID)
	for _, name := range []string{"resolv.conf", "hosts", "hostname"} {
		bind(filepath.Join(dir, name), "/etc/"+name, "ro", "noexec")
	}
	bind(s.runDir(spec.ID), socketDir, "rw", "noexec")
	if s.cfg.CABundle != "" {
		bind(s.cfg.CABundle, session.CAFile, "ro", "noexec")
	}
	if spec.Mount != "" {
		target := c.WorkingDir
		if target == "" || target == "/" {
			target = session.Home
		}
		bind(spec.Mount, target, "rw")
		asOwner(&o.Mounts[len(o.Mounts)-1], o.Process.User)
	}
}

// asOwner lets the session's user work in a directory that belongs to somebody
// else, as if it were theirs: an idmapped mount (mount_setattr(2)), in which
// what the session writes belongs to the directory's owner. Other people's
// files in it belong to nobody.
func asOwner(m *specs.Mount, user specs.User) {
	var st unix.Stat_t
	if unix.Stat(m.Source, &st) != nil || st.Uid == user.UID {
		return
	}
	m.Options = append(m.Options, "idmap")
	m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: st.Uid, HostID: user.UID, Size: 1}}
	m.GIDMappings = []specs.LinuxIDMapping{{ContainerID: st.Gid, HostID: user.GID, Size: 1}}
}

// rlimits never ask for more than this process has: raising needs a capability
// that is missing in many virtual machines.
func rlimits() []specs.POSIXRlimit {
	const files = 65536
	most := uint64(files)
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil {
		most = min(most, own.Max)
	}
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Soft: most, Hard: most},
		{Type: "RLIMIT_CORE"},
	}
}

// oomScore is a little above ours: when the machine itself runs out of memory,
// sessions go first. It may never be below.
func oomScore() (int, error) {
	const above, most = 100, 1000
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read our own oom_score_adj: %w", err)
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read our own oom_score_adj: %w", err)
	}
	return min(own+above, most), nil
}

func list(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
