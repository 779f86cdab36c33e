package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/binnacle-hub/binnacle"
)

// BaseImage is the name of the base that this machine bootstrapped itself.
// Dockerfiles of repositories may start FROM it.
const BaseImage = "binnacle.local/base:latest"

// Base is how the image that everything is built on comes to be: named in a
// registry, or bootstrapped here from Debian's packages.
type Base struct {
	// Image is any Debian or Ubuntu image; empty bootstraps [BaseImage].
	Image string
	// Suite is the Debian release to bootstrap.
	Suite string
	// Mirror is the address of a Debian mirror; empty is Debian's own.
	Mirror string
	// Packages are installed beside the minimum.
	Packages []string
	// Archive is a tar file that holds the bootstrapped base. It is taken when
	// it is there (a site without a mirror brings it along) and written when it
	// is not; empty keeps none.
	Archive string
}

// DefaultSuite is the Debian release of a bootstrapped base.
const DefaultSuite = "trixie"

// DefaultPackages are what repositories that were written for repo2docker's
// base (Debian's buildpack-deps) count on: compilers, git, the usual tools.
func DefaultPackages() []string {
	return []string{
		"build-essential", "bzip2", "ca-certificates", "curl", "gettext-base", "git", "less", "locales", "nano",
		"openssh-client", "procps", "python3", "python3-dev", "python3-venv", "unzip", "wget", "xz-utils",
	}
}

// baseLabel holds the identity of what was bootstrapped.
const baseLabel = "dev.binnacle.base"

// EnsureBase returns the name of the base image, bootstrapping it first when
// that is configured and it is not there or was made differently. It takes some
// 20 s once; out gets what the bootstrap says, line by line. Returns
// unavailable when mmdebstrap is missing or the mirror does not answer.
func (e *Engine) EnsureBase(ctx context.Context, out func(line string)) (string, error) {
	if e.cfg.Base.Image != "" {
		return e.cfg.Base.Image, nil
	}
	e.baseMu.Lock()
	defer e.baseMu.Unlock()
	key := e.cfg.Base.Key()
	have, err := e.client.ImageService().Get(ctx, BaseImage)
	if err == nil && have.Labels[baseLabel] == key {
		return BaseImage, nil
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return "", fmt.Errorf("look for the base image: %w", err)
	}
	tar, done, err := e.baseArchive(ctx, key, out)
	if err != nil {
		return "", err
	}
	defer done()
	if err := e.importBase(ctx, tar, key); err != nil {
		return "", fmt.Errorf("keep the base image: %w", err)
	}
	return BaseImage, nil
}

// baseArchive is the tar file to import; done removes it unless it is to be kept.
func (e *Engine) baseArchive(ctx context.Context, key string, out func(string)) (tar string, done func(), err error) {
	done = func() {}
	if tar = e.cfg.Base.Archive; tar == "" {
		dir := filepath.Join(e.cfg.Dir, "base")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", done, fmt.Errorf("make the directory of the base: %w", err)
		}
		tar = filepath.Join(dir, key[:12]+".tar")
		done = func() { _ = os.Remove(tar) } // a rest is written over next time
	} else if _, err := os.Stat(tar); err == nil {
		return tar, done, nil
	}
	out("No base image is here yet: installing Debian " + e.cfg.Base.suite() + " once (some 30 seconds).")
	part, err := os.MkdirTemp(filepath.Dir(tar), ".base-*") // two hubs may share an archive
	if err != nil {
		return "", done, fmt.Errorf("make the base image: %w", err)
	}
	defer os.RemoveAll(part)
	began := time.Now().Truncate(time.Second)
	if err := e.cfg.Base.bootstrap(ctx, filepath.Join(part, "raw"), out); err != nil {
		return "", done, err
	}
	if err := settle(filepath.Join(part, "raw"), filepath.Join(part, "tar"), began); err != nil {
		return "", done, err
	}
	if err := os.Rename(filepath.Join(part, "tar"), tar); err != nil {
		return "", done, fmt.Errorf("keep the base image: %w", err)
	}
	return tar, done, nil
}

func (b Base) suite() string {
	if b.Suite == "" {
		return DefaultSuite
	}
	return b.Suite
}

func (b Base) packages() []string {
	if len(b.Packages) == 0 {
		return DefaultPackages()
	}
	return b.Packages
}

// Key changes whenever another base would come out, but for Debian's updates.
func (b Base) Key() string {
	const version = "2"
	sum := sha256.Sum256([]byte(strings.Join(append([]string{version, b.suite(), b.Mirror, runtime.GOARCH}, b.packages()...), "\n")))
	return hex.EncodeToString(sum[:])
}

// baseSums notes the hash of each package, as apt's lists have it, where the steps of
// a build add theirs (recipe.SumStore). Afterwards the lists are gone.
const baseSums = `mkdir -p "$1/usr/local/share/binnacle/sums"
chroot "$1" dpkg-query -W -f='${Package}=${Version}\n' | sort | xargs chroot "$1" apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= show |
  awk '/^Package: / { name = $2 } /^Version: / { version = $2 } /^SHA256: / { print $2, name "=" version }' > "$1/usr/local/share/binnacle/sums/apt.sha256"`

func (b Base) bootstrap(ctx context.Context, tar string, out func(string)) error {
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "engine.base", Message: "mmdebstrap, which installs the base image, is not on this machine.",
			Hint: "apt-get install mmdebstrap, or name a base image in the configuration (base.image).", Err: err,
		}
	}
	args := []string{
		"--quiet", "--variant=minbase", "--format=tar", "--include=" + strings.Join(b.packages(), ","),
		"--aptopt=Acquire::Retries \"3\"", "--aptopt=APT::Install-Recommends \"false\"",
		"--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-exclude=/usr/share/locale/*/LC_MESSAGES/*",
		"--customize-hook=" + baseSums, b.suite(), tar,
	}
	if b.Mirror != "" {
		args = append(args, b.Mirror)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8") //nolint:forbidigo // the tool needs the operator's proxy and TMPDIR
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }              // it unmounts what it mounted
	cmd.WaitDelay = 20 * time.Second
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start mmdebstrap: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start mmdebstrap: %w", err)
	}
	last := ""
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		last = lines.Text()
		out(last)
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "engine.base", Message: "The base image could not be installed from Debian's packages: " + last,
			Hint: "Check that the Debian mirror can be reached (mirrors.debian in the configuration), or name a base image (base.image).", Err: err,
		}
	}
	return nil
}

// importBase makes an image of one layer out of the tar, in containerd's store.
func (e *Engine) importBase(ctx context.Context, tar, key string) error {
	ctx, done, err := e.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer done(context.WithoutCancel(ctx)) //nolint:errcheck // a lease that stays expires by itself
	store := e.client.ContentStore()
	layer, err := writeFile(ctx, store, tar)
	if err != nil {
		return err
	}
	config, err := writeJSON(ctx, store, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"bash"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	}, nil)
	if err != nil {
		return err
	}
	manifest, err := writeJSON(ctx, store, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer},
	}, map[string]string{
		"containerd.io/gc.ref.content.config": config.Digest.String(),
		"containerd.io/gc.ref.content.l.0":    layer.Digest.String(),
	})
	if err != nil {
		return err
	}
	img := images.Image{Name: BaseImage, Target: manifest, Labels: map[string]string{baseLabel: key}}
	_, err = e.client.ImageService().Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		_, err = e.client.ImageService().Update(ctx, img)
	}
	if err != nil {
		return err
	}
	return client.NewImage(e.client, img).Unpack(ctx, Snapshotter)
}

func writeFile(ctx context.Context, store content.Store, path string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	hash := digest.Canonical.Digester()
	size, err := io.Copy(hash.Hash(), f)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: hash.Digest(), Size: size}
	return d, content.WriteBlob(ctx, store, "base-"+d.Digest.Encoded(), f, d)
}

func writeJSON(ctx context.Context, store content.Store, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, content.WriteBlob(ctx, store, "base-"+d.Digest.Encoded(), bytes.NewReader(b), d, content.WithLabels(labels))
}
