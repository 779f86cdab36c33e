// Package forgehost is a server that remembers what is written to a forge:
// statuses of commits, comments on proposed changes, issues. It speaks what is
// documented of the APIs of GitHub, GitLab, Gitea and Azure DevOps, as far as
// Binnacle uses them, and refuses what they refuse: another token, a state or a
// field that they do not know, a status that is no news to GitLab.
package forgehost

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Token is the one that may write.
const Token = "a-token-of-the-forge"

// Host is a forge with every repository that one asks for.
type Host struct {
	URL string // without a slash at the end

	server *httptest.Server

	mu       sync.Mutex
	down     bool
	statuses []Status
	comments []*Note
	issues   []*Note
	bad      []string
}

// Status is one of a commit.
type Status struct{ Kind, Repository, Commit, State, Text string }

// Note is a comment (with the number of the change) or an issue (with a title).
type Note struct {
	Kind, Repository, Title, Text string
	Change, ID                    int
	Open                          bool
}

// Start serves on an address, such as 127.0.0.1:0. Close it.
func Start(address string) (*Host, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	h := &Host{}
	mux := http.NewServeMux()
	h.likeGitHub(mux, "github", "/api/v3")
	h.likeGitHub(mux, "gitea", "/api/v1")
	h.gitLab(mux)
	h.azure(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.refuse(w, r, http.StatusNotFound, "no such address") })
	h.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	h.server.Start()
	h.URL = h.server.URL
	return h, nil
}

// Close ends it.
func (h *Host) Close() { h.server.Close() }

// Down lets it answer nothing but 503, or again what it should.
func (h *Host) Down(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// Statuses are those that were written, oldest first.
func (h *Host) Statuses() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.statuses)
}

// Comments are those that are there.
func (h *Host) Comments() []Note { return h.copied(&h.comments) }

// Issues are those that are there, closed ones too.
func (h *Host) Issues() []Note { return h.copied(&h.issues) }

// Refused is what was asked for and refused.
func (h *Host) Refused() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.bad)
}

func (h *Host) copied(list *[]*Note) []Note {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Note
	for _, n := range *list {
		out = append(out, *n)
	}
	return out
}

func (h *Host) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	h.mu.Lock()
	h.bad = append(h.bad, fmt.Sprintf("%s %s: %d %s", r.Method, r.URL, status, why))
	h.mu.Unlock()
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": why})
}

// body are the fields of a request, of which no others than these are known.
type body map[string]any

func (b body) text(key string) string { s, _ := b[key].(string); return s }

// handler answers a signed request; what it returns is the answer, an error text
// with the status otherwise.
type handler func(r *http.Request, b body) (status int, answer any)

// on serves an address to who has the token.
func (h *Host) on(mux *http.ServeMux, pattern string, signed func(*http.Request) bool, fields []string, f handler) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		down := h.down
		h.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if !signed(r) {
			h.refuse(w, r, http.StatusUnauthorized, "who is that?")
			return
		}
		b := body{}
		if r.Method != http.MethodGet {
			if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
				h.refuse(w, r, http.StatusBadRequest, err.Error())
				return
			}
			for key := range b {
				if !slices.Contains(fields, key) {
					h.refuse(w, r, http.StatusUnprocessableEntity, "no field "+key)
					return
				}
			}
		}
		h.mu.Lock()
		status, answer := f(r, b)
		h.mu.Unlock()
		if why, ok := answer.(error); ok {
			h.refuse(w, r, status, why.Error())
			return
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// wrong is an answer that refuses.
type wrong string

func (w wrong) Error() string { return string(w) }

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.PathValue(name))
	return n
}

// page is a part of a list, as the query asks for.
func page[T any](r *http.Request, list []T) []T {
	per, at := 30, 1
	for _, name := range []string{"per_page", "limit"} {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
			per = min(n, 100)
		}
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil {
		at = n
	}
	from := min((at-1)*per, len(list))
	return list[from:min(from+per, len(list))]
}

// select are the notes of a repository, of a change or all.
func choose(list []*Note, kind, repository string, change int) []*Note {
	out := []*Note{}
	for _, n := range list {
		if n.Kind == kind && n.Repository == repository && (change == 0 || n.Change == change) {
			out = append(out, n)
		}
	}
	return out
}

func find(list []*Note, id int) *Note {
	for _, n := range list {
		if n.ID == id {
			return n
		}
	}
	return nil
}

func (h *Host) add(list *[]*Note, n Note) *Note {
	n.ID, n.Open = len(h.comments)+len(h.issues)+1, true
	*list = append(*list, &n)
	return &n
}

// likeGitHub is what GitHub and Gitea have in common.
func (h *Host) likeGitHub(mux *http.ServeMux, kind, base string) {
	word := map[string]string{"github": "Bearer ", "gitea": "token "}[kind]
	signed := func(r *http.Request) bool { return r.Header.Get("Authorization") == word+Token }
	repo := func(r *http.Request) string { return r.PathValue("owner") + "/" + r.PathValue("name") }
	at := base + "/repos/{owner}/{name}"
	shown := func(n *Note) any {
		return map[string]any{"id": n.ID, "number": n.ID, "body": n.Text, "title": n.Title, "state": map[bool]string{true: "open", false: "closed"}[n.Open]}
	}
	all := func(list []*Note) []any {
		out := []any{}
		for _, n := range list {
			out = append(out, shown(n))
		}
		return out
	}
	h.on(mux, "POST "+at+"/statuses/{commit}", signed, []string{"state", "description", "context", "target_url"}, func(r *http.Request, b body) (int, any) {
		if !slices.Contains([]string{"error", "failure", "pending", "success"}, b.text("state")) {
			return http.StatusUnprocessableEntity, wrong("no state " + b.text("state"))
		}
		if len([]rune(b.text("description"))) > 140 {
			return http.StatusUnprocessableEntity, wrong("description is too long (maximum is 140 characters)")
		}
		h.statuses = append(h.statuses, Status{kind, repo(r), r.PathValue("commit"), b.text("state"), b.text("description")})
		return http.StatusCreated, map[string]any{"id": len(h.statuses)}
	})
	h.on(mux, "GET "+at+"/issues/{change}/comments", signed, nil, func(r *http.Request, _ body) (int, any) {
		return http.StatusOK, page(r, all(choose(h.comments, kind, repo(r), number(r, "change"))))
	})
	h.on(mux, "POST "+at+"/issues/{change}/comments", signed, []string{"body"}, func(r *http.Request, b body) (int, any) {
		return http.StatusCreated, shown(h.add(&h.comments, Note{Kind: kind, Repository: repo(r), Change: number(r, "change"), Text: b.text("body")}))
	})
	h.on(mux, "PATCH "+at+"/issues/comments/{id}", signed, []string{"body"}, func(r *http.Request, b body) (int, any) {
		n := find(h.comments, number(r, "id"))
		if n == nil {
			return http.StatusNotFound, wrong("no such comment")
		}
		n.Text = b.text("body")
		return http.StatusOK, shown(n)
	})
	h.on(mux, "GET "+at+"/issues", signed, nil, func(r *http.Request, _ body) (int, any) {
		list := choose(h.issues, kind, repo(r), 0)
		if r.URL.Query().Get("state") == "open" {
			list = slices.DeleteFunc(list, func(n *Note) bool { return !n.Open })
		}
		return http.StatusOK, page(r, all(list))
	})
	h.on(mux, "POST "+at+"/issues", signed, []string{"title", "body"}, func(r *http.Request, b body) (int, any) {
		return http.StatusCreated, shown(h.add(&h.issues, Note{Kind: kind, Repository: repo(r), Title: b.text("title"), Text: b.text("body")}))
	})
	h.on(mux, "PATCH "+at+"/issues/{id}", signed, []string{"title", "body", "state"}, func(r *http.Request, b body) (int, any) {
		return change(h.issues, number(r, "id"), b, "body", b.text("state") == "closed", shown)
	})
}

// change writes an issue anew, or closes it.
func change(list []*Note, id int, b body, text string, closed bool, shown func(*Note) any) (int, any) {
	n := find(list, id)
	if n == nil {
		return http.StatusNotFound, wrong("no such issue")
	}
	if b.text("title") != "" {
		n.Title, n.Text = b.text("title"), b.text(text)
	}
	if closed {
		n.Open = false
	}
	return http.StatusOK, shown(n)
}

func (h *Host) gitLab(mux *http.ServeMux) {
	const kind = "gitlab"
	signed := func(r *http.Request) bool { return r.Header.Get("PRIVATE-TOKEN") == Token }
	project := func(r *http.Request) string { return r.PathValue("project") } // one part: its slashes are escaped
	const at = "/api/v4/projects/{project}"
	shown := func(n *Note) any {
		return map[string]any{"id": n.ID + 1000, "iid": n.ID, "body": n.Text, "title": n.Title, "description": n.Text, "state": map[bool]string{true: "opened", false: "closed"}[n.Open]}
	}
	comment := func(n *Note) any { return map[string]any{"id": n.ID, "body": n.Text} }
	list := func(r *http.Request, notes []*Note, show func(*Note) any) []any {
		out := []any{}
		for _, n := range notes {
			out = append(out, show(n))
		}
		return page(r, out)
	}
	h.on(mux, "POST "+at+"/statuses/{commit}", signed, []string{"state", "name", "description", "target_url"}, func(r *http.Request, b body) (int, any) {
		state, last := b.text("state"), ""
		if !slices.Contains([]string{"pending", "running", "success", "failed", "canceled", "skipped"}, state) {
			return http.StatusBadRequest, wrong("state does not have a valid value")
		}
		for _, s := range h.statuses {
			if s.Kind == kind && s.Commit == r.PathValue("commit") {
				last = s.State
			}
		}
		if last == state {
			return http.StatusBadRequest, wrong("Cannot transition status via :run from :" + state)
		}
		h.statuses = append(h.statuses, Status{kind, project(r), r.PathValue("commit"), state, b.text("description")})
		return http.StatusCreated, map[string]any{"id": len(h.statuses)}
	})
	h.on(mux, "GET "+at+"/merge_requests/{change}/notes", signed, nil, func(r *http.Request, _ body) (int, any) {
		return http.StatusOK, list(r, choose(h.comments, kind, project(r), number(r, "change")), comment)
	})
	h.on(mux, "POST "+at+"/merge_requests/{change}/notes", signed, []string{"body"}, func(r *http.Request, b body) (int, any) {
		return http.StatusCreated, comment(h.add(&h.comments, Note{Kind: kind, Repository: project(r), Change: number(r, "change"), Text: b.text("body")}))
	})
	h.on(mux, "PUT "+at+"/merge_requests/{change}/notes/{id}", signed, []string{"body"}, func(r *http.Request, b body) (int, any) {
		n := find(h.comments, number(r, "id"))
		if n == nil || n.Change != number(r, "change") {
			return http.StatusNotFound, wrong("404 Note Not Found")
		}
		n.Text = b.text("body")
		return http.StatusOK, comment(n)
	})
	h.on(mux, "GET "+at+"/issues", signed, nil, func(r *http.Request, _ body) (int, any) {
		notes := choose(h.issues, kind, project(r), 0)
		if r.URL.Query().Get("state") == "opened" {
			notes = slices.DeleteFunc(notes, func(n *Note) bool { return !n.Open })
		}
		return http.StatusOK, list(r, notes, shown)
	})
	h.on(mux, "POST "+at+"/issues", signed, []string{"title", "description"}, func(r *http.Request, b body) (int, any) {
		return http.StatusCreated, shown(h.add(&h.issues, Note{Kind: kind, Repository: project(r), Title: b.text("title"), Text: b.text("description")}))
	})
	h.on(mux, "PUT "+at+"/issues/{id}", signed, []string{"title", "description", "state_event"}, func(r *http.Request, b body) (int, any) {
		return change(h.issues, number(r, "id"), b, "description", b.text("state_event") == "close", shown)
	})
}

func (h *Host) azure(mux *http.ServeMux) {
	const kind = "azure-devops"
	signed := func(r *http.Request) bool {
		header := r.Header.Get("Authorization")
		known := header == "Bearer "+Token || header == "Basic "+base64.StdEncoding.EncodeToString([]byte(":"+Token))
		return known && strings.HasPrefix(r.URL.Query().Get("api-version"), "7.")
	}
	const at = "/{organisation}/{project}/_apis/git/repositories/{repository}"
	repo := func(r *http.Request) string { return r.PathValue("project") + "/" + r.PathValue("repository") }
	thread := func(n *Note) any {
		return map[string]any{"id": n.ID, "comments": []any{map[string]any{"id": 1, "content": n.Text}}}
	}
	h.on(mux, "POST "+at+"/commits/{commit}/statuses", signed, []string{"state", "description", "context", "targetUrl"}, func(r *http.Request, b body) (int, any) {
		if !slices.Contains([]string{"notSet", "pending", "succeeded", "failed", "error", "notApplicable"}, b.text("state")) {
			return http.StatusBadRequest, wrong("no state " + b.text("state"))
		}
		if c, ok := b["context"].(map[string]any); !ok || c["name"] == nil {
			return http.StatusBadRequest, wrong("a context has a name")
		}
		h.statuses = append(h.statuses, Status{kind, repo(r), r.PathValue("commit"), b.text("state"), b.text("description")})
		return http.StatusCreated, map[string]any{"id": len(h.statuses)}
	})
	h.on(mux, "GET "+at+"/pullRequests/{change}/threads", signed, nil, func(r *http.Request, _ body) (int, any) {
		out := []any{}
		for _, n := range choose(h.comments, kind, repo(r), number(r, "change")) {
			out = append(out, thread(n))
		}
		return http.StatusOK, map[string]any{"value": out, "count": len(out)}
	})
	h.on(mux, "POST "+at+"/pullRequests/{change}/threads", signed, []string{"comments", "status"}, func(r *http.Request, b body) (int, any) {
		list, _ := b["comments"].([]any)
		if len(list) != 1 {
			return http.StatusBadRequest, wrong("one comment begins a thread")
		}
		first, _ := list[0].(map[string]any)
		return http.StatusOK, thread(h.add(&h.comments, Note{Kind: kind, Repository: repo(r), Change: number(r, "change"), Text: body(first).text("content")}))
	})
	h.on(mux, "PATCH "+at+"/pullRequests/{change}/threads/{id}/comments/{comment}", signed, []string{"content"}, func(r *http.Request, b body) (int, any) {
		n := find(h.comments, number(r, "id"))
		if n == nil || number(r, "comment") != 1 {
			return http.StatusNotFound, wrong("no such comment")
		}
		n.Text = b.text("content")
		return http.StatusOK, map[string]any{"id": 1, "content": n.Text}
	})
}
