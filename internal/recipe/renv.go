package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// renvLock is what of a renv.lock counts.
type renvLock struct {
	r        string
	rLine    int
	packages []Package
	locked   []cranLocked
	date     string // a day that the lock itself names
	bioc     string
}

func (l renvLock) wanted() cranWanted {
	return cranWanted{Locked: l.locked, Date: l.date, Bioconductor: l.bioc}
}

func (r *reader) readRenv() (*renvLock, error) {
	file := r.path("renv.lock")
	text, _, err := r.text(file)
	if err != nil {
		return nil, err
	}
	l, err := parseRenv(file, text)
	if err != nil {
		return nil, err
	}
	r.use(file, "exact versions of R packages")
	return l, nil
}

// renvEntry is a package of the file.
type renvEntry struct {
	Package, Version, Source, Repository                            string
	RemoteHost, RemoteUsername, RemoteRepo, RemoteSha, RemoteSubdir string
}

// parseRenv reads the JSON that renv::snapshot() writes.
func parseRenv(file, text string) (*renvLock, error) {
	var doc struct {
		R struct {
			Version      string
			Repositories []struct{ Name, URL string }
		}
		Bioconductor struct{ Version string }
		Packages     map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		line := 0
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			line = 1 + bytes.Count([]byte(text)[:min(int(e.Offset), len(text))], []byte("\n"))
		}
		return nil, wrong(file, line, "renv.lock can't be read: "+cut(err.Error())+".", "Write it anew with renv::snapshot().")
	}
	number := regexp.MustCompile(`^\d+([.-]\d+)*$`)
	l := &renvLock{r: doc.R.Version, rLine: lineWith(text, `"R"`)}
	if doc.Bioconductor.Version != "" {
		if l.bioc = doc.Bioconductor.Version; !number.MatchString(l.bioc) {
			return nil, wrong(file, lineWith(text, `"Bioconductor"`), "Bioconductor has no version "+short(l.bioc)+".", "Write it anew with renv::snapshot().")
		}
	}
	repositories := map[string]string{}
	for _, repo := range doc.R.Repositories {
		at, date := renvRepository(repo.URL)
		if at == "" && date == "" && !publicCRAN(repo.URL) {
			return nil, wrong(file, lineWith(text, repo.URL), "This is not an address of a repository: "+short(repo.URL)+".", "Write an https:// address without a password.")
		}
		repositories[repo.Name] = at
		if l.date == "" {
			l.date = date
		}
	}
	for _, key := range slices.Sorted(maps.Keys(doc.Packages)) {
		line := lineWith(text, `"`+key+`": {`)
		var e renvEntry
		if err := json.Unmarshal(doc.Packages[key], &e); err != nil {
			return nil, wrong(file, line, "renv.lock can't be read at "+short(key)+".", "Write it anew with renv::snapshot().")
		}
		if e.Package == "" {
			e.Package = key
		}
		if !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]*$`).MatchString(e.Package) || !number.MatchString(e.Version) {
			return nil, wrong(file, line, "This entry names no package and version: "+short(key)+".", "Write it anew with renv::snapshot().")
		}
		if slices.Contains(baseRPackages(), e.Package) {
			continue
		}
		locked, err := e.locked(file, line, repositories)
		if err != nil {
			return nil, err
		}
		l.locked = append(l.locked, locked)
		l.packages = append(l.packages, Package{Manager: "cran", Name: e.Package, Spec: e.Package + " " + e.Version, From: Location{file, line}})
	}
	return l, nil
}

// locked is where the entry's version is.
func (e renvEntry) locked(file string, line int, repositories map[string]string) (cranLocked, error) {
	out := cranLocked{Name: e.Package, Version: e.Version, Source: "repository"}
	word := regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	switch e.Source {
	case "Repository", "CRAN", "":
		out.URL = repositories[e.Repository]
	case "Bioconductor":
		out.Source = "bioconductor"
	case "GitHub", "GitLab":
		host := e.RemoteHost
		if e.Source == "GitLab" && host == "" {
			host = "gitlab.com"
		}
		for _, part := range []string{e.RemoteUsername, e.RemoteRepo, e.RemoteSha} {
			if !word.MatchString(part) || strings.Trim(part, ".") == "" {
				return out, wrong(file, line, "The entry of "+e.Package+" does not say which commit of which repository it is.", "Write it anew with renv::snapshot().")
			}
		}
		from, ok := forgeArchive(host, e.RemoteUsername, e.RemoteRepo, e.RemoteSha, e.RemoteSubdir)
		if !ok {
			return out, wrong(file, line, e.Package+" is on "+short(host)+", where Binnacle can't fetch packages of a lock.", "Install it in postBuild with remotes, and leave it out of the lock.")
		}
		from.Name, from.Version = e.Package, e.Version
		return from, nil
	default:
		return out, wrong(file, line, e.Package+" has the source "+short(e.Source)+", from which Binnacle can't fetch it.", "Publish it in a git repository of GitHub or GitLab and run renv::snapshot() again, or install it in postBuild.")
	}
	return out, nil
}

// publicCRAN says that an address is one of many of the same packages, so that
// the hub's own source will do.
func publicCRAN(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return host == "cloud.r-project.org" || strings.HasPrefix(host, "cran.") || strings.HasPrefix(host, "packagemanager.") || address == "@CRAN@"
}

// renvRepository is the address to use beside the hub's own source, empty for
// CRAN, and the day that it names.
func renvRepository(address string) (at, date string) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || strings.ContainsAny(address, "{}'\" ") {
		return "", ""
	}
	if publicCRAN(address) {
		return "", regexp.MustCompile(`\d{4}-\d{2}-\d{2}`).FindString(u.Path)
	}
	return strings.TrimSuffix(address, "/"), ""
}

// lineWith is the first line that has a text; 0 when none has.
func lineWith(text, part string) int {
	before, _, ok := strings.Cut(text, part)
	if !ok || part == "" {
		return 0
	}
	return 1 + strings.Count(before, "\n")
}
