// Package condachannel is a conda channel for tests: packages made of a few
// files, served over HTTP with the repodata.json that solvers read.
package condachannel

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Package is one to be built. The zero Subdir is noarch.
type Package struct {
	Name    string
	Version string
	// Subdir is the platform: "noarch" or "linux-64".
	Subdir  string
	Depends []string
	// Constrains are versions of others that it goes with, which it does not need.
	Constrains []string
	// Files by path below the prefix. Those of a Python package are below
	// site-packages.
	Files map[string]string
	// Links by path below the prefix, with their targets.
	Links map[string]string
	// Python says that it is a noarch package of Python.
	Python bool
	// EntryPoints are its commands, like "knots = knots:main".
	EntryPoints []string
	// Undated says that the channel does not tell when it was built; Built is
	// that time in milliseconds, in 2023 when zero.
	Undated bool
	Built   int64
}

// Channel is a set of built packages. It is an http.Handler; the address of a
// channel is /<name>.
type Channel struct {
	name  string
	files map[string][]byte
}

// New builds the packages.
func New(name string, packages ...Package) (*Channel, error) {
	c := &Channel{name: name, files: map[string][]byte{}}
	records := map[string]map[string]any{"noarch": {}, "linux-64": {}, "linux-aarch64": {}}
	for _, p := range packages {
		if p.Subdir == "" {
			p.Subdir = "noarch"
		}
		file := fmt.Sprintf("%s-%s-0.conda", p.Name, p.Version)
		body, err := p.build()
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", file, err)
		}
		c.files["/"+path.Join(name, p.Subdir, file)] = body
		record := p.index()
		sha, md := sha256.Sum256(body), md5.Sum(body)
		record["sha256"], record["md5"], record["size"] = hex.EncodeToString(sha[:]), hex.EncodeToString(md[:]), len(body)
		records[p.Subdir][file] = record
	}
	for subdir, all := range records {
		b, err := json.Marshal(map[string]any{"info": map[string]any{"subdir": subdir}, "packages": map[string]any{}, "packages.conda": all, "repodata_version": 1})
		if err != nil {
			return nil, err
		}
		c.files["/"+path.Join(name, subdir, "repodata.json")] = b
	}
	return c, nil
}

// URL is the address of a package's file in a channel below alias, with its
// sha256 after a hash sign; for lists that tests make.
func (c *Channel) URL(alias, subdir, name, version string) string {
	file := path.Join(c.name, subdir, fmt.Sprintf("%s-%s-0.conda", name, version))
	sum := sha256.Sum256(c.files["/"+file])
	return strings.TrimSuffix(alias, "/") + "/" + file + "#" + hex.EncodeToString(sum[:])
}

// Start serves the channels on loopback; its URL is what CONDA_CHANNEL_ALIAS
// takes. The caller closes it.
func Start(channels ...*Channel) *httptest.Server { return httptest.NewServer(Serve(channels...)) }

// Serve answers for several channels.
func Serve(channels ...*Channel) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, c := range channels {
			if strings.HasPrefix(r.URL.Path, "/"+c.name+"/") {
				c.ServeHTTP(w, r)
				return
			}
		}
		http.NotFound(w, r)
	})
}

// ServeHTTP gives repodata.json and packages.
func (c *Channel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := c.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(body))
}

func (p Package) index() map[string]any {
	const in2023 = 1700000000000
	index := map[string]any{
		"name": p.Name, "version": p.Version, "build": "0", "build_number": 0, "subdir": p.Subdir,
		"depends": append([]string{}, p.Depends...), "timestamp": cmp.Or(p.Built, in2023), "arch": nil, "platform": nil,
	}
	if len(p.Constrains) > 0 {
		index["constrains"] = p.Constrains
	}
	if p.Undated {
		delete(index, "timestamp")
	}
	if p.Subdir == "noarch" {
		index["noarch"] = "generic"
		if p.Python {
			index["noarch"] = "python"
		}
	}
	return index
}

// build writes a .conda file: a zip of two compressed archives and a version.
func (p Package) build() ([]byte, error) {
	var paths []map[string]any
	for _, name := range slices.Sorted(maps.Keys(p.Files)) {
		sum := sha256.Sum256([]byte(p.Files[name]))
		paths = append(paths, map[string]any{"_path": name, "path_type": "hardlink", "sha256": hex.EncodeToString(sum[:]), "size_in_bytes": len(p.Files[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Links)) {
		paths = append(paths, map[string]any{"_path": name, "path_type": "softlink", "size_in_bytes": 0, "sha256": hex.EncodeToString(make([]byte, sha256.Size))})
	}
	about := map[string]any{"paths": paths, "paths_version": 1}
	info := map[string]string{"info/files": strings.Join(append(slices.Sorted(maps.Keys(p.Files)), slices.Sorted(maps.Keys(p.Links))...), "\n") + "\n"}
	for name, v := range map[string]any{"info/index.json": p.index(), "info/paths.json": about} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		info[name] = string(b)
	}
	if p.Python {
		link, err := json.Marshal(map[string]any{"noarch": map[string]any{"type": "python", "entry_points": append([]string{}, p.EntryPoints...)}, "package_metadata_version": 1})
		if err != nil {
			return nil, err
		}
		info["info/link.json"] = string(link)
	}
	stem := fmt.Sprintf("%s-%s-0.tar.zst", p.Name, p.Version)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, part := range []struct {
		name  string
		files map[string]string
		links map[string]string
	}{{"pkg-" + stem, p.Files, p.Links}, {"info-" + stem, info, nil}} {
		b, err := archive(part.files, part.links)
		if err != nil {
			return nil, err
		}
		if err := stored(z, part.name, b); err != nil {
			return nil, err
		}
	}
	if err := stored(z, "metadata.json", []byte(`{"conda_pkg_format_version": 2}`)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func stored(z *zip.Writer, name string, body []byte) error {
	size := uint64(len(body)) // known before it is written: rattler reads the archive as a stream
	w, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, CRC32: crc32.ChecksumIEEE(body), CompressedSize64: size, UncompressedSize64: size})
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

func archive(files, links map[string]string) ([]byte, error) {
	var out bytes.Buffer
	compressed, err := zstd.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(compressed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(files[name])), ModTime: time.Unix(1700000000, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: links[name], Mode: int64(os.ModePerm)}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := compressed.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
