package recipe

import (
	"strings"
	"time"
)

// What R needs of Debian beside itself: the headers that most packages with C
// code want when they are built from source.
const rHeaders = "libcurl4-openssl-dev libssl-dev libxml2-dev"

// rDebian installs Debian's R with its kernel for Jupyter, and what scripts of
// repo2docker's images count on for installing packages of forges.
const rDebian = "r-base-core r-base-dev r-recommended r-cran-irkernel r-cran-remotes " + rHeaders

// rPublic is where Posit's builds of R are.
const rPublic = "https://cdn.posit.co/r"

// cranPublic has packages of CRAN as of any day, compiled for each release of
// the larger distributions.
const cranPublic = "https://packagemanager.posit.co/cran/__linux__/{codename}/{date}"

const aptBegin = `export DEBIAN_FRONTEND=noninteractive
apt-get update -q
installed() { dpkg-query -W -f='${Package}=${Version}\n' | sort; }
before=$(installed)
`

const aptInstall = "apt-get install -q --yes --no-install-recommends "

// aptEnd notes the hashes of what was installed, as long as the mirror's lists are
// there. Packages that came as files are not in them.
const aptEnd = `installed | comm -13 <(echo "$before") - | xargs -r apt-cache show 2>/dev/null |
  awk '/^Package: / { name = $2 } /^Version: / { version = $2 } /^SHA256: / { print $2, name "=" version }' >> ` + SumStore + `/` + AptSums + ` || true
rm -f /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache
`

func aptCaches() []Cache {
	return []Cache{{ID: "apt-archives", Path: "/var/cache/apt", Locked: true}, {ID: "apt-lists", Path: "/var/lib/apt/lists", Locked: true}}
}

// rSystem installs R itself, before the author's own Debian packages, so that
// images with the same R share it.
func (r *reader) rSystem(p rPlan) {
	s := Step{
		Name: "R " + p.choice.Value, Stage: StageSystem, Root: true, Caches: aptCaches(),
		Inputs: []Input{{Name: "profile.R", Content: rProfile}},
	}
	if p.asked.File != "" {
		s.From = []Location{p.asked}
	} else {
		s.From = []Location{{File: p.chosen}}
	}
	profile := "cat " + InputDir + "/profile.R >> " + p.home() + "/etc/Rprofile.site\n"
	if p.posit == "" {
		install := rDebian
		if len(p.shiny) > 0 {
			install += " r-cran-shiny"
		}
		s.Packages = implied(s.From[0], strings.Fields(install))
		s.Script = aptBegin + aptInstall + install + `
have=$(dpkg-query -W -f='${Version}' r-base-core)
case "$have" in
  ` + p.choice.Value + `.*) ;;
  *) echo "R: this base image has R $have, not ` + p.choice.Value + `" >&2; exit 1 ;;
esac
` + profile + aptEnd
		r.add(s)
		if p.devtools {
			r.add(debian("devtools", s.From[0], "r-cran-devtools"))
		}
		return
	}
	s.Script = aptBegin + `. /etc/os-release
case "$ID" in
  debian) release=debian-$VERSION_ID ;;
  *) release=$ID-$(echo "$VERSION_ID" | tr -d .) ;;
esac
file=r-` + p.posit + `_1_$(dpkg --print-architecture).deb
curl -fsSL --retry 3 -o "/tmp/$file" "${BINNACLE_R:-` + rPublic + `}/$release/pkgs/$file" || { echo "R: there is no build of R ` + p.posit + ` for $release on $(uname -m)" >&2; exit 1; }
apt-get install -q --yes --no-install-recommends "/tmp/$file" gfortran libblas-dev liblapack-dev ` + rHeaders + `
rm "/tmp/$file"
` + profile + aptEnd
	r.add(s)
	if p.devtools { // which is compiled for libraries that it does not bring
		r.add(debian("Libraries of devtools", s.From[0], strings.Fields("libfontconfig-dev libfreetype-dev libfribidi-dev libgit2-dev libharfbuzz-dev libjpeg-dev libpng-dev libtiff-dev libwebp-dev")...))
	}
}

// kernelDate is the day whose IRkernel a version of R gets when it is not
// Debian's: when the next minor version came, so that there are binaries, and
// the same for every commit. What is older than a compiler of today likes is
// taken from a later day; empty is the newest.
func kernelDate(version string) string {
	const earliest = "2021-05-18"
	all := rReleases()
	for i, known := range all {
		if known.minor == minorOf(version) && i+1 < len(all) {
			return max(all[i+1].since, earliest)
		}
	}
	return ""
}

// rKernel makes R a kernel of the image's Jupyter, and tells R its day.
func (r *reader) rKernel(p rPlan) {
	if p.posit != "" {
		s := p.step("R: IRkernel", StageEnvironment, "lock "+LockDir)
		date, wanted := kernelDate(p.posit), []cranLoose{{Name: "IRkernel"}, {Name: "remotes"}}
		if p.devtools {
			wanted = append(wanted, cranLoose{Name: "devtools"})
		}
		if len(p.shiny) > 0 {
			wanted = append(wanted, cranLoose{Name: "shiny"})
		}
		from := p.asked
		if from.File == "" {
			from.File = p.chosen
		}
		for _, w := range wanted {
			s.Packages = append(s.Packages, Package{Manager: "cran", Name: w.Name, Spec: w.Name, From: from})
		}
		s.Lock = r.cranLock(p, "Versions: IRkernel", cranWanted{Date: date, Resolve: true, Packages: wanted})
		r.add(s)
	}
	script := `kernel=` + Prefix + `/share/jupyter/kernels/ir
mkdir -p "$kernel"
cat > "$kernel/kernel.json" <<'KERNEL'
{"argv": ["` + p.program("R") + `", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"], "display_name": "R", "language": "R"}
KERNEL
`
	r.add(Step{Name: "R in Jupyter", Stage: StageEnvironment, Branch: "r", Script: script})
}

// rDay tells R in builds and sessions whose CRAN to use, after the packages of
// locks, which do not change with it. Not every day has a snapshot.
func (r *reader) rDay(p rPlan) {
	if p.date.IsZero() {
		return
	}
	day := p.date.Format(time.DateOnly)
	r.add(Step{Name: "R: CRAN as of " + day, Stage: StageEnvironment, Branch: "r", From: []Location{p.asked}, Script: `day=` + day + `
url=${BINNACLE_CRAN:-}
[ -n "$url" ] || url='` + cranPublic + `'
. /etc/os-release
for back in 0 1 2 3 4 5 6; do
  at=$(date -d "$day - $back days" +%F)
  try=${url//'{date}'/$at}
  try=${try//'{codename}'/$VERSION_CODENAME}
  if curl -fsSL -m 60 -o /dev/null "$try/src/contrib/PACKAGES.gz"; then day=$at; break; elif [ $? != 22 ]; then break; fi
done
echo "$day" > ` + LockStore + `/r-snapshot.txt
[ ! -e ` + LockStore + `/renv.lock ] || sed -i "s#/cran/latest\"#/cran/$day\"#" ` + LockStore + "/renv.lock\n"})
}
