// Package forge writes to the places where people propose and discuss changes:
// the verdict on a commit, a comment on a proposed change, an issue. It speaks
// the documented APIs of GitHub, GitLab, Gitea (and Forgejo), and Azure DevOps.
package forge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// The kinds of forge.
const (
	GitHub = "github"
	GitLab = "gitlab"
	Gitea  = "gitea"
	Azure  = "azure-devops"
)

// State is what is known of a commit.
type State string

// The states of a commit.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure" // of the commit itself
	Trouble State = "error"   // of something else; it is tried again
)

// label is what our statuses are called.
const label = "binnacle/deploy"

// Options are what a [Client] is made from.
type Options struct {
	Kind string
	// Repository is its address, as git has it.
	Repository string
	// API is the address of the forge's API; empty follows from Repository's.
	API string
	// Token may write there.
	Token config.Secret
	// Job says that Token is one of GitLab's for a job, which goes into another
	// header; on Azure DevOps that it is the pipeline's own.
	Job bool
	// HTTP sends the requests.
	HTTP *http.Client
}

// Client writes to one repository of a forge.
type Client struct {
	o    Options
	api  string // without a slash at the end
	repo []string
}

// New makes a client. Returns invalid for an address that the kind of forge has
// not.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Repository)
	shown := "This" // a password may be in what is no address
	if err == nil {
		shown = u.Redacted()
	}
	wrong := func(what string) error {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "forge.repository", Message: fmt.Sprintf("%s is not the address of a repository of %s: %s.", shown, o.Kind, what)}
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, wrong("an https address is expected")
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	c := &Client{o: o, api: strings.TrimSuffix(o.API, "/"), repo: strings.Split(path, "/")}
	base := u.Scheme + "://" + u.Host
	switch o.Kind {
	case GitHub:
		c.fallback(base + "/api/v3")
		if u.Host == "github.com" && o.API == "" {
			c.api = "https://api.github.com"
		}
	case Gitea:
		c.fallback(base + "/api/v1")
	case GitLab:
		c.fallback(base + "/api/v4")
		if len(c.repo) < 2 {
			return nil, wrong("a group and a project are expected")
		}
		return c, nil
	case Azure:
		return c, c.azure(u, wrong)
	default:
		return nil, binnacle.Errorf(binnacle.CodeInvalid, "There is no forge %q; choose one of %s.", o.Kind, strings.Join(config.Forges(), ", "))
	}
	if len(c.repo) != 2 {
		return nil, wrong("an owner and a name are expected")
	}
	return c, nil
}

func (c *Client) fallback(api string) {
	if c.api == "" {
		c.api = api
	}
}

// azure takes an address apart: dev.azure.com/ORGANISATION/PROJECT/_git/NAME, or
// ORGANISATION.visualstudio.com/PROJECT/_git/NAME.
func (c *Client) azure(u *url.URL, wrong func(string) error) error {
	before, name, ok := strings.Cut(strings.Join(c.repo, "/"), "/_git/")
	parts := strings.Split(before, "/")
	project := parts[len(parts)-1]
	if !ok || project == "" || name == "" || strings.Contains(name, "/") {
		return wrong("…/PROJECT/_git/NAME is expected")
	}
	c.fallback(strings.TrimSuffix(u.Scheme+"://"+u.Host+"/"+strings.Join(parts[:len(parts)-1], "/"), "/"))
	c.repo = []string{project, name}
	return nil
}

// path joins escaped parts to an address of the API.
func (c *Client) path(parts ...string) string {
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return c.api + "/" + strings.Join(parts, "/")
}

// at is an address below the repository's own.
func (c *Client) at(parts ...string) string {
	switch c.o.Kind {
	case GitLab:
		return c.path(append([]string{"projects", strings.Join(c.repo, "/")}, parts...)...)
	case Azure:
		return c.path(append([]string{c.repo[0], "_apis", "git", "repositories", c.repo[1]}, parts...)...)
	default:
		return c.path(append([]string{"repos", c.repo[0], c.repo[1]}, parts...)...)
	}
}

// versioned is Azure DevOps' version of an address.
func versioned(address string) string { return address + "?api-version=7.1" }

// Status writes what is known of a commit, in a few words.
func (c *Client) Status(ctx context.Context, commit string, s State, text string) error {
	const most = 140 // of GitHub
	text = cut(text, most)
	switch c.o.Kind {
	case GitLab:
		state := map[State]string{Pending: "running", Success: "success", Failure: "failed", Trouble: "failed"}[s]
		err := c.send(ctx, http.MethodPost, c.at("statuses", commit), map[string]any{"state": state, "name": label, "description": text}, nil)
		if e, ok := errors.AsType[*answerError](err); ok && e.status == http.StatusBadRequest && strings.Contains(e.text, "Cannot transition status") {
			return nil // it is in that state already
		}
		return err
	case Azure:
		state := map[State]string{Pending: "pending", Success: "succeeded", Failure: "failed", Trouble: "error"}[s]
		genre, name, _ := strings.Cut(label, "/")
		return c.send(ctx, http.MethodPost, versioned(c.at("commits", commit, "statuses")),
			map[string]any{"state": state, "description": text, "context": map[string]string{"name": name, "genre": genre}}, nil)
	default:
		return c.send(ctx, http.MethodPost, c.at("statuses", commit), map[string]any{"state": s, "description": text, "context": label}, nil)
	}
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// answerError is an answer that is none of success.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.text) }

// send asks the API for something; into gets the answer, unless it is nil.
func (c *Client) send(ctx context.Context, method, address string, body, into any) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write to the forge: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return fmt.Errorf("write to the forge: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "binnacle")
	c.sign(req)
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "forge", Message: fmt.Sprintf("The forge %s does not answer.", req.URL.Host), Err: err}
	}
	defer resp.Body.Close()
	const most = 8 << 20
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("read the forge's answer: %w", err)
	}
	// Azure DevOps answers who is not known with 203 and a page to sign in.
	if s := resp.StatusCode; s < http.StatusOK || s >= http.StatusMultipleChoices || s == http.StatusNonAuthoritativeInfo {
		return c.refused(req, &answerError{resp.StatusCode, cut(string(b), 300)})
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the forge's answer: %w", err)
	}
	return nil
}

// sign adds the token, the way the kind of forge wants it.
func (c *Client) sign(req *http.Request) {
	token := string(c.o.Token)
	switch {
	case c.o.Kind == GitLab && c.o.Job:
		req.Header.Set("JOB-TOKEN", token)
	case c.o.Kind == GitLab:
		req.Header.Set("PRIVATE-TOKEN", token)
	case c.o.Kind == Gitea:
		req.Header.Set("Authorization", "token "+token)
	case c.o.Kind == Azure && !c.o.Job:
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(":"+token)))
	default:
		req.Header.Set("Authorization", "Bearer "+token)
	}
}

// refused says in words what a forge answered.
func (c *Client) refused(req *http.Request, err *answerError) error {
	e := &binnacle.Error{Code: binnacle.CodeUnavailable, Op: "forge", Message: fmt.Sprintf("%s refuses: %v.", req.URL.Host, err), Err: err}
	switch err.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNonAuthoritativeInfo:
		e.Code, e.Hint = binnacle.CodeForbidden, "The token must be one that may write commit statuses, comments or issues of "+strings.Join(c.repo, "/")+", whichever this is."
	case http.StatusNotFound:
		e.Code, e.Hint = binnacle.CodeNotFound, "Is it the right repository, and may the token see it? Forges hide what a token may not see."
	}
	return e
}
