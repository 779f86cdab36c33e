package containerd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sync/errgroup"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// startTimeout bounds a start in the container engine, which cannot be
// interrupted without leaving something half made.
const startTimeout = time.Minute

// Start implements session.Spawner.
func (s *Spawner) Start(ctx context.Context, spec session.Spec) (session.Status, error) {
	if !session.ValidID(spec.ID) {
		return session.Status{}, binnacle.Errorf(binnacle.CodeInvalid, "A session cannot be called %q.", spec.ID)
	}
	if err := s.claims.Claim(spec.ID); err != nil {
		return session.Status{}, err
	}
	defer s.claims.Release(spec.ID)
	st, err := s.start(ctx, spec)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("start the session: %w (%v)", ctx.Err(), err) //nolint:errorlint // the code is the context's, not the consequence's
	}
	return st, err
}

func (s *Spawner) start(ctx context.Context, spec session.Spec) (_ session.Status, err error) {
	l, err := labels(spec)
	if err != nil {
		return session.Status{}, err
	}
	// Steps are not cut off in the middle; between them we look at ctx.
	whole, cancel := context.WithTimeout(s.with(context.WithoutCancel(ctx)), startTimeout)
	defer cancel()
	if _, err := s.client.ContainerService().Get(whole, spec.ID); err == nil {
		return session.Status{}, session.Taken(spec.ID)
	}
	if err := ctx.Err(); err != nil {
		return session.Status{}, err
	}
	img, err := s.client.GetImage(whole, spec.Image)
	if errdefs.IsNotFound(err) {
		return session.Status{}, binnacle.Errorf(binnacle.CodeNotFound, "The image %s is not there.", spec.Image)
	}
	if err != nil {
		return session.Status{}, away("look for the image", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove(context.WithoutCancel(ctx), spec.ID, 0))
		}
	}()
	config, err := readImage(whole, img)
	if err != nil {
		return session.Status{}, away("read the image", err)
	}
	user, err := s.prepareDir(spec, config)
	if err != nil {
		return session.Status{}, err
	}
	container, err := s.create(whole, spec, img, config, user, l)
	if err != nil {
		return session.Status{}, err
	}
	if err := ctx.Err(); err != nil {
		return session.Status{}, err
	}
	task, err := container.NewTask(whole, cio.LogFile(s.logFile(spec.ID)))
	if err != nil {
		return session.Status{}, cannotRun(err)
	}
	if err := ctx.Err(); err != nil {
		return session.Status{}, err
	}
	if err := task.Start(whole); err != nil {
		return session.Status{}, cannotRun(err)
	}
	if err := os.WriteFile(s.marker(spec.ID), nil, 0o600); err != nil {
		return session.Status{}, fmt.Errorf("note that the session started: %w", err)
	}
	return s.Get(whole, spec.ID)
}

// create makes the container, its root and its network at the same time. The
// container names its snapshot before that exists, so containerd's garbage
// collection never finds the snapshot without an owner.
func (s *Spawner) create(ctx context.Context, spec session.Spec, img client.Image, config imageConfig, user user, l map[string]string) (client.Container, error) {
	g, gctx := errgroup.WithContext(ctx)
	var netns string
	g.Go(func() error {
		var addr netip.Addr
		var err error
		if netns, addr, err = s.net.Attach(gctx, spec.ID); err != nil {
			return fmt.Errorf("make the session's network: %w", err)
		}
		return s.writeNames(spec.ID, addr)
	})
	var parent string
	g.Go(func() error {
		ids, err := img.RootFS(gctx)
		if err != nil {
			return away("read the image", err)
		}
		parent = identity.ChainID(ids).String()
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	oci, err := s.oci(ctx, spec, config, user, netns)
	if err != nil {
		return nil, err
	}
	shim := s.cfg.Shim
	if shim == "" {
		shim = "io.containerd.runc.v2"
	}
	record := containers.Container{
		ID: spec.ID, Labels: l, Image: spec.Image, Snapshotter: s.cfg.Snapshotter, SnapshotKey: snapshotKey(spec.ID),
		Runtime: containers.RuntimeInfo{Name: shim},
	}
	if record.Spec, err = typeurl.MarshalAnyToProto(oci); err != nil {
		return nil, fmt.Errorf("describe the session's container: %w", err)
	}
	if record.Runtime.Options, err = typeurl.MarshalAnyToProto(&options.Options{BinaryName: s.cfg.Runc}); err != nil {
		return nil, fmt.Errorf("describe the session's runtime: %w", err)
	}
	// The client's NewContainer would take a lease, which costs two more
	// transactions and stays when we are killed.
	_, err = s.client.ContainerService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		return nil, session.Taken(spec.ID)
	}
	if err != nil {
		return nil, away("make the session's container", err)
	}
	snapshots := s.client.SnapshotService(s.cfg.Snapshotter)
	_, err = snapshots.Prepare(ctx, snapshotKey(spec.ID), parent)
	if errdefs.IsNotFound(err) { // an image that was only imported
		if err = s.unpack(ctx, spec.ID, img); err == nil {
			_, err = snapshots.Prepare(ctx, snapshotKey(spec.ID), parent)
		}
	}
	if err != nil {
		return nil, away("make the session's files", err)
	}
	container, err := s.client.LoadContainer(ctx, spec.ID)
	if err != nil {
		return nil, away("find the session's container", err)
	}
	return container, nil
}

// unpack holds on to what it makes by a lease that Reconcile can tell from
// others' if we are killed meanwhile.
func (s *Spawner) unpack(ctx context.Context, id string, img client.Image) error {
	all := s.client.LeasesService()
	lease, err := all.Create(ctx, leases.WithRandomID(), leases.WithLabel(labelSession, id))
	if err != nil {
		return fmt.Errorf("take a lease: %w", err)
	}
	return errors.Join(img.Unpack(leases.WithLease(ctx, lease.ID), s.cfg.Snapshotter), all.Delete(ctx, lease))
}

func snapshotKey(id string) string { return "session-" + id }

// prepareDir makes the session's directory with what is mounted from it.
func (s *Spawner) prepareDir(spec session.Spec, config imageConfig) (user, error) {
	u, err := userOf(config, spec.Mount)
	if err != nil {
		return user{}, err
	}
	// 0700: what is below is for the session and us. The session gets there by
	// mounts, not by this path.
	if err := os.Mkdir(s.dir(spec.ID), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return user{}, fmt.Errorf("make the session's directory: %w", err)
	}
	if err := os.Mkdir(s.runDir(spec.ID), 0o700); err != nil {
		return user{}, fmt.Errorf("make the session's socket directory: %w", err)
	}
	if err := os.Lchown(s.runDir(spec.ID), int(u.uid), int(u.gid)); err != nil {
		return user{}, fmt.Errorf("give the session its socket directory: %w", err)
	}
	return u, nil
}

func (s *Spawner) writeNames(id string, addr netip.Addr) error {
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n%s %s\n", addr, id)
	for name, content := range map[string]string{"resolv.conf": s.net.ResolvConf(), "hosts": hosts.String(), "hostname": id + "\n"} {
		if err := os.WriteFile(filepath.Join(s.dir(id), name), []byte(content), 0o644); err != nil { //nolint:gosec // the session's user reads it
			return fmt.Errorf("write the session's %s: %w", name, err)
		}
	}
	return nil
}

// cannotRun is the image's fault when the command is missing.
func cannotRun(err error) error {
	// runc looks for the command before the process starts, and says so in words.
	if said := err.Error(); strings.Contains(said, "exec: ") || strings.Contains(said, "exec /") {
		return session.CannotRun(err)
	}
	return away("start the session's process", err)
}
