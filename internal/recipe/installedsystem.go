package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	// condaGraph holds a line for each need of a package of conda's: who, and what.
	condaGraph = "conda-graph.txt"
	// condaPackages is what conda says is in the environment, as image lists it.
	condaPackages = "conda-packages.txt"
	aptFile       = "apt.txt"
)

// installedApt reads what Debian says is installed, as image lists it:
// name=version, the hash as a comment, and below it who needs it.
func installedApt(files map[string]string) []Installed {
	v := &inventory{manager: "apt"}
	pin := regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*)=(\S+)(?:\s+#\s*(sha256:[0-9a-f]{64}))?\s*$`)
	last := ""
	for line := range strings.Lines(files[aptFile]) {
		if by, ok := strings.CutPrefix(strings.TrimSpace(line), "# via "); ok && last != "" {
			v.need(by, last)
			continue
		}
		m := pin.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		last = m[1]
		p := Installed{Name: m[1], Version: m[2], ID: m[1]}
		if m[3] != "" {
			p.Sums = []string{m[3]}
		}
		v.add(p)
	}
	return v.done()
}

// installedConda reads the explicit list that was installed, else what conda
// says is there.
func installedConda(files map[string]string) []Installed {
	v := &inventory{manager: "conda"}
	for line := range strings.Lines(files[condaList]) {
		address, sum, _ := strings.Cut(strings.TrimSpace(line), "#")
		if p, ok := condaAddress(address); ok {
			sum = strings.TrimPrefix(strings.TrimPrefix(sum, "sha256:"), "md5:")
			switch len(sum) {
			case sha256Digits:
				p.Sums = []string{"sha256:" + sum}
			case md5Digits:
				p.Sums = []string{"md5:" + sum}
			}
			v.add(p)
		}
	}
	if len(v.list) == 0 {
		for line := range strings.Lines(files[condaPackages]) {
			words := strings.Split(strings.TrimSpace(line), "=")
			const fields = 3 // name, version, build
			if len(words) == fields {
				v.add(Installed{Name: words[0], Version: words[1], ID: words[0], More: map[string]string{"build": words[2]}})
			}
		}
	}
	for _, e := range edges(files[condaGraph]) {
		v.need(e[0], e[1])
	}
	return v.done()
}

// condaAddress takes an address apart: …/channel/subdir/name-version-build.conda.
func condaAddress(address string) (Installed, bool) {
	m := regexp.MustCompile(`^[a-z]+://(\S+)/([^/\s]+)/([^/\s]+)-([^-/\s]+)-([^-/\s]+)\.(conda|tar\.bz2)$`).FindStringSubmatch(address)
	if m == nil {
		return Installed{}, false
	}
	return Installed{
		Name: m[3], Version: m[4], ID: m[3],
		More: map[string]string{"build": m[5], "channel": path.Base(m[1]), "subdir": m[2], "type": m[6]},
	}, true
}

const (
	// nixPaths are the paths of Nix's store, nixGraph who refers to whom, without
	// the folder that all are in.
	nixPaths = "nix.txt"
	nixGraph = "nix-graph.txt"
)

// installedNix reads paths of the store that have a version, which is where the
// first dash stands that no letter follows, as Nix has it. Other paths are
// sources, patches and scripts.
func installedNix(files map[string]string) []Installed {
	v := &inventory{manager: "nix"}
	store := regexp.MustCompile(`^/nix/store/([0-9a-z]{32})-(.+?)-([^a-zA-Z].*?)(?:-(bin|dev|lib|man|doc|info|out|debug|static))?$`)
	noPackage := regexp.MustCompile(`\.(drv|patch|diff|tar|tar\.[a-z0-9]+|tgz|zip|sh|py|el|c|h|json|xml|gem|whl|crate|lock)$`)
	for line := range strings.Lines(files[nixPaths]) {
		at := strings.TrimSpace(line)
		m := store.FindStringSubmatch(at)
		if m == nil || noPackage.MatchString(at) {
			continue
		}
		p := Installed{Name: m[2], Version: m[3], ID: at, More: map[string]string{"outputhash": m[1]}}
		if m[4] != "" {
			p.More["output"] = m[4]
		}
		v.add(p)
	}
	v.nixNeeds(edges(files[nixGraph]))
	return v.done()
}

// nixNeeds takes what refers to what. Between two packages there may be paths that are
// none, as wrappers and lists are.
func (v *inventory) nixNeeds(graph [][2]string) {
	const store = "/nix/store/"
	by := map[string][]string{}
	for _, e := range graph {
		by[store+e[1]] = append(by[store+e[1]], store+e[0])
	}
	for _, p := range v.list {
		seen := map[string]bool{p.ID: true}
		for queue := slices.Clone(by[p.ID]); len(queue) > 0; queue = queue[1:] {
			at := queue[0]
			switch {
			case seen[at]:
			case v.has(at):
				v.need(at, p.ID)
			default:
				queue = append(queue, by[at]...)
			}
			seen[at] = true
		}
	}
}
