package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Shared returns the cluster that all tests of this machine use, and lets go of
// it when the test ends. It compiles the cluster's programs when they are not
// there, which takes minutes once. The test is skipped with -short and without
// root; with BINNACLE_TEST_REQUIRE=all it fails instead of being skipped.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	Need(t)
	c, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatalf("start a Kubernetes: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Alone returns a cluster of the test's own, and stops it when the test ends: for
// who breaks what other tests would feel, as the API server, the registry or a
// full node. It is skipped where Shared is.
func Alone(t testing.TB) *Cluster {
	t.Helper()
	Need(t)
	dir := filepath.Join("/var/tmp", fmt.Sprintf("bnk%d", os.Getpid()))
	c, err := Start(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatalf("start a Kubernetes: %v", err)
	}
	t.Cleanup(func() {
		const patience = 10 * time.Minute // images and their builds are removed with it
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := errors.Join(c.Close(), Stop(ctx, dir)); err != nil {
			t.Errorf("stop a Kubernetes: %v", err)
		}
	})
	return c
}

// Need skips or fails a test that cannot have a cluster here, and compiles what
// it needs.
func Need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("a Kubernetes takes more than a moment")
	}
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	if _, err := exec.LookPath("nft"); err != nil {
		missing = "nftables"
	}
	if missing != "" && os.Getenv("BINNACLE_TEST_REQUIRE") == "all" {
		t.Fatalf("a Kubernetes needs %s, and BINNACLE_TEST_REQUIRE=all", missing)
	} else if missing != "" {
		t.Skipf("a Kubernetes needs %s", missing)
	}
	if err := compile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// compile brings the programs up to date, one process at a time.
func compile(ctx context.Context) error {
	root, err := Root()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".tools", "kube", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if _, err := exec.LookPath("go"); err != nil { // sudo may have another PATH
		if _, err := os.Stat(filepath.Join(bin, "kube")); err == nil {
			return nil
		}
	}
	lock, err := os.OpenFile(filepath.Join(bin, "..", "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("wait for another compilation: %w", err)
	}
	if out, err := exec.CommandContext(ctx, "make", "-s", "-C", root, "kube-programs").CombinedOutput(); err != nil {
		return fmt.Errorf("compile the programs of a Kubernetes: %w\n%s", err, out)
	}
	return nil
}

// Namespace makes a namespace for a test, and removes it afterwards.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	ns, err := c.Client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	t.Cleanup(func() {
		const patience = 10 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		err := c.Client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("remove the namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// Address is the i-th of the load balancer's addresses, 1 to 254. A Service gets it
// by asking for it (spec.loadBalancerIP), and lower ones by not asking.
func (c *Cluster) Address(i int) string {
	const first = 64 // the cluster with number n has 10.(64+n).0.0/16
	host := netip.MustParseAddrPort(c.Registry).Addr().As4()
	return netip.AddrFrom4([4]byte{127, first, host[1] - first, byte(i)}).String()
}

// Import puts the image of an archive (OCI or Docker's) on every node by the
// name ref, so that a pod with imagePullPolicy IfNotPresent or Never has it.
func (c *Cluster) Import(ctx context.Context, ref, archive string) error {
	sockets, err := filepath.Glob(filepath.Join(c.Dir, "node*", "run", "containerd", "containerd.sock"))
	if err != nil || len(sockets) == 0 {
		return errors.Join(fmt.Errorf("no node's containerd is in %s", c.Dir), err)
	}
	ctx = namespaces.WithNamespace(ctx, "k8s.io")
	group, ctx := errgroup.WithContext(ctx)
	for _, socket := range sockets {
		group.Go(func() error {
			if err := importTo(ctx, socket, ref, archive); err != nil {
				node, _, _ := strings.Cut(strings.TrimPrefix(socket, c.Dir+"/"), "/")
				return fmt.Errorf("import %s on %s: %w", ref, node, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func importTo(ctx context.Context, socket, ref, archive string) error {
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := client.Import(ctx, f, containerd.WithIndexName(ref), containerd.WithAllPlatforms(false))
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("the archive has no image")
	}
	named := images.Image{Name: ref, Target: list[0].Target, Labels: map[string]string{"io.cri-containerd.image": "managed"}}
	store := client.ImageService()
	if _, err = store.Create(ctx, named); errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, named)
	}
	if err != nil {
		return err
	}
	return containerd.NewImage(client, named).Unpack(ctx, "overlayfs")
}
