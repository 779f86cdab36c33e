package hub

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed web/static web/pages
var embedded embed.FS

// web holds the pages and their parts. The parts live below a directory named
// after the hash of all of them: a new binary has new addresses, so browsers
// may keep the old ones for ever.
type web struct {
	dir   string // "/static/<hash>/"
	files map[string]staticFile
	pages map[string]*template.Template
}

type staticFile struct {
	contentType string
	data        []byte
}

// aliases are the addresses BinderHub has for what we keep in static/.
func aliases() map[string]string {
	return map[string]string{
		"/badge_logo.svg": "badge.svg", "/badge.svg": "badge.svg", "/assets/images/badge.svg": "badge.svg",
		"/logo_social.png": "logo_social.png", "/favicon.ico": "favicon.svg", "/favicon.svg": "favicon.svg",
		"/favicon_building.ico": "favicon_building.svg", "/favicon_fail.ico": "favicon_fail.svg", "/favicon_success.ico": "favicon_success.svg",
	}
}

func newWeb(fsys fs.FS) (*web, error) {
	if fsys == nil {
		sub, err := fs.Sub(embedded, "web")
		if err != nil {
			return nil, err
		}
		fsys = sub
	}
	w := &web{files: map[string]staticFile{}, pages: map[string]*template.Template{}}
	sum := sha256.New()
	err := fs.WalkDir(fsys, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		w.files[strings.TrimPrefix(name, "static/")] = staticFile{typeOf(name), data}
		return nil
	})
	if err != nil {
		return nil, err
	}
	w.dir = "/static/" + hex.EncodeToString(sum.Sum(nil)[:6]) + "/"
	names, err := fs.Glob(fsys, "pages/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if path.Base(name) == "base.html" {
			continue
		}
		if w.pages[path.Base(name)], err = template.ParseFS(fsys, "pages/base.html", name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func typeOf(name string) string {
	switch path.Ext(name) {
	case ".js": // the machine's own table may say otherwise
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func (w *web) rootFiles() []string {
	var names []string
	for name := range aliases() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *web) rootFile(rw http.ResponseWriter, r *http.Request) error {
	f, ok := w.files[aliases()[r.URL.Path]]
	if !ok {
		return errNoPage()
	}
	rw.Header().Set("Content-Type", f.contentType)
	rw.Header().Set("Cache-Control", "public, max-age=3600")
	// Badges stand on other people's pages.
	rw.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	_, err := rw.Write(f.data)
	return err
}

func (w *web) static(rw http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutPrefix(r.URL.Path, w.dir)
	f, found := w.files[name]
	if !ok || !found {
		return errNoPage()
	}
	rw.Header().Set("Content-Type", f.contentType)
	rw.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, err := rw.Write(f.data)
	return err
}

// render writes a page at once or not at all.
func (w *web) render(rw http.ResponseWriter, status int, name string, data any) error {
	t, ok := w.pages[name]
	if !ok {
		return fmt.Errorf("no page is called %s", name)
	}
	var buf bytes.Buffer
	if err := t.ExecuteTemplate(&buf, "base.html", data); err != nil {
		return err
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	_, err := rw.Write(buf.Bytes())
	return err
}
