package hub

import (
	"html"
	"net/http"
	"net/url"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// ParseRequest is what a person typed into the form.
type ParseRequest struct {
	Repo string `json:"repo"`
	Ref  string `json:"ref,omitempty"` // overrides what Repo names
	// Subdir is the folder of the repository to take for all of it; it overrides
	// what Repo names.
	Subdir string `json:"subdir,omitempty"`
	Path   string `json:"path,omitempty"` // a file of the repository, or a path of the session
	// Open is the program to open it with, such as "vscode"; empty is JupyterLab. A
	// path of the session says that itself.
	Open string `json:"open,omitempty"`
}

// Parsed is what the hub made of it, and what to share.
type Parsed struct {
	Spec binnacle.Spec `json:"spec"`
	Text string        `json:"text"` // the spec as written in links
	Name string        `json:"name"` // for people
	Path string        `json:"path,omitempty"`
	// URLPath is where the session opens; empty is the repository's choice.
	URLPath string `json:"url_path,omitempty"`
	Launch  string `json:"launch"` // the link
	Badge   Badge  `json:"badge"`
}

// Badge is the link as a picture, ready to paste.
type Badge struct {
	Image    string `json:"image"`
	Markdown string `json:"markdown"`
	ReST     string `json:"rest"`
	HTML     string `json:"html"`
}

func (h *Hub) getParse(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	return h.answerParse(w, r, ParseRequest{Repo: q.Get("q"), Ref: q.Get("ref"), Subdir: q.Get("subdir"), Path: q.Get("path"), Open: q.Get("open")})
}

func (h *Hub) postParse(w http.ResponseWriter, r *http.Request) error {
	var req ParseRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	return h.answerParse(w, r, req)
}

func (h *Hub) answerParse(w http.ResponseWriter, r *http.Request, req ParseRequest) error {
	p, err := h.parse(r, req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, p)
}

// parse reads the form's fields offline. Returns invalid for what names no
// repository, forbidden for a directory from the network.
func (h *Hub) parse(r *http.Request, req ParseRequest) (Parsed, error) {
	t, err := h.deps.Parse(req.Repo)
	if err != nil {
		return Parsed{}, err
	}
	if t.Spec.Provider == binnacle.Dir && !isTrusted(r) {
		return Parsed{}, &binnacle.Error{
			Code: binnacle.CodeForbidden, Message: "Directories are launched from the command line of the machine they are on.",
			Hint: "Run binnacle launch in that directory, or paste the address of a repository.",
		}
	}
	if t.RefAndPath && t.Path == "" {
		// A page of a forge does not say where the branch ends and the path
		// begins. Most branches have no slash; the form shows the guess.
		t.Spec.Ref, t.Path, _ = strings.Cut(t.Spec.Ref, "/")
	}
	if ref := strings.TrimSpace(req.Ref); ref != "" {
		t.Spec.Ref = ref
		if back, err := binnacle.ParseSpec(t.Spec.String()); err != nil || back.Ref != ref {
			return Parsed{}, binnacle.Errorf(binnacle.CodeInvalid, "%q is not the name of a branch, a tag or a commit.", clip(ref, 80))
		}
	}
	if subdir := strings.TrimSpace(req.Subdir); subdir != "" {
		if t.Spec, err = t.Spec.In(subdir); err != nil {
			return Parsed{}, err
		}
	}
	t.Path = strings.TrimPrefix(t.Path, t.Spec.Subdir+"/")
	if req.Path != "" {
		t.Path, t.URLPath = pathOrURL(req.Path)
	}
	p := Parsed{Spec: t.Spec, Text: t.Spec.String(), Name: displayName(t.Spec), Path: t.Path, URLPath: t.URLPath}
	open, err := openWith(req.Open, p.Path)
	if err != nil {
		return Parsed{}, err
	}
	if p.URLPath == "" {
		p.URLPath = open
	}
	base := h.base(r)
	p.Launch = base + link(p.Spec, p.URLPath)
	p.Badge = badge(base+"/badge_logo.svg", p.Launch)
	return p, nil
}

// link launches a repository and opens urlPath, which may be empty, in the session.
func link(spec binnacle.Spec, urlPath string) string {
	l := "/v2/" + spec.String()
	if urlPath == "" {
		return l
	}
	mark := "?"
	if spec.Subdir != "" {
		mark = "&"
	}
	return l + mark + "urlpath=" + url.QueryEscape(urlPath)
}

// specOf reads the spec of a link and the folder that its query names.
func specOf(raw string, q url.Values) (binnacle.Spec, error) {
	spec, err := binnacle.ParseSpec(raw)
	if err != nil {
		return spec, err
	}
	return spec.In(q.Get("subdir"))
}

// pathOrURL tells a file of the repository from a path of the session, such as
// rstudio or lab/tree/x, by how the session's paths begin.
func pathOrURL(s string) (file, urlPath string) {
	s = strings.TrimLeft(strings.TrimSpace(s), "/")
	for _, prefix := range []string{"lab", "tree", "notebooks", "doc", "rstudio", "voila", "proxy", "retro", "nbclassic", "desktop", "vscode"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok && (rest == "" || rest[0] == '/' || rest[0] == '?') {
			return "", s
		}
	}
	return s, ""
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

func badge(image, launch string) Badge {
	return Badge{
		Image:    image,
		Markdown: "[![Launch](" + image + ")](" + launch + ")",
		ReST:     ".. image:: " + image + "\n   :alt: Launch\n   :target: " + launch,
		HTML:     `<a href="` + html.EscapeString(launch) + `"><img src="` + html.EscapeString(image) + `" alt="Launch"></a>`,
	}
}

// displayName is the repository's name for people: without scheme and provider.
func displayName(s binnacle.Spec) string {
	name := s.Repo
	if _, rest, ok := strings.Cut(name, "://"); ok {
		name = rest
	}
	name = strings.TrimSuffix(name, ".git")
	if s.Subdir != "" {
		name += "/" + s.Subdir
	}
	return name
}
