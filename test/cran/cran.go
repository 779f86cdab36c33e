// Package cran is a repository of R packages for tests: source packages made of
// a few files, served over HTTP as Posit's package manager serves the dated
// snapshots of CRAN, with old versions in the archive, and what is compiled for R.
package cran

import (
	"compress/gzip"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/binnacle-hub/binnacle/test/targz"
)

// Package is one to be made.
type Package struct {
	Name, Version string
	// Since is the first day that has it, "2024-01-31"; empty is always.
	Since string
	// Fields are further ones of DESCRIPTION, such as Imports.
	Fields map[string]string
	// Code is the R of the package; every function in it is exported.
	Code string
	// Files are further ones, by path in the package: "src/a.c".
	Files map[string]string

	built []byte // what Compiled made of it
}

// Tarball is the source package, as R CMD build makes it.
func (p Package) Tarball() ([]byte, error) {
	files := map[string]string{
		"DESCRIPTION": p.description() + "Repository: CRAN\n",
		"NAMESPACE":   "exportPattern(\"^[a-z]\")\n" + p.imports(),
		"R/code.R":    p.Code + "\n",
	}
	maps.Copy(files, p.Files)
	return targz.Pack(p.Name, files)
}

func (p Package) description() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nVersion: %s\nTitle: Of a Test\nDescription: It is for tests.\nLicense: MIT\nAuthor: Nobody\nMaintainer: Nobody <nobody@example.org>\n", p.Name, p.Version)
	if _, ok := p.Files["src/code.c"]; ok {
		b.WriteString("NeedsCompilation: yes\n")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Fields)) {
		fmt.Fprintf(&b, "%s: %s\n", name, p.Fields[name])
	}
	return b.String()
}

// imports makes what is imported be needed at run time, too.
func (p Package) imports() string {
	var out strings.Builder
	if p.Files["src/code.c"] != "" {
		fmt.Fprintf(&out, "useDynLib(%s)\n", p.Name)
	}
	for part := range strings.SplitSeq(p.Fields["Imports"], ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), " "); name != "" {
			fmt.Fprintf(&out, "import(%s)\n", name)
		}
	}
	return out.String()
}

// Server serves packages; Close ends one that was started.
type Server struct {
	URL    string // with {date}: what mirrors.cran of the configuration takes
	server *httptest.Server

	mu       sync.Mutex
	packages []Package
	asked    []string
}

// New serves where another server lets it. Below the path of a release of
// Bioconductor, as /3.21/bioc, it has its packages, too.
func New(packages ...Package) *Server { return &Server{packages: packages} }

// Start serves on a listener; nil is a port of the loopback.
func Start(l net.Listener, packages ...Package) *Server {
	s := New(packages...)
	s.server = httptest.NewUnstartedServer(s)
	if l != nil {
		_ = s.server.Listener.Close() // the one that it comes with
		s.server.Listener = l
	}
	s.server.Start()
	s.URL = s.server.URL + linux + "/{codename}/{date}"
	return s
}

// Add offers further packages.
func (s *Server) Add(packages ...Package) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packages = slices.Concat(s.packages, packages)
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Asked is every path that was asked for, with the user agent.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// linux is the path below which packages are compiled.
const linux = "/cran/__linux__"

// ServeHTTP answers /cran/__linux__/codename/date/src/contrib/….
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, req.URL.Path+" "+req.UserAgent())
	packages := s.packages
	s.mu.Unlock()
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(req.URL.Path, linux), "/"), "/")
	const shortest = 5
	if len(parts) < shortest || parts[2] != "src" || parts[3] != "contrib" {
		http.NotFound(w, req)
		return
	}
	date, rest := parts[1], strings.Join(parts[4:], "/")
	if date != "latest" && strings.HasSuffix(date, "-13") { // not every day has a snapshot
		http.NotFound(w, req)
		return
	}
	current := on(date, packages)
	switch rest {
	case "PACKAGES":
		_, _ = w.Write([]byte(index(current)))
	case "PACKAGES.gz":
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(index(current)))
		_ = z.Close()
	default:
		tarball(w, req, packages, current, rest)
	}
}

func tarball(w http.ResponseWriter, req *http.Request, packages []Package, current map[string]Package, rest string) {
	for _, p := range packages {
		file := p.Name + "_" + p.Version + ".tar.gz"
		now := current[p.Name].Version == p.Version && rest == file
		if !now && rest != "Archive/"+p.Name+"/"+file {
			continue
		}
		if now && p.built != nil && compiledFor(req) {
			w.Header().Set("X-Package-Type", "binary")
			_, _ = w.Write(p.built)
			return
		}
		b, err := p.Tarball()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b)
		return
	}
	http.NotFound(w, req)
}

// on is the newest version of each package on a day; later ones in the list win.
func on(date string, packages []Package) map[string]Package {
	out := map[string]Package{}
	for _, p := range packages {
		if date == "latest" || p.Since <= date {
			out[p.Name] = p
		}
	}
	return out
}

func index(packages map[string]Package) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		p := packages[name]
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\n", p.Name, p.Version)
		for _, field := range []string{"Depends", "Imports", "LinkingTo"} {
			if p.Fields[field] != "" {
				fmt.Fprintf(&b, "%s: %s\n", field, p.Fields[field])
			}
		}
		b.WriteString("License: MIT\nNeedsCompilation: no\n\n")
	}
	return b.String()
}
