package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	regserver "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/builders"
	"github.com/binnacle-hub/binnacle/internal/engine"
	"github.com/binnacle-hub/binnacle/internal/image"
	"github.com/binnacle-hub/binnacle/internal/image/registry"
	"github.com/binnacle-hub/binnacle/internal/recipe"
)

// serving is `binnacle builder`.
type serving struct {
	address string
	cmd     *exec.Cmd
	drained bool
}

func startBuilder(t *testing.T, certificates, prefix string) *serving {
	t.Helper()
	room(t)
	data, err := os.MkdirTemp("/tmp", "bb")
	if err != nil {
		t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), the.bin, "--data", data, "--set", "base.archive="+filepath.Join(os.TempDir(), "binnacle-test-base.tar"),
		"--set", "kubernetes.registry.image_prefix="+prefix, "builder", "--listen", address, "--tls", certificates, "--grace", "1m")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &serving{address: address, cmd: cmd}
	t.Cleanup(func() {
		if !s.drained {
			s.drain(t)
		}
		if err := errors.Join(cmd.Wait(), os.RemoveAll(data)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// drain asks the builder to end.
func (s *serving) drain(t *testing.T) {
	t.Helper()
	s.drained = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// certificate makes one that an authority of its own signed, for both sides.
func certificate(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, leaf := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, root.Public(), root)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.crt", "CERTIFICATE", der)
	pair := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, pair, ca, leaf.Public(), root); err != nil {
		t.Fatal(err)
	}
	write("tls.crt", "CERTIFICATE", der)
	if der, err = x509.MarshalECPrivateKey(leaf); err != nil {
		t.Fatal(err)
	}
	write("tls.key", "EC PRIVATE KEY", der)
	return dir
}

// TestBuilders: builders that are reached over TLS push to a registry; what one has
// made, another one that never built takes from there; a builder that goes away
// in the middle of a build is replaced, and the user is told; one that is drained
// ends its build first.
func TestBuilders(t *testing.T) {
	reg := httptest.NewServer(regserver.New(regserver.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))))
	defer reg.Close()
	certs := certificate(t)
	cfg := registry.DefaultConfig()
	cfg.ImagePrefix = strings.TrimPrefix(reg.URL, "http://") + "/hub"
	first, second := startBuilder(t, certs, cfg.ImagePrefix), startBuilder(t, certs, cfg.ImagePrefix)
	cfg.DockerConfig = filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(cfg.DockerConfig, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	images := registry.New(cfg, reg.Client().Transport)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	on := func(wait time.Duration, certificates string, addresses ...string) *image.Builder {
		p := builders.DefaultConfig()
		p.Addresses, p.TLS, p.Wait = addresses, certificates, wait
		return image.NewShared(builders.New(p, log), image.Shared{
			Registry: images, Bootstrapped: engine.BaseImage, BaseKey: engine.Base{}.Key(),
		}, "test", log)
	}
	request := func(commit, script, post string) image.Request {
		rev := binnacle.Revision{Spec: binnacle.Spec{Provider: binnacle.GitHub, Repo: "owner/Name", Ref: "main"}, URL: "https://example.org/owner/name", Commit: commit}
		r := recipe.Recipe{Kind: "python", Steps: []recipe.Step{
			{Name: "pip", Stage: recipe.StageEnvironment, Script: script},
			{Name: "postBuild", Stage: recipe.StagePostBuild, Script: post},
		}}
		return image.Request{Revision: rev, Recipe: r, Dir: plainDir(t, map[string]string{"a.ipynb": commit})}
	}

	stranger := on(time.Second, "", first.address)
	if _, err := stranger.Build(t.Context(), request("0", "true", "true"), new(told).add); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("without a certificate: %v", err)
	}
	// A step that would give another result when it were run again.
	const env = "date +%s.%N > /srv/conda/when"
	a := on(time.Minute, certs, first.address)
	if _, ok, err := a.Find(t.Context(), request("c1", "", "").Revision, ""); ok || err != nil {
		t.Fatal(ok, err)
	}
	img, err := a.Build(t.Context(), request("c1", env, "true"), new(told).add)
	if err != nil {
		t.Fatal(err)
	}
	found, ok, err := a.Find(t.Context(), request("c1", "", "").Revision, "")
	if err != nil || !ok || found.Name != img.Name || !strings.HasPrefix(img.Name, cfg.ImagePrefix+"/") || found.Environment != img.Environment {
		t.Errorf("found %+v %v %v, built %+v", found, ok, err, img)
	}
	attested(t, images, img.Name)

	// The other one begins with what the registry has, and makes the same layers of the
	// same commit: what is said of an image has times in it, they have none.
	before := layersOf(t, images, img.Name)
	if _, err := on(time.Minute, certs, second.address).Build(t.Context(), request("c1", env, "true"), new(told).add); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, layersOf(t, images, img.Name)); diff != "" {
		t.Errorf("two builders made of one commit (-first +second):\n%s", diff)
	}
	var ev told
	if _, err := on(time.Minute, certs, second.address).Build(t.Context(), request("c2", env, "true"), ev.add); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(ev.steps(true), "pip") {
		t.Errorf("the environment was made again: from the cache came %q, run were %q", ev.steps(true), ev.steps(false))
	}
	files, err := a.Resolved(t.Context(), img.Name)
	if err != nil || len(files) == 0 {
		t.Errorf("versions: %v %v", files, err)
	}
	cfg.Lazy = true
	eager := images
	images = registry.New(cfg, reg.Client().Transport)
	lazy, err := on(time.Minute, certs, first.address).Build(t.Context(), request("c5", env, "true"), new(told).add)
	if err != nil {
		t.Fatal(err)
	}
	pulledLazily(t, images, lazy.Name)
	images = eager
	moved(t, on(time.Minute, certs, first.address, second.address), request("c3", "true", "sleep 2; echo done"), first, second)
	if _, err := on(time.Second, certs, first.address, second.address).Build(t.Context(), request("c4", "true", "true"), new(told).add); binnacle.CodeOf(err) != binnacle.CodeUnavailable {
		t.Errorf("drained builders took a build: %v", err)
	}
}

// told is what builds tell.
type told struct {
	mu  sync.Mutex
	all []binnacle.Event
}

func (e *told) add(ev binnacle.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// steps are the names of the steps that ended.
func (e *told) steps(cached bool) []string {
	var names []string
	for _, ev := range e.all {
		if ev.Kind == binnacle.EventStep && ev.Cached == cached {
			names = append(names, ev.Step)
		}
	}
	return names
}

// moved builds while the builder that has the build is drained: it ends the
// build, and takes no other one.
func moved(t *testing.T, b *image.Builder, req image.Request, all ...*serving) {
	t.Helper()
	var once bool
	img, err := b.Build(t.Context(), req, func(e binnacle.Event) {
		if e.Step == "postBuild" && !once {
			once = true
			for _, s := range all {
				s.drain(t)
			}
		}
	})
	if err != nil || img.Digest == "" {
		t.Errorf("a builder that was drained did not end its build: %v", err)
	}
}

// pulledLazily: every layer of an image has the table of contents that a
// snapshotter begins with.
func pulledLazily(t *testing.T, images *registry.Registry, name string) {
	t.Helper()
	for i, l := range layersOf(t, images, name) {
		if l.Annotations["containerd.io/snapshot/stargz/toc.digest"] == "" {
			t.Errorf("layer %d has no table of contents: %+v", i, l)
		}
	}
}

// layersOf are the layers of an image in the registry.
func layersOf(t *testing.T, images *registry.Registry, name string) []v1.Descriptor {
	t.Helper()
	img, ok, err := images.Image(t.Context(), name, nil)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	m, err := img.Manifest()
	if err != nil || len(m.Layers) < 4 {
		t.Fatalf("%+v %v", m, err)
	}
	return m.Layers
}

// attested: an image in the registry says what it is made of.
func attested(t *testing.T, images *registry.Registry, name string) {
	t.Helper()
	img, ok, err := images.Image(t.Context(), name, nil)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	file, err := img.ConfigFile()
	if err != nil || file.Config.Labels[image.LabelKind] != "python" || file.Config.User != "jovyan" {
		t.Errorf("%+v %v", file, err)
	}
	ref, err := images.Reference(name)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil || !slices.ContainsFunc(list.Manifests, func(d v1.Descriptor) bool {
		return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
	}) {
		t.Errorf("no attestation: %+v %v", list, err)
	}
}
