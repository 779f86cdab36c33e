package condachannel

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/binnacle-hub/binnacle/test/olddebian"
)

// Python2 are packages of a real Python 2.7 for amd64, made of Debian's and of the
// Python package index: python, pip with setuptools, and ipykernel with all that it
// needs. Returns [olddebian.ErrNone] when they can't be had.
func Python2(ctx context.Context) ([]Package, error) {
	at, err := olddebian.Archive(ctx, "python-2.7-1", "bullseye",
		"python2.7 python2.7-minimal libpython2.7-minimal libpython2.7-stdlib libffi7 libexpat1 libssl1.1 patchelf", `
mkdir -p python/bin python/lib pip ipykernel wheels
cp usr/bin/python2.7 python/bin/
ln -s python2.7 python/bin/python
ln -s python2.7 python/bin/python2
cp -r usr/lib/python2.7 python/lib/
cp $(find usr/lib lib -name 'libffi.so.7' -o -name 'libexpat.so.1' -o -name 'libssl.so.1.1' -o -name 'libcrypto.so.1.1') python/lib/
for f in python/lib/python2.7/lib-dynload/*.so; do usr/bin/patchelf --set-rpath '$ORIGIN/../..' $f; done
cd python/lib/python2.7
rm -rf sitecustomize.py lib2to3 idlelib
# conda's Python has its packages where everybody's is, and Debian's has not.
sed -i 's#local/lib/python#lib/python#; s#local/bin#bin#; s#dist-packages#site-packages#g' site.py sysconfig.py distutils/sysconfig.py distutils/command/install.py
cd ../../..
python3 -m venv venv
venv/bin/pip download --quiet --no-deps --only-binary :all: --dest wheels pip==20.3.4
export PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=off PIP_NO_WARN_SCRIPT_LOCATION=1 PIP_NO_COMPILE=1
python/bin/python wheels/pip-20.3.4-py2.py3-none-any.whl/pip install --target pip pip==20.3.4 setuptools==44.1.1 wheel==0.37.1
PYTHONPATH=$PWD/pip python/bin/python -m pip install --target ipykernel ipykernel==4.10.1 'python-dateutil<3'
rm -rf pip/bin ipykernel/bin
tar -c --sort=name --owner=0 --group=0 python pip ipykernel | gzip -1 > "$OUT"
`)
	if err != nil {
		return nil, err
	}
	packages := map[string]*Package{
		"python": {Name: "python", Version: "2.7.18"}, "pip": {Name: "pip", Version: "20.3.4", Depends: []string{"python 2.7.*"}},
		"ipykernel": {Name: "ipykernel", Version: "4.10.1", Depends: []string{"python 2.7.*"}},
	}
	for _, p := range packages {
		p.Subdir, p.Files, p.Links = "linux-64", map[string]string{}, map[string]string{}
	}
	if err := unpack(at, packages); err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	return []Package{*packages["python"], *packages["pip"], *packages["ipykernel"]}, nil
}

// unpack gives each package the files below its name.
func unpack(archive string, packages map[string]*Package) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, file, _ := strings.Cut(h.Name, "/")
		p := packages[name]
		if p == nil {
			return fmt.Errorf("%s: %w", h.Name, fs.ErrInvalid)
		}
		if name != "python" {
			file = "lib/python2.7/site-packages/" + file
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			p.Links[file] = h.Linkname
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			p.Files[file] = string(b)
		}
	}
}
