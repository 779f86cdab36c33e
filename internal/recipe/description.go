package recipe

import (
	"regexp"
	"slices"
	"strings"
)

// description is what of R's DESCRIPTION counts.
type description struct {
	name, version string
	packages      []Package
	loose         []cranLoose
	r             []rBound
	remotes       []cranLocked
	extra         []string
}

// rBound is a condition on R's own version.
type rBound struct {
	op, version string
	line        int
}

// isPackage says whether there is something to install beside dependencies.
func (d description) isPackage() bool { return d.name != "" && d.version != "" }

// wanted is what cran.py is to find for it.
func (d description) wanted() cranWanted {
	return cranWanted{Resolve: true, Packages: d.loose, Locked: d.remotes, Extra: d.extra}
}

// readDescription reads the root's.
func (r *reader) readDescription() (*description, error) {
	text, _, err := r.text("DESCRIPTION")
	if err != nil {
		return nil, err
	}
	d, err := parseDescription("DESCRIPTION", text)
	if err != nil {
		return nil, err
	}
	if d.isPackage() {
		r.use("DESCRIPTION", "the repository is a package of R")
	} else {
		r.use("DESCRIPTION", "packages of R")
		r.note("DESCRIPTION", 0, "The repository itself is not installed, because DESCRIPTION does not have both Package and Version.", "Add them if it is a package.")
	}
	return d, nil
}

// baseRPackages come with R.
func baseRPackages() []string {
	return strings.Fields("base compiler datasets graphics grDevices grid methods parallel splines stats stats4 tcltk tools utils")
}

// parseDescription takes what a package needs to be installed: Depends, Imports
// and LinkingTo, as R does; Suggests is for its developers.
func parseDescription(file, text string) (*description, error) {
	fields, err := parseDCF(file, text)
	if err != nil {
		return nil, err
	}
	d := &description{}
	for _, f := range fields {
		switch f.name {
		case "Package":
			if !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]*$`).MatchString(f.text()) {
				return nil, wrong(file, f.line, "This is not a name of a package of R: "+short(f.text())+".", "Use letters, digits and dots, beginning with a letter.")
			}
			d.name = f.text()
		case "Version":
			d.version = f.text()
		case "Depends", "Imports", "LinkingTo":
			for _, it := range f.items() {
				if err := d.dependency(file, it); err != nil {
					return nil, err
				}
			}
		case "Remotes":
			for _, it := range f.items() {
				if err := d.remote(file, it); err != nil {
					return nil, err
				}
			}
		case "Additional_repositories":
			for _, it := range f.items() {
				if !regexp.MustCompile(`^https?://[^\s"'@{}]+$`).MatchString(it.text) {
					return nil, wrong(file, it.line, "This is not an address of a repository: "+short(it.text)+".", "Write an https:// address without a password.")
				}
				d.extra = append(d.extra, strings.TrimSuffix(it.text, "/"))
			}
		}
	}
	slices.SortFunc(d.loose, func(a, b cranLoose) int {
		return strings.Compare(a.Name+" "+a.Op+a.Version, b.Name+" "+b.Op+b.Version)
	})
	d.loose = slices.Compact(d.loose)
	return d, nil
}

func (d *description) dependency(file string, it item) error {
	m := regexp.MustCompile(`^([A-Za-z][A-Za-z0-9.]*)\s*(?:\(\s*(>=|>|==|<=|<|!=)\s*([0-9]+(?:[.-][0-9]+)*)\s*\))?$`).FindStringSubmatch(it.text)
	if m == nil {
		return wrong(file, it.line, "This is not a dependency of R: "+short(it.text)+".", "Write a name, or a name and a version like dplyr (>= 1.1.0), with a comma after it.")
	}
	name, op, version := m[1], m[2], m[3]
	if name == "R" {
		if op != "" {
			d.r = append(d.r, rBound{op, version, it.line})
		}
		return nil
	}
	if slices.Contains(baseRPackages(), name) {
		return nil
	}
	d.packages = append(d.packages, Package{Manager: "cran", Name: name, Spec: it.text, From: Location{file, it.line}})
	d.loose = append(d.loose, cranLoose{name, op, version})
	return nil
}

// remote is a line of Remotes, which says where a package is that CRAN has not,
// or not in that version.
func (d *description) remote(file string, it item) error {
	m := regexp.MustCompile(`^(?:[A-Za-z][A-Za-z0-9.]*=)?(?:(github|gitlab)::)?([A-Za-z0-9_.-]+)/([A-Za-z0-9_.-]+?)((?:/[A-Za-z0-9_.-]+)*)(?:@([A-Za-z0-9_./-]+))?$`).FindStringSubmatch(it.text)
	if m == nil || strings.Contains(it.text, "..") {
		return wrong(file, it.line, "Binnacle can't follow this entry of Remotes: "+short(it.text)+".", "Write owner/repository, optionally with @ and a branch, a tag or a commit; others can be installed by install.R.")
	}
	host := "api.github.com"
	if m[1] == "gitlab" {
		host = "gitlab.com"
	}
	ref := m[5]
	if ref == "" {
		ref = "HEAD"
	}
	l, _ := forgeArchive(host, m[2], m[3], ref, strings.Trim(m[4], "/"))
	d.remotes = append(d.remotes, l)
	d.packages = append(d.packages, Package{Manager: "cran", Name: m[3], Spec: it.text, From: Location{file, it.line}})
	return nil
}

// forgeArchive is a package in a repository of a forge.
func forgeArchive(host, user, repo, ref, subdir string) (cranLocked, bool) {
	kind := "github"
	var url string
	switch host {
	case "", "api.github.com", "github.com":
		host = "api.github.com"
		url = "https://codeload.github.com/" + user + "/" + repo + "/tar.gz/" + ref
	case "gitlab.com":
		kind = "gitlab"
		url = "https://gitlab.com/api/v4/projects/" + user + "%2F" + repo + "/repository/archive.tar.gz?sha=" + ref
	default:
		return cranLocked{}, false
	}
	remote := map[string]string{"RemoteType": kind, "RemoteHost": host, "RemoteUsername": user, "RemoteRepo": repo, "RemoteRef": ref, "RemoteSha": ref}
	if subdir != "" {
		remote["RemoteSubdir"] = subdir
	}
	return cranLocked{Source: "archive", URL: url, Subdir: subdir, Remote: remote}, true
}

// descriptionR lets the package's own condition on R decide when nobody else
// does, and refuses what can't go together.
func (r *reader) descriptionR(d *description, ask *rAsk) error {
	fits := func(version string) (rBound, bool) {
		for _, b := range d.r {
			if !compareR(version, b.op, b.version) {
				return b, false
			}
		}
		return rBound{}, true
	}
	newest := func(version string) string { // the patch release that will be taken
		if version == minorOf(r.opt.BaseR) {
			return r.opt.BaseR
		}
		for _, known := range rReleases() {
			if known.minor == version {
				return known.patch
			}
		}
		return version
	}
	if ask.version != "" {
		if b, ok := fits(newest(ask.version)); !ok {
			return wrong("DESCRIPTION", b.line, "DESCRIPTION needs R "+b.op+" "+b.version+", but "+ask.from.File+" asks for "+ask.version+".", "Make the two agree.")
		}
		return nil
	}
	if _, ok := fits(r.opt.BaseR); ok {
		return nil
	}
	for _, known := range slices.Backward(rReleases()) {
		if b, ok := fits(known.patch); ok {
			for _, bound := range d.r {
				if !compareR(r.opt.BaseR, bound.op, bound.version) {
					b = bound
				}
			}
			*ask = rAsk{version: known.minor, from: Location{"DESCRIPTION", b.line}}
			return nil
		}
	}
	b, _ := fits(r.opt.BaseR)
	return wrong("DESCRIPTION", b.line, "No R that Binnacle knows fits R "+b.op+" "+b.version+".", "Allow one of "+rMinors()+".")
}
