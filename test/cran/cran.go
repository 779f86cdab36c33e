// Package cran is a repository of R packages for tests: source packages made of
// a few files, served over HTTP as CRAN and the dated snapshots of it are, with
// old versions in the archive.
package cran

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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
}

// Tarball is the source package, as R CMD build makes it.
func (p Package) Tarball() ([]byte, error) {
	files := map[string]string{
		"DESCRIPTION": p.description() + "Repository: CRAN\n",
		"NAMESPACE":   "exportPattern(\"^[a-z]\")\n" + p.imports(),
		"R/code.R":    p.Code + "\n",
	}
	maps.Copy(files, p.Files)
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if name == "configure" {
			mode = 0o755
		}
		if err := t.WriteHeader(&tar.Header{Name: p.Name + "/" + name, Mode: mode, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := t.Write([]byte(files[name])); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
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
	URL      string // with {date}: what mirrors.cran of the configuration takes
	server   *httptest.Server
	packages []Package

	mu    sync.Mutex
	asked []string
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
	s.URL = s.server.URL + "/{codename}/{date}"
	return s
}

// Close ends the server.
func (s *Server) Close() { s.server.Close() }

// Asked is every path that was asked for, with the user agent.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// ServeHTTP answers /codename/date/src/contrib/….
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, req.URL.Path+" "+req.UserAgent())
	s.mu.Unlock()
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/"), "/")
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
	current := s.on(date)
	switch rest {
	case "PACKAGES":
		_, _ = w.Write([]byte(index(current)))
	case "PACKAGES.gz":
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(index(current)))
		_ = z.Close()
	default:
		s.tarball(w, req, current, rest)
	}
}

func (s *Server) tarball(w http.ResponseWriter, req *http.Request, current map[string]Package, rest string) {
	for _, p := range s.packages {
		file := p.Name + "_" + p.Version + ".tar.gz"
		now := current[p.Name].Version == p.Version && rest == file
		if !now && rest != "Archive/"+p.Name+"/"+file {
			continue
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
func (s *Server) on(date string) map[string]Package {
	out := map[string]Package{}
	for _, p := range s.packages {
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
