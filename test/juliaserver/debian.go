package juliaserver

import (
	"context"

	"github.com/binnacle-hub/binnacle/test/olddebian"
)

// DebianVersion is the Julia that Debian had last, in bullseye.
const DebianVersion = "1.5.3"

// debianPackages are Julia and those of its libraries that a newer Debian does
// not have in these versions.
const debianPackages = "julia julia-common libjulia1 libllvm9 libffi7 libgit2-1.1 libmbedcrypto3 libmbedtls12 libmbedx509-0 libopenlibm3 libdsfmt-19937-1 " +
	"libutf8proc2 libssh2-1 libhttp-parser2.9 libmpfr6 libgmp10 libunwind8 libpcre2-8-0 libgfortran5 libquadmath0 libz3-4 libpcre3 libgcrypt20 libgpg-error0"

// Debian makes a real Julia of Debian's packages, laid out as Julia's own
// downloads are, and returns the path of the tarball; it is made once. Returns
// [olddebian.ErrNone] when the packages can't be had.
func Debian(ctx context.Context) (string, error) {
	return olddebian.Archive(ctx, "julia-"+DebianVersion+"-3", "bullseye", debianPackages, `
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
  printf '#!/bin/sh\nunset LD_LIBRARY_PATH\nexec /usr/bin/%s "$@"\n' $program > bin/$program
  chmod 755 bin/$program
done
rm -rf share/doc share/man share/lintian lib/*/julia/libopenblas64_p*
tar -c --sort=name --owner=0 --group=0 --transform 's,^\.,julia-`+DebianVersion+`,S' . | gzip -1 > "$OUT"
`)
}
