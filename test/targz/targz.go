// Package targz packs a few files as package servers send them, for tests.
package targz

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

// Pack makes a .tar.gz of files, by path, below a directory; empty is none. What is
// in bin/, and a configure script, may be executed. Equal files have equal bytes.
func Pack(dir string, files map[string]string) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: path.Join(dir, name), Mode: mode(name), Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), z.Close())
	return out.Bytes(), err
}

func mode(name string) int64 {
	if strings.HasPrefix(name, "bin/") || name == "configure" {
		return 0o755
	}
	return 0o644
}
