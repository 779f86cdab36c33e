// Package crates is an index of Rust crates for tests, as Cargo asks one over HTTP
// (its sparse protocol): crates made of a few files.
package crates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/binnacle-hub/binnacle/test/targz"
)

// Crate is one to be made; its name has four letters or more.
type Crate struct {
	Name, Version string
	Code          string // of src/lib.rs
}

// Index serves crates; Close ends it.
type Index struct {
	// URL is what mirrors.crates of the configuration takes.
	URL string

	server *httptest.Server
	crates map[string]made
	mu     sync.Mutex
	asked  []string
}

type made struct {
	Crate
	archive []byte
	sum     string
}

// Start serves on a port of the loopback.
func Start(all ...Crate) (*Index, error) {
	x := &Index{crates: map[string]made{}}
	for _, c := range all {
		archive, err := c.archive()
		if err != nil {
			return nil, fmt.Errorf("make the crate %s: %w", c.Name, err)
		}
		sum := sha256.Sum256(archive)
		x.crates[c.Name] = made{c, archive, hex.EncodeToString(sum[:])}
	}
	x.server = httptest.NewServer(x)
	x.URL = "sparse+" + x.server.URL + "/index/"
	return x, nil
}

// Close ends the server.
func (x *Index) Close() { x.server.Close() }

// Sum is the checksum that a Cargo.lock has of a crate.
func (x *Index) Sum(name string) string { return x.crates[name].sum }

// Asked is every path that was asked for.
func (x *Index) Asked() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.asked)
}

func (c Crate) archive() ([]byte, error) {
	return targz.Pack(c.Name+"-"+c.Version, map[string]string{
		"Cargo.toml": fmt.Sprintf("[package]\nname = %q\nversion = %q\nedition = \"2021\"\n", c.Name, c.Version),
		"src/lib.rs": c.Code,
	})
}

// ServeHTTP answers for the index, an entry of it, and a crate.
func (x *Index) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x.mu.Lock()
	x.asked = append(x.asked, req.URL.Path)
	x.mu.Unlock()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	const entry, download = 4, 4 // parts of their paths
	switch {
	case req.URL.Path == "/index/config.json":
		_ = json.NewEncoder(w).Encode(map[string]string{"dl": x.server.URL + "/crates"})
	case len(parts) == entry && parts[0] == "index" && x.crates[parts[3]].Name != "":
		c := x.crates[parts[3]]
		_ = json.NewEncoder(w).Encode(map[string]any{"name": c.Name, "vers": c.Version, "deps": []any{}, "cksum": c.sum, "features": map[string]any{}, "yanked": false})
	case len(parts) == download && parts[0] == "crates" && x.crates[parts[1]].Version == parts[2] && parts[3] == "download":
		_, _ = w.Write(x.crates[parts[1]].archive)
	default:
		http.NotFound(w, req)
	}
}
