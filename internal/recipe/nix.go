package recipe

import (
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"time"
)

// nixChannels is where the releases of nixpkgs are, a directory for each; the
// configuration has mirrors.nixpkgs for another place.
const nixChannels = "https://channels.nixos.org"

const (
	nixPackages = "/nix/var/nixpkgs"              // what <nixpkgs> means
	nixShell    = "/nix/var/shell"                // what the expression evaluated to
	nixBash     = "/usr/local/lib/nix-shell/bash" // alone there: Nix puts its directory before all programs of the shell
	nixCerts    = "/etc/ssl/certs/ca-certificates.crt"
	nixWrapper  = "/usr/local/bin/nix-shell-wrapper" // repo2docker's name
)

// nixWrapperProgram runs a session in the shell that the expression describes.
//
//go:embed nixwrapper.sh
var nixWrapperProgram []byte

// nixKind is default.nix, entered with nix-shell. As in repo2docker nothing of
// Python counts beside it. Unlike there our Jupyter is in the image, for
// expressions that bring none.
func nixKind() kind {
	return kind{name: "nix", has: func(r *reader) bool { return r.has("default.nix") }, read: func(r *reader) error {
		return readNix(r, "default.nix")
	}}
}

// flakeKind is flake.nix with its lock, entered with nix develop. It comes after
// all other kinds, because many repositories have one for their developers.
func flakeKind() kind {
	return kind{name: "nix", has: func(r *reader) bool { return r.has("flake.nix") }, read: readFlake}
}

func readFlake(r *reader) error {
	file := r.path("flake.nix")
	text, _, err := r.file("flake.nix")
	if err != nil {
		return err
	}
	if !r.has("flake.lock") && regexp.MustCompile(`(?m)^\s*inputs\b`).MatchString(nixCode(text)) {
		return wrong(file, r.lineOf(file, "inputs"), "flake.nix names inputs, and there is no flake.lock that says which versions of them.", "Run `nix flake lock` and commit flake.lock.")
	}
	return readNix(r, "flake.nix")
}

func readNix(r *reader, name string) error {
	file := r.path(name)
	text, _, err := r.file(name)
	if err != nil {
		return err
	}
	r.use(file, "Nix packages")
	for _, other := range []string{"requirements.txt", "environment.yml", "environment.yaml", "Pipfile", "setup.py", "pyproject.toml"} {
		if r.has(other) {
			r.pass(r.path(other), name+" decides")
			r.note(r.path(other), 0, other+" is passed over, because there is a "+name+".", "Let "+name+" bring these packages.")
		}
	}
	r.Python = Choice{"", "our Jupyter's, when " + file + " brings none"}
	if err := r.pythonServer(); err != nil {
		return err
	}
	r.nixEnvironment()
	install := nixInstall()
	install.Packages[0].From = Location{File: file}
	r.add(install)
	flake := name == "flake.nix"
	if uses, err := r.usesNixpkgs(); err != nil {
		return err
	} else if uses && !flake {
		r.add(r.nixpkgs(file))
	}
	return r.nixBuild(name, text, flake)
}

// nixEnvironment sets repo2docker's variables. Bash is the base's, because Nix
// would evaluate nixpkgs for one at every start.
func (r *reader) nixEnvironment() {
	r.LateEnv = map[string]string{
		"NIX_PATH": "nixpkgs=" + nixPackages, "NIX_SSL_CERT_FILE": nixCerts, "GIT_SSL_CAINFO": nixCerts,
		"NIX_BUILD_SHELL": nixBash, "NIX_CACHE_HOME": "/nix/var/cache", "R2D_ENTRYPOINT": nixWrapper,
	}
	if r.has("start") {
		r.LateEnv["R2D_START"] = path.Join(RepoDir, r.path("start"))
	}
}

// nixInstall is Debian's Nix for one user: who builds is who owns the store, and
// steps are in a sandbox already.
func nixInstall() Step {
	return Step{
		Name: "Nix", Stage: StageSystem, Root: true, Inputs: []Input{{Name: "nixwrapper.sh", Content: nixWrapperProgram}},
		Packages: []Package{{Manager: "apt", Name: "nix-bin", Spec: "nix-bin"}},
		Caches:   aptCaches(),
		Script: aptBegin + aptInstall + `nix-bin
mkdir -p /nix/store /nix/var/nix /nix/var/cache /etc/nix
chown -R 1000:1000 /nix
cat > /etc/nix/nix.conf <<'CONF'
build-users-group =
sandbox = false
experimental-features = nix-command flakes
flake-registry =
tarball-ttl = 4294967295
connect-timeout = 15
download-attempts = 3
fallback = true
CONF
mkdir -p /usr/local/lib/nix-shell
ln -s /bin/bash ` + nixBash + `
install -m 755 ` + InputDir + `/nixwrapper.sh ` + nixWrapper + `
` + aptEnd,
	}
}

// nixpkgs is the set of packages that <nixpkgs> means: the NixOS release of the
// commit's day, which stays as it is once the next one is half a year old. Without
// a date it is the newest, as in repo2docker. The lock holds the archive itself,
// so the step is keyed by what is in it, wherever it came from.
func (r *reader) nixpkgs(file string) Step {
	channel := nixChannel(r.opt.Date)
	r.Versions = map[string]Choice{"nixpkgs": {channel, "the newest; " + file + " may pin its own"}}
	if !r.opt.Date.IsZero() {
		r.Versions["nixpkgs"] = Choice{channel, "the release when the commit was made; " + file + " may pin its own"}
	}
	return Step{
		Name: "nixpkgs", Stage: StageEnvironment, From: []Location{{File: file}},
		Lock: &Lock{
			Name: "Version of nixpkgs",
			Script: `from="${BINNACLE_NIXPKGS:-` + nixChannels + `}"
case "$from" in
*.tar.*) ;;
*) from="${from%/}/` + channel + `/nixexprs.tar.xz" ;;
esac
curl --fail --silent --show-error --location --retry 2 --connect-timeout 30 --output ` + OutDir + `/nixpkgs.tar "$from"
`,
		},
		Script: `mkdir ` + nixPackages + `
tar -xf ` + LockDir + `/nixpkgs.tar -C ` + nixPackages + ` --strip-components=1 --no-same-owner
{ echo "nixpkgs $(cat ` + nixPackages + `/.git-revision 2>/dev/null || cat ` + nixPackages + `/.version)"; sha256sum < ` + LockDir + `/nixpkgs.tar; } > ` + LockStore + `/nixpkgs.txt
`,
	}
}

// nixChannel is the release of a day. They come at the end of May and November.
func nixChannel(date time.Time) string {
	if date.IsZero() {
		return "nixpkgs-unstable"
	}
	const may, november = 5, 11
	year, month := date.UTC().Year(), november
	switch m := date.UTC().Month(); {
	case m == time.December:
	case m >= time.June:
		month = may
	default:
		year--
	}
	return fmt.Sprintf("nixos-%02d.%02d", year%100, month)
}

// nixBuild builds what the expression needs. When it names no file, it is all
// that counts, and a commit that does not touch it builds nothing.
func (r *reader) nixBuild(name, text string, flake bool) error {
	file := r.path(name)
	s := Step{Name: "Nix packages: " + file, From: []Location{{File: file}}, Stage: StageContent}
	dir := path.Join(RepoDir, r.Dir)
	if !nixNamesFiles(text) {
		s.Stage, dir = StageEnvironment, InputDir+"/nix"
		s.Inputs = []Input{{Name: "nix/" + name, Content: []byte(text)}}
		if lock, ok, err := r.file("flake.lock"); err != nil {
			return err
		} else if ok && flake {
			s.Inputs = append(s.Inputs, Input{Name: "nix/flake.lock", Content: []byte(lock)})
		}
	} else {
		r.note(file, 0, name+" names files of the repository, so it is evaluated anew for every commit.", "")
	}
	if flake {
		if r.has("flake.lock") {
			r.use(r.path("flake.lock"), "exact versions of the flake's inputs")
		}
		s.Script = `nix develop --no-update-lock-file --profile ` + nixShell + ` ` + quote("path:"+dir) + ` --command true
`
	} else {
		s.Script = `export IN_NIX_SHELL=impure
nix-instantiate --arg inNixShell true --add-root ` + nixShell + ` ` + quote(dir+"/"+name) + `
nix-shell ` + nixShell + ` --run true
`
	}
	s.Script = `[ ! -r "${SSL_CERT_FILE:-}" ] || export NIX_SSL_CERT_FILE="$SSL_CERT_FILE" GIT_SSL_CAINFO="$SSL_CERT_FILE"
` + s.Script + `nix path-info --all | sort > ` + LockStore + `/` + nixPaths + `
xargs -r nix-store --query --graph < ` + LockStore + `/` + nixPaths + ` | sed -nE 's/^"([^"]+)" -> "([^"]+)".*/\2 \1/p' | sort -u > ` + LockStore + `/` + nixGraph + `
` + tidy
	r.add(s)
	return nil
}
