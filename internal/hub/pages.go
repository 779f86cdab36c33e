package hub

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// page is what every page needs.
type page struct {
	Title, Hub, Banner, Static, Base string
	Here                             string // the address in the navigation that is shown
	Description                      string // for previews of the link
	Version                          string
	Social                           string // an absolute address of the picture for previews
}

func (h *Hub) page(r *http.Request, title, here string) page {
	base := h.base(r)
	return page{
		Title: title, Hub: h.cfg.Title, Banner: h.cfg.Banner, Static: h.web.dir, Base: base, Here: here,
		Description: "From a repository's address to a live notebook in the browser.", Version: h.cfg.Version, Social: base + "/logo_social.png",
	}
}

type homeData struct {
	page

	Repo, Ref, Subdir, Path string
	Error                   *binnacle.Error
	// Open is the program chosen of Openers.
	Open    string
	Openers []Opener
}

// meet gives a stranger the cookie before the first change is asked for. A
// person without one is nobody yet, which is no reason not to show a page.
func (h *Hub) meet(w http.ResponseWriter, r *http.Request) {
	_, _ = h.caller(w, r, true)
}

func (h *Hub) homePage(w http.ResponseWriter, r *http.Request) error {
	h.meet(w, r)
	return h.web.render(w, http.StatusOK, "home.html", homeData{page: h.page(r, "Launch a repository", "/"), Openers: openers()})
}

// homeForm is the home page's form without JavaScript: it becomes a link.
func (h *Hub) homeForm(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("repo") == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	req := ParseRequest{Repo: q.Get("repo"), Ref: q.Get("ref"), Subdir: q.Get("subdir"), Path: q.Get("path"), Open: q.Get("open")}
	p, err := h.parse(r, req)
	if err != nil {
		e := binnacle.Public(err)
		return h.web.render(w, Status(e.Code), "home.html", homeData{page: h.page(r, "Launch a repository", "/"), Repo: req.Repo, Ref: req.Ref, Subdir: req.Subdir, Path: req.Path, Open: req.Open, Openers: openers(), Error: e})
	}
	//nolint:gosec // G710: the address begins with our own /v2/ (TestNoOpenRedirect)
	http.Redirect(w, r, strings.TrimPrefix(p.Launch, h.base(r)), http.StatusSeeOther)
	return nil
}

type launchData struct {
	page

	Spec     string // as it is launched
	Link     string // to this page
	Name     string
	Ref      string
	Provider string
	Path     string // where to land in the session
	Class    string // of session, when the link asks for one
	Token    string // a build token, for BinderHub's clients
	RepoURL  string // a page about the repository; may be empty
}

func (h *Hub) launchPage(w http.ResponseWriter, r *http.Request) error {
	raw := strings.TrimPrefix(r.URL.EscapedPath(), "/v2/")
	if raw == "" {
		return h.homeForm(w, r)
	}
	spec, err := specOf(raw, r.URL.Query())
	if err == nil && spec.Provider == binnacle.Dir && !isTrusted(r) {
		err = &binnacle.Error{Code: binnacle.CodeForbidden, Message: "Directories are launched from the command line of the machine they are on.", Hint: "Run binnacle launch there."}
	}
	if err != nil {
		return err
	}
	h.meet(w, r)
	token, err := h.buildToken(r, strings.TrimRight(raw, "/"))
	if err != nil {
		return err
	}
	name := displayName(spec)
	d := launchData{
		page: h.page(r, name, ""), Spec: spec.String(), Name: name, Ref: spec.Ref, Provider: orDefault(providers[spec.Provider].display, "Directory"),
		Path: landingPath(r.URL.Query()), Class: r.URL.Query().Get("class"), Token: token, RepoURL: repoPage(spec),
	}
	d.Link = link(spec, d.Path)
	d.Description = "Launch " + name + " as a live notebook server."
	return h.web.render(w, http.StatusOK, "launch.html", d)
}

// repoPage is where a person can read about a repository.
func repoPage(s binnacle.Spec) string {
	switch s.Provider {
	case binnacle.GitHub:
		return "https://github.com/" + s.Repo
	case binnacle.GitLab:
		return "https://gitlab.com/" + s.Repo
	case binnacle.Gist:
		return "https://gist.github.com/" + s.Repo
	default:
		if u, err := url.Parse(s.Repo); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil {
			return u.String()
		}
		return ""
	}
}

// landingPath reads BinderHub's three parameters; labpath wins over filepath,
// that over urlpath.
func landingPath(q url.Values) string {
	path := q.Get("urlpath")
	switch {
	case q.Has("labpath"):
		path = "doc/tree/" + encodeURI(strings.TrimSuffix(q.Get("labpath"), "/"))
	case q.Has("filepath"):
		path = "tree/" + encodeURI(strings.TrimSuffix(q.Get("filepath"), "/"))
	}
	return strings.TrimLeft(path, "/")
}

// encodeURI escapes as JavaScript's function of that name does, which the
// links in the world rely on.
func encodeURI(s string) string {
	const keep = ";,/?:@&=+$-_.!~*'()#"
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
	}
	return b.String()
}

// OpenURL is the address to open a session at: path below its own address and
// with its token. A path that leads elsewhere is left out, so that no link can
// send a token away.
func OpenURL(s binnacle.Session, path string) string {
	base, err := url.Parse(s.URL)
	if err != nil {
		return s.URL
	}
	u, err := url.Parse(s.URL + strings.TrimLeft(path, "/"))
	if err != nil || u.Host != base.Host || !strings.HasPrefix(u.JoinPath().Path, base.Path) {
		u = base
	}
	if s.Token != "" {
		q := "token=" + url.QueryEscape(s.Token)
		if u.RawQuery != "" {
			q = u.RawQuery + "&" + q
		}
		u.RawQuery = q
	}
	return u.String()
}

func (h *Hub) sessionsPage(w http.ResponseWriter, r *http.Request) error {
	h.meet(w, r)
	return h.web.render(w, http.StatusOK, "sessions.html", h.page(r, "My sessions", "/sessions"))
}

type aboutData struct {
	page

	About []string
}

func (h *Hub) aboutPage(w http.ResponseWriter, r *http.Request) error {
	d := aboutData{page: h.page(r, "About", "/about")}
	for p := range strings.SplitSeq(h.cfg.About, "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			d.About = append(d.About, p)
		}
	}
	return h.web.render(w, http.StatusOK, "about.html", d)
}

type errorData struct {
	page

	Status int
	Error  *binnacle.Error
}

// pageError is a person's form of an error.
func (h *Hub) pageError(w http.ResponseWriter, r *http.Request, status int, e *binnacle.Error) {
	title := "Something went wrong"
	if status == http.StatusNotFound {
		title = "Off the chart"
	}
	d := errorData{page: h.page(r, title, ""), Status: status, Error: e}
	if err := h.web.render(w, status, "error.html", d); err != nil {
		jsonError(w, r, status, e)
	}
}
