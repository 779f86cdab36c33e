package recipe

import (
	_ "embed"
)

// rstudioLock pins jupyter-rsession-proxy, with hashes.
//
//go:embed rstudio.txt
var rstudioLock []byte

// The build of RStudio Server that every Debian and Ubuntu with OpenSSL 3 runs,
// and the hash by which it is known.
const (
	rstudioVersion = "2026.09.0-174"
	rstudioSHA256  = "168bc577ef2f68abab1ad2ed684e830da1d244618b25b69fd20448e60716c5ba"
	rstudioPublic  = "https://download2.rstudio.org"
)

// rStudio adds RStudio Server for an R, as repo2docker's images of R have it; setup
// is what more its settings need. A hub that can't fetch it has R all the same,
// unless the link asks for RStudio.
func (r *reader) rStudio(program, setup string) {
	asked := r.opt.Interface == "rstudio"
	why, absent := "images of R have it where it can be fetched", "exit 0"
	if asked {
		why, absent = "the link asks for it", "exit 1"
	}
	r.Interfaces = append(r.Interfaces, Interface{Name: "rstudio", Path: "rstudio/", Why: why})
	r.joinJupyter("jupyter-server-proxy", "proxy.txt", proxyLock)
	const server = "/usr/lib/rstudio-server/bin/rserver"
	r.add(Step{
		Name: "RStudio Server", Stage: StageSystem, Root: true, Caches: aptCaches(),
		Lock: &Lock{Name: "Download: RStudio Server", Script: `arch=$(dpkg --print-architecture)
absent() { echo "rstudio: $1: this image has no RStudio" >&2; rm -f ` + OutDir + `/rstudio.deb; ` + absent + `; }
[ "$arch" = amd64 ] || absent "there is no build of RStudio Server for $arch"
url="${BINNACLE_RSTUDIO:-` + rstudioPublic + `}/server/jammy/$arch/rstudio-server-` + rstudioVersion + `-$arch.deb"
curl -fsSL --connect-timeout 20 -m 1200 --retry 1 -o ` + OutDir + `/rstudio.deb "$url" || absent "RStudio Server could not be fetched"
echo "${BINNACLE_RSTUDIO_SHA256:-` + rstudioSHA256 + `}  ` + OutDir + `/rstudio.deb" | sha256sum --quiet -c - || absent "what was fetched is not the RStudio Server that was wanted"
`},
		Script: `if [ -e ` + LockDir + `/rstudio.deb ]; then
  ` + aptBegin + `  cp ` + LockDir + `/rstudio.deb /tmp/rstudio.deb
  ` + aptInstall + `/tmp/rstudio.deb psmisc lsb-release
  rm /tmp/rstudio.deb
  echo "rsession-which-r=` + program + `" >> /etc/rstudio/rserver.conf
  ` + setup + `
  ` + aptEnd + `fi
`,
	}, Step{
		Name: "RStudio in Jupyter", Stage: StageEnvironment, Branch: "r", Tools: []string{"uv"},
		Inputs: []Input{{Name: "rstudio.txt", Content: rstudioLock}, compileInput()},
		Script: uvAlone + `if [ -e ` + server + ` ]; then
  uv pip install --quiet --python ` + Prefix + ` --no-deps --only-binary :all: --require-hashes --no-config -r ` + InputDir + `/rstudio.txt
  ` + finish + `fi
`,
	})
}
