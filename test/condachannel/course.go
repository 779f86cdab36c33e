package condachannel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// PipVersion is what [Course] has; any will do.
const PipVersion = "25.3"

// Subdir is conda's name of this machine's platform.
func Subdir() string {
	if runtime.GOARCH == "arm64" {
		return "linux-aarch64"
	}
	return "linux-64"
}

// Course is a conda-forge of our own with what examples/conda-course asks for. Its
// python is honest about what it is, a virtual environment of the image's Python 3.13
// in a package; pip and tabulate are the real ones, made of their wheels; tabulate got
// a script that runs when it is installed, and one that runs when the environment is
// used.
// more are packages beside these.
func Course(ctx context.Context, more ...Package) (*Channel, error) {
	packages := []Package{{
		Name: "python", Version: "3.13.0", Subdir: Subdir(),
		Files: map[string]string{"pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n"},
		Links: map[string]string{"bin/python": "/usr/bin/python3", "bin/python3": "python", "bin/python3.13": "python"},
	}}
	dir, err := os.MkdirTemp("", "wheels")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	found, err := Wheels(ctx, dir, "pip=="+PipVersion, "tabulate==0.9.0")
	if err != nil {
		return nil, err
	}
	for _, wheel := range found {
		p, err := FromWheel(wheel)
		if err != nil {
			return nil, err
		}
		if p.Name == "pip" { // as conda-forge says: it is not for a Python of another time
			p.Depends = []string{"python >=3.9"}
		}
		if p.Name == "tabulate" {
			p.Files["bin/.tabulate-post-link.sh"] = "mkdir -p \"$PREFIX/share\"\necho 1,2 | tabulate --sep , --format plain > \"$PREFIX/share/linked.txt\"\n"
			p.Files["etc/conda/activate.d/tabulate.sh"] = "export TABULATED=$(cat \"$CONDA_PREFIX/share/linked.txt\")\n"
		}
		packages = append(packages, p)
	}
	return New("conda-forge", append(packages, more...)...)
}

// Wheels fetches some for Python 3.13 from the Python package index into dir, as anybody
// does.
func Wheels(ctx context.Context, dir string, names ...string) ([]string, error) {
	if out, err := exec.CommandContext(ctx, "python3", "-m", "venv", filepath.Join(dir, "venv")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make an environment: %w: %s", err, out)
	}
	args := append([]string{"download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--python-version", "3.13", "--dest", dir}, names...)
	if out, err := exec.CommandContext(ctx, filepath.Join(dir, "venv/bin/pip"), args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fetch wheels: %w: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err == nil && len(found) != len(names) {
		err = errors.New("pip fetched something else")
	}
	return found, err
}
