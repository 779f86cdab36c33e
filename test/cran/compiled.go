package cran

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Compiled compiles packages with this machine's R, in the order given, so that one
// finds those before it; a server has them beside their sources. COMPILED_HERE is
// set meanwhile, for configure scripts that fail elsewhere.
func Compiled(ctx context.Context, packages ...Package) ([]Package, error) {
	dir, err := os.MkdirTemp("", "cran")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	library := filepath.Join(dir, "library")
	if err := os.Mkdir(library, 0o755); err != nil {
		return nil, err
	}
	for i, p := range packages {
		source, err := p.Tarball()
		if err != nil {
			return nil, err
		}
		name := p.Name + "_" + p.Version
		if err := os.WriteFile(filepath.Join(dir, name+".tar.gz"), source, 0o600); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, "R", "CMD", "INSTALL", "--build", "--library="+library, name+".tar.gz")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "R_LIBS="+library, "COMPILED_HERE=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile %s: %w\n%s", p.Name, err, out)
		}
		made, err := filepath.Glob(filepath.Join(dir, name+"_R_*.tar.gz"))
		if err != nil {
			return nil, err
		}
		if len(made) != 1 {
			return nil, fmt.Errorf("compile %s: it made %q", p.Name, made)
		}
		if packages[i].built, err = os.ReadFile(made[0]); err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// compiledFor says whether Posit's package manager would send what is compiled: to
// an R that says which one it is and what it runs on, below a path of Linux.
func compiledFor(req *http.Request) bool {
	return strings.HasPrefix(req.URL.Path, linux+"/") && regexp.MustCompile(`\bR \(\d+\.\d+\.\d+ (x86_64|aarch64)-\S+ (x86_64|aarch64) linux-gnu\)`).MatchString(req.UserAgent())
}
