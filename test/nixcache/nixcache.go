// Package nixcache is a cache of compiled packages for Nix in tests: what `nix copy`
// wrote, served over HTTP, and a key that signs it.
package nixcache

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"sync"
)

// Key signs packages.
type Key struct {
	name   string
	secret ed25519.PrivateKey
}

// NewKey makes one.
func NewKey(name string) (Key, error) {
	_, secret, err := ed25519.GenerateKey(nil)
	return Key{name, secret}, err
}

// Secret is what `nix copy` takes as secret-key.
func (k Key) Secret() string { return k.name + ":" + base64.StdEncoding.EncodeToString(k.secret) }

// Public is what mirrors.nix_cache_key of the configuration takes.
func (k Key) Public() string {
	return k.name + ":" + base64.StdEncoding.EncodeToString(k.secret[ed25519.PublicKeySize:])
}

// Cache is an http.Handler. It is empty until something is added.
type Cache struct {
	mu    sync.Mutex
	files map[string][]byte
	asked []string
}

// New makes an empty one.
func New() *Cache {
	return &Cache{files: map[string][]byte{"/nix-cache-info": []byte("StoreDir: /nix/store\nWantMassQuery: 1\n")}}
}

// Add takes a tar of the directory that `nix copy --to file://…` made.
func (c *Cache) Add(archive []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := tar.NewReader(bytes.NewReader(archive)); ; {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the cache: %w", err)
		}
		if head.Typeflag != tar.TypeReg {
			continue
		}
		if c.files[path.Join("/", head.Name)], err = io.ReadAll(t); err != nil {
			return fmt.Errorf("read %s of the cache: %w", head.Name, err)
		}
	}
}

// Asked is every path that was asked for.
func (c *Cache) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

func (c *Cache) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, req.URL.Path)
	body, ok := c.files[req.URL.Path]
	c.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	_, _ = w.Write(body)
}
