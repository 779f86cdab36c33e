// Package runtime carries the two programs Binnacle starts but is not: runc,
// which makes containers, and containerd's shim, which keeps them alive when
// the hub is not. `make build` compiles both from their Go modules into bin/,
// from where they are embedded, so that the release is one file.
package runtime

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/binnacle-hub/binnacle"
)

// The embedded programs.
const (
	Runc = "runc"
	Shim = "containerd-shim-runc-v2"
)

//go:embed all:bin
var embedded embed.FS

// Paths says where the programs are.
type Paths struct {
	Runc string
	Shim string
}

// Install writes the embedded programs into dir (made when missing) unless they
// are there already, and returns where they are. Returns unavailable for a build
// without them (plain `go build`): a distribution's runc is not a substitute,
// because Debian 12's and others can be escaped from (CVE-2024-21626,
// CVE-2025-31133 and later ones).
func Install(dir string) (Paths, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Paths{}, fmt.Errorf("make the directory of the runtime: %w", err)
	}
	runc, err := install(dir, Runc)
	if err != nil {
		return Paths{}, err
	}
	shim, err := install(dir, Shim)
	if err != nil {
		return Paths{}, err
	}
	return Paths{Runc: runc, Shim: shim}, nil
}

// Embedded says whether the program is part of this build.
func Embedded(name string) bool {
	_, err := fs.Stat(embedded, "bin/"+name)
	return err == nil
}

func install(dir, name string) (string, error) {
	want, err := embedded.ReadFile("bin/" + name)
	if err != nil {
		return "", &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "engine.runtime", Message: "This build of Binnacle does not carry " + name + ".",
			Hint: "Build it with `make build`, which compiles and embeds it.", Err: err,
		}
	}
	path := filepath.Join(dir, name)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
		return path, nil
	}
	// A running shim keeps its old file: write beside it and rename.
	tmp, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(want); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := tmp.Chmod(0o755); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := tmp.Close(); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}
