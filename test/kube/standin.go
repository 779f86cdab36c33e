package kube

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/binnacle-hub/binnacle/test/machine"
)

// StandIn is an image that answers HTTP where the chart's hub would, so that its
// probes pass: for tests of a deployment, not of the hub.
func (c *Cluster) StandIn(t testing.TB) string {
	t.Helper()
	from, err := name.ParseReference(c.Box, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(from, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := *file.Config.DeepCopy()
	// The chart adds "serve", which is what it answers.
	config.Entrypoint, config.Cmd = []string{"/box", "serve", "0.0.0.0:8585"}, nil
	if img, err = mutate.Config(img, config); err != nil {
		t.Fatal(err)
	}
	// What is run in it for a backup.
	program, err := os.ReadFile(machine.StandIn(t, "1", 1, false))
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "usr/local/bin/binnacle", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	ref := c.Registry + "/stand-in:1"
	to, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return ref
}
