package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
)

// caTarget is where a step sees the certificate authorities of this machine.
const caTarget = "/run/binnacle/ca.crt"

// caVariables make the usual tools read them.
var caVariables = []string{
	"SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
	"GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "CONDA_SSL_VERIFY",
}

// hostBundles are where distributions keep the machine's authorities.
var hostBundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// stepExecutor gives every build step what belongs to this machine rather than
// to the image: certificate authorities, proxies, package indexes and limits.
// It does so below BuildKit, so none of it is part of a layer or a cache key.
type stepExecutor struct {
	executor.Executor
	env    []string
	bundle string
	limits binnacle.Limits
	groups cgroups
	alone  bool   // without groups, which nobody lets us make
	dir    string // on the file system that layers are written to
}

func newStepExecutor(inner executor.Executor, e *Engine, grouped bool) (*stepExecutor, error) {
	bundle := e.cfg.CABundle
	switch bundle {
	case "none":
		bundle = ""
	case "":
		bundle = firstFile(hostBundles)
	default:
		if _, err := os.Stat(bundle); err != nil {
			return nil, &binnacle.Error{
				Code: binnacle.CodeInvalid, Op: "engine.ca",
				Message: fmt.Sprintf("The certificate bundle %s can't be read.", bundle), Hint: "Correct ca_bundle in the configuration.", Err: err,
			}
		}
	}
	x := &stepExecutor{Executor: inner, bundle: bundle, limits: e.cfg.BuildLimits, groups: e.groups(), alone: !grouped, dir: e.cfg.Dir}
	if bundle != "" {
		for _, name := range caVariables {
			x.env = append(x.env, name+"="+caTarget)
		}
		x.env = append(x.env, "UV_SYSTEM_CERTS=true", "UV_NATIVE_TLS=true")
	}
	for name, value := range e.cfg.Env {
		x.env = append(x.env, name+"="+value)
	}
	slices.Sort(x.env)
	return x, nil
}

// Run implements executor.Executor.
func (x *stepExecutor) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (_ resourcestypes.Recorder, err error) {
	if id == "" {
		id = identity.NewID()
	}
	process.Meta.Env = withDefaults(process.Meta.Env, x.env)
	done, err := x.bound(id, &process.Meta)
	if err != nil {
		return nil, err
	}
	at := &places{}
	root, mounts = at.of(root), slices.Clone(mounts)
	for i := range mounts {
		mounts[i] = at.of(mounts[i])
	}
	if x.bundle != "" {
		mounts = append(mounts, executor.Mount{Src: hostFile(x.bundle), Dest: caTarget, Readonly: true})
	}
	ctx, stop := x.boundDisk(ctx, process.Stderr, at)
	rec, err := x.Executor.Run(ctx, id, root, mounts, process, started)
	stop()
	return rec, errors.Join(err, done())
}

// bound puts the limits into what is known of a step; the returned function takes
// away what that made, and ends what the step may have left.
func (x *stepExecutor) bound(id string, meta *executor.Meta) (func() error, error) {
	if x.alone {
		// The kernel counts all processes of a user in this namespace together. When
		// the step ends, its process namespace ends what is left of it.
		if n := mayProcesses(x.limits.PIDs); n > 0 {
			meta.Ulimit = append(slices.Clone(meta.Ulimit), &pb.Ulimit{Name: "nproc", Soft: n, Hard: n})
		}
		return func() error { return nil }, nil
	}
	group, err := x.groups.make(id, x.limits.PIDs)
	if err != nil {
		return nil, err
	}
	meta.LinuxResources, meta.CgroupParent = x.resources(), group.parent
	return group.remove, nil
}

// mayProcesses is a number of processes that an rlimit may be set to: nobody here
// may raise the one that we have.
func mayProcesses(n int64) int64 {
	var have unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NPROC, &have)
	if limit := int64(have.Max); err == nil && limit >= 0 && limit < n { //nolint:gosec // no limit is a negative one
		return limit
	}
	return n
}

func (x *stepExecutor) resources() *pb.LinuxResources {
	const period = 100_000 // µs, the kernel's default
	r := &pb.LinuxResources{Memory: x.limits.Memory, MemorySwap: x.limits.Memory}
	if x.limits.CPU > 0 {
		r.CpuPeriod, r.CpuQuota = period, int64(x.limits.CPU*period)
	}
	return r
}

// withDefaults adds the variables that env does not set.
func withDefaults(env, defaults []string) []string {
	env = slices.Clone(env)
	for _, d := range defaults {
		name, _, _ := strings.Cut(d, "=")
		if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, d)
		}
	}
	return env
}

func firstFile(paths []string) string {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// hostFile is a file of this machine as something BuildKit can mount.
type hostFile string

// Mount implements executor.Mountable.
func (f hostFile) Mount(context.Context, bool) (executor.MountableRef, error) { return f.ref() }

func (f hostFile) ref() (executor.MountableRef, error) {
	path, err := filepath.EvalSymlinks(string(f))
	if err != nil {
		return nil, fmt.Errorf("the certificate bundle: %w", err)
	}
	return hostFileRef(path), nil
}

type hostFileRef string

// Mount implements executor.MountableRef.
func (f hostFileRef) Mount() ([]mount.Mount, func() error, error) {
	m := mount.Mount{Type: "bind", Source: string(f), Options: []string{"rbind", "ro"}}
	return []mount.Mount{m}, func() error { return nil }, nil
}

// IdentityMapping implements executor.MountableRef.
func (hostFileRef) IdentityMapping() *user.IdentityMapping { return nil }
