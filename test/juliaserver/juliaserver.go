// Package juliaserver is what Julia needs of the internet, for tests: the list of
// its releases with their downloads, and a package server with one registry.
package juliaserver

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle/test/targz"
)

// general is the identifier of Julia's own registry: a Julia without any asks for it.
const general = "23338594-aafe-5451-b93e-139f81909106"

// Package is one version of a package.
type Package struct {
	Name, UUID, Version string
	Deps                map[string]string // identifiers by name
	Files               map[string]string // by path; Project.toml is made
}

// Release is a version of Julia itself.
type Release struct {
	Version string
	Pre     bool      // not stable
	Time    time.Time // when it was put there
	Tarball []byte
	Damaged bool // the list has another hash
}

// Server is an http.Handler: releases are below /bin, packages at the root.
type Server struct {
	files map[string][]byte
	times map[string]time.Time
}

// New makes a server. Versions of the same package stand in the order given.
func New(releases []Release, packages []Package) (*Server, error) {
	s := &Server{files: map[string][]byte{}, times: map[string]time.Time{}}
	if err := s.releases(releases); err != nil {
		return nil, err
	}
	return s, s.packages(packages)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, ok := s.files[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	http.ServeContent(w, req, "", s.times[req.URL.Path], bytes.NewReader(body))
}

// releases lays them out as Julia's own server does.
func (s *Server) releases(releases []Release) error {
	type file struct {
		URL       string `json:"url"`
		Triplet   string `json:"triplet"`
		Kind      string `json:"kind"`
		Arch      string `json:"arch"`
		SHA256    string `json:"sha256"`
		Size      int    `json:"size"`
		Version   string `json:"version"`
		OS        string `json:"os"`
		Extension string `json:"extension"`
	}
	type entry struct {
		Files  []file `json:"files"`
		Stable bool   `json:"stable"`
	}
	arch, dir := "x86_64", "x64"
	if runtime.GOARCH == "arm64" {
		arch, dir = "aarch64", "aarch64"
	}
	list := map[string]entry{}
	for _, r := range releases {
		minor := strings.Join(strings.SplitN(r.Version, ".", 3)[:2], ".")
		at := fmt.Sprintf("/bin/linux/%s/%s/julia-%s-linux-%s.tar.gz", dir, minor, r.Version, arch)
		s.files[at], s.times[at] = r.Tarball, r.Time
		sum := sha256.Sum256(r.Tarball)
		if r.Damaged {
			sum[0]++
		}
		list[r.Version] = entry{Stable: !r.Pre, Files: []file{
			{URL: "https://julia.example.org/bin/winnt/x64/julia.exe", Kind: "installer", Arch: arch, OS: "winnt", Extension: "exe", Version: r.Version},
			{URL: "https://julia.example.org" + at, Triplet: arch + "-linux-gnu", Kind: "archive", Arch: arch, SHA256: hex.EncodeToString(sum[:]), Size: len(r.Tarball), Version: r.Version, OS: "linux", Extension: "tar.gz"},
		}}
	}
	body, err := json.Marshal(list)
	s.files["/bin/versions.json"] = body
	return err
}

// packages makes the registry and the packages in it.
func (s *Server) packages(packages []Package) error {
	registry := map[string]string{}
	var list strings.Builder
	list.WriteString("name = \"General\"\nuuid = \"" + general + "\"\nrepo = \"https://git.example.org/General.git\"\n\n[packages]\n")
	for _, p := range packages {
		at := p.Name[:1] + "/" + p.Name
		files := p.files()
		tree := p.Tree()
		body, err := targz.Pack("", files)
		if err != nil {
			return err
		}
		s.files["/package/"+p.UUID+"/"+tree] = body
		if registry[at+"/Package.toml"] == "" {
			fmt.Fprintf(&list, "%s = { name = %q, path = %q }\n", p.UUID, p.Name, at)
			registry[at+"/Package.toml"] = "name = \"" + p.Name + "\"\nuuid = \"" + p.UUID + "\"\nrepo = \"https://git.example.org/" + p.Name + ".jl.git\"\n"
		}
		registry[at+"/Versions.toml"] += "[\"" + p.Version + "\"]\ngit-tree-sha1 = \"" + tree + "\"\n"
		if len(p.Deps) > 0 {
			registry[at+"/Deps.toml"] += "[\"" + p.Version + "\"]\n" + table(p.Deps)
		}
	}
	registry["Registry.toml"] = list.String()
	body, err := targz.Pack("", registry)
	if err != nil {
		return err
	}
	at := "/registry/" + general + "/" + Tree(registry)
	s.files[at], s.files["/registries"] = body, []byte(at+"\n")
	return nil
}

// Tree is the hash by which Julia knows the package's files.
func (p Package) Tree() string { return Tree(p.files()) }

func (p Package) files() map[string]string {
	files := maps.Clone(p.Files)
	files["Project.toml"] = p.project()
	return files
}

func (p Package) project() string {
	text := "name = \"" + p.Name + "\"\nuuid = \"" + p.UUID + "\"\nversion = \"" + p.Version + "\"\n"
	if len(p.Deps) > 0 {
		text += "\n[deps]\n" + table(p.Deps)
	}
	return text
}

func table(m map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s = %q\n", name, m[name])
	}
	return b.String()
}

// Tree is git's hash of files as a directory, by which Julia knows packages.
func Tree(files map[string]string) string {
	sum := tree(files)
	return hex.EncodeToString(sum[:])
}

func tree(files map[string]string) [sha1.Size]byte {
	below := map[string]map[string]string{}
	entries := map[string]string{} // by the name that git sorts by
	for name, text := range files {
		if dir, rest, ok := strings.Cut(name, "/"); ok {
			if below[dir] == nil {
				below[dir] = map[string]string{}
			}
			below[dir][rest] = text
			continue
		}
		sum := object("blob", text)
		entries[name] = "100644 " + name + "\x00" + string(sum[:])
	}
	for dir, in := range below {
		sum := tree(in)
		entries[dir+"/"] = "40000 " + dir + "\x00" + string(sum[:])
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		b.WriteString(entries[name])
	}
	return object("tree", b.String())
}

func object(kind, text string) [sha1.Size]byte {
	return sha1.Sum(fmt.Appendf(nil, "%s %d\x00%s", kind, len(text), text))
}
