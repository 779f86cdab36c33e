// Package olddebian brings programs of earlier releases of Debian to tests, from the
// mirror that this machine uses: versions that the image's own Debian does not have.
package olddebian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNone says that this machine can't get the packages.
var ErrNone = errors.New("the packages of that release of Debian can't be downloaded")

// Mirror is the address that this machine gets Debian's packages from; [ErrNone] when
// its own are not Debian's.
func Mirror(ctx context.Context) (string, error) {
	site, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNone, err)
	}
	for line := range strings.Lines(string(site)) {
		if line = strings.TrimSpace(line); strings.HasSuffix(line, "/debian") {
			return line, nil
		}
	}
	return "", ErrNone
}

// Archive unpacks packages of a release into a directory, runs script there, which
// makes of them what is wanted, and keeps that as the gzipped tarball $OUT: it is
// made once, and name, which is its file's, has to change with the script. Returns
// the tarball's path, and [ErrNone] when the packages can't be had.
func Archive(ctx context.Context, name, release, packages, script string) (string, error) {
	out := filepath.Join(os.TempDir(), "binnacle-test-"+name+".tar.gz")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	dir, err := os.MkdirTemp("", "bd")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	mirror, err := Mirror(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", `set -euo pipefail
mkdir -p lists/partial archives/partial debs root
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $RELEASE main" > old.list
options=(-q -o Dir::Etc::sourcelist=$PWD/old.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
cd debs
apt-get "${options[@]}" download $PACKAGES
for f in *.deb; do dpkg-deb -x "$f" ../root; done
cd ../root
`+script+`
mv "$OUT" "$KEEP"
`)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MIRROR="+mirror, "RELEASE="+release, "PACKAGES="+packages, "OUT="+out+".part", "KEEP="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w\n%s", ErrNone, err, text)
	}
	return out, nil
}
