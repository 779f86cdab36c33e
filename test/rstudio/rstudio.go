// Package rstudio makes a stand-in for RStudio Server's package, whose home no test
// can reach: a real package of Debian, installed by apt and started by
// jupyter-rsession-proxy as the real one is, whose rserver takes the same options and
// answers with a page that the R of its settings wrote.
package rstudio

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const control = `Package: rstudio-server
Version: 2026.09.0+174
Architecture: amd64
Maintainer: Tests <tests@example.org>
Depends: psmisc, python3
Description: stand-in for RStudio Server
`

// server answers on the socket that it is given, and only below the path that it is
// told it is under.
const server = `#!/usr/bin/python3
import http.server, os, socketserver, subprocess, sys

known = ["auth-none", "www-frame-origin", "www-verify-user-agent", "secure-cookie-key-file", "server-user",
         "www-root-path", "server-data-dir", "database-config-file", "www-socket", "rsession-which-r"]
if "--help" in sys.argv:
    print("\n".join("--" + name for name in known))
    sys.exit()
options = dict(a[2:].split("=", 1) for a in sys.argv[1:])
strange = set(options) - set(known)
if strange:
    sys.exit("unrecognised options: " + ", ".join(strange))
settings = dict(line.split("=", 1) for line in open("/etc/rstudio/rserver.conf").read().split())
r = options.get("rsession-which-r", settings["rsession-which-r"])


class Page(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "socket"

    def do_GET(self):
        said = subprocess.run([r, "--slave", "--vanilla", "-e", "cat(R.version.string)"], capture_output=True, text=True)
        body = f"stand-in of RStudio for {options['server-user']} at {options['www-root-path']}: {said.stdout}{said.stderr}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


socketserver.ThreadingUnixStreamServer(options["www-socket"], Page).serve_forever()
`

// Package returns the package, and its SHA-256 in hexadecimal digits.
func Package(ctx context.Context) (deb []byte, sum string, err error) {
	dir, err := os.MkdirTemp("", "rstudio")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"DEBIAN/control":                     {control, 0o644},
		"DEBIAN/conffiles":                   {"/etc/rstudio/rserver.conf\n", 0o644},
		"etc/rstudio/rserver.conf":           {"", 0o644},
		"usr/lib/rstudio-server/bin/rserver": {server, 0o755},
	} {
		path := filepath.Join(dir, "root", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, "", err
		}
		if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
			return nil, "", err
		}
	}
	file := filepath.Join(dir, "rstudio.deb")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "--build", "--root-owner-group", filepath.Join(dir, "root"), file).CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("make the package: %w: %s", err, out)
	}
	if deb, err = os.ReadFile(file); err != nil {
		return nil, "", err
	}
	of := sha256.Sum256(deb)
	return deb, hex.EncodeToString(of[:]), nil
}
