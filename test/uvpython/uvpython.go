// Package uvpython offers a Python that uv downloads, as the mirror of a site does:
// a real one, made of an earlier Debian's packages in the layout of the builds that
// uv takes, and the list that tells uv of it.
package uvpython

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"

	"github.com/binnacle-hub/binnacle/test/olddebian"
)

// Version is the Python of bookworm; its patch release is what that had first.
const Version = "3.11"

// Upstream is where uv thinks that builds are: an address that begins so is looked
// for at the mirror instead.
const Upstream = "https://github.com/astral-sh/python-build-standalone/releases/download"

// file is below the mirror's address.
const file = "/20230601/cpython-3.11-binnacle-install_only.tar.gz"

// Handler serves the build below the mirror's address, and /downloads.json beside
// it. Returns [olddebian.ErrNone] when Debian's packages can't be had.
func Handler(ctx context.Context) (http.Handler, error) {
	at, err := olddebian.Archive(ctx, "python-"+Version+"-1", "bookworm", "python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib", `
mkdir -p python
mv usr/bin usr/lib python/
rm -f python/lib/python3.11/sitecustomize.py python/lib/python3.11/EXTERNALLY-MANAGED
ln -s python3.11 python/bin/python3
tar -c --sort=name --owner=0 --group=0 python | gzip -1 > "$OUT"
`)
	if err != nil {
		return nil, err
	}
	build, err := os.ReadFile(at)
	if err != nil {
		return nil, fmt.Errorf("read the build: %w", err)
	}
	sum := sha256.Sum256(build)
	family := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	list, err := json.Marshal(map[string]any{"cpython-3.11.2-linux-" + family + "-gnu": map[string]any{
		"name": "cpython", "arch": map[string]any{"family": family, "variant": nil}, "os": "linux", "libc": "gnu",
		"major": 3, "minor": 11, "patch": 2, "prerelease": "", "url": Upstream + file, "sha256": hex.EncodeToString(sum[:]), "variant": nil, "build": "20230601",
	}})
	if err != nil {
		return nil, fmt.Errorf("write the list: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/downloads.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(list) })
	mux.HandleFunc(file, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(build) })
	return mux, nil
}
