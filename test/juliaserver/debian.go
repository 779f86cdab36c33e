package juliaserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// DebianVersion is the Julia that Debian had last, in bullseye.
const DebianVersion = "1.5.3"

// debianPackages are Julia and those of its libraries that a newer Debian does
// not have in these versions.
const debianPackages = "julia julia-common libjulia1 libllvm9 libffi7 libgit2-1.1 libmbedcrypto3 libmbedtls12 libmbedx509-0 libopenlibm3 libdsfmt-19937-1 " +
	"libutf8proc2 libssh2-1 libhttp-parser2.9 libmpfr6 libgmp10 libunwind8 libpcre2-8-0 libgfortran5 libquadmath0 libz3-4 libpcre3 libgcrypt20 libgpg-error0"

// ErrNoDebian says that this machine can't get bullseye's packages.
var ErrNoDebian = errors.New("bullseye's packages of Julia can't be downloaded")

// Debian makes a real Julia of Debian's packages, laid out as Julia's own
// downloads are, and returns the path of the tarball; it is made once. Returns
// ErrNoDebian when the packages can't be had.
func Debian(ctx context.Context) (string, error) {
	out := filepath.Join(os.TempDir(), "binnacle-test-julia-"+DebianVersion+"-2.tar.gz")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	dir, err := os.MkdirTemp("", "bj")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	site, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoDebian, err)
	}
	mirror := ""
	for line := range strings.Lines(string(site)) {
		if line = strings.TrimSpace(line); mirror == "" && strings.HasSuffix(line, "/debian") {
			mirror = line
		}
	}
	script := fmt.Sprintf(`set -euo pipefail
cd %[1]q
mkdir -p lists/partial archives/partial debs root
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %[2]s bullseye main" > bullseye.list
options=(-q -o Dir::Etc::sourcelist=$PWD/bullseye.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
cd debs
apt-get "${options[@]}" download %[3]s
for f in *.deb; do dpkg-deb -x "$f" ../root; done
cd ../root
cp -a lib/*-linux-gnu/. usr/lib/*-linux-gnu/ # from before both directories were one
cd usr
mv bin/julia bin/julia.real
cat > bin/julia <<'JULIA'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/../lib/$(uname -m)-linux-gnu" exec "$here/julia.real" "$@"
JULIA
chmod 755 bin/julia
for program in curl git; do # these have libraries of the image, not of Julia
  printf '#!/bin/sh\nunset LD_LIBRARY_PATH\nexec /usr/bin/%%s "$@"\n' $program > bin/$program
  chmod 755 bin/$program
done
rm -rf share/doc share/man share/lintian lib/*/julia/libopenblas64_p*
tar -c --sort=name --owner=0 --group=0 --transform 's,^\.,julia-%[4]s,S' . | gzip -1 > %[5]q.part
mv %[5]q.part %[5]q
`, dir, mirror, debianPackages, DebianVersion, out)
	if text, err := exec.CommandContext(ctx, "bash", "-c", script).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w\n%s", ErrNoDebian, err, text)
	}
	return out, nil
}
