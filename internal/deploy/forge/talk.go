package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// mark begins every text of ours, unseen, so that the next one takes its place
// instead of standing below it.
func mark(topic string) string { return "<!-- binnacle " + topic + " -->" }

// pages is how many pages of comments or issues are looked through, each of
// perPage.
const pages, perPage = 20, 100

// note is a comment or an issue, as far as it concerns us.
type note struct {
	ID     int    `json:"id"`
	IID    int    `json:"iid"` // of GitLab's issues
	Number int    `json:"number"`
	Body   string `json:"body"`
	Text   string `json:"description"` // of GitLab's issues
}

// Comment writes a comment on a proposed change, or writes the one that is there
// from an earlier run anew. The topic keeps kinds of comments apart.
func (c *Client) Comment(ctx context.Context, change int, topic, text string) error {
	text = mark(topic) + "\n" + text
	number := strconv.Itoa(change)
	if c.o.Kind == Azure {
		return c.thread(ctx, number, topic, text)
	}
	list, one := c.at("issues", number, "comments"), func(id int) string { return c.at("issues", "comments", strconv.Itoa(id)) }
	method := http.MethodPatch
	if c.o.Kind == GitLab {
		list, one = c.at("merge_requests", number, "notes"), func(id int) string { return c.at("merge_requests", number, "notes", strconv.Itoa(id)) }
		method = http.MethodPut
	}
	found, err := c.find(ctx, list, topic)
	if err != nil {
		return err
	}
	body := map[string]string{"body": text}
	if found != nil {
		return c.send(ctx, method, one(found.ID), body, nil)
	}
	return c.send(ctx, http.MethodPost, list, body, nil)
}

// find looks for our text in a list; nil is none.
func (c *Client) find(ctx context.Context, list, topic string) (*note, error) {
	sep := "?"
	if strings.Contains(list, "?") {
		sep = "&"
	}
	for page := 1; page <= pages; page++ {
		var found []note
		// Gitea knows limit, the others per_page.
		if err := c.send(ctx, http.MethodGet, fmt.Sprintf("%s%sper_page=%d&limit=%[3]d&page=%d", list, sep, perPage, page), nil, &found); err != nil {
			return nil, err
		}
		for _, n := range found {
			if strings.HasPrefix(n.Body+n.Text, mark(topic)) {
				return &n, nil
			}
		}
		if len(found) == 0 || c.o.Kind != Gitea && len(found) < perPage {
			break
		}
	}
	return nil, nil
}

// thread is Comment on Azure DevOps, where comments are in threads.
func (c *Client) thread(ctx context.Context, change, topic, text string) error {
	list := c.at("pullRequests", change, "threads")
	var threads struct {
		Value []struct {
			ID       int `json:"id"`
			Comments []struct {
				ID      int    `json:"id"`
				Content string `json:"content"`
			} `json:"comments"`
		} `json:"value"`
	}
	if err := c.send(ctx, http.MethodGet, versioned(list), nil, &threads); err != nil {
		return err
	}
	for _, t := range threads.Value {
		if len(t.Comments) > 0 && strings.HasPrefix(t.Comments[0].Content, mark(topic)) {
			address := c.at("pullRequests", change, "threads", strconv.Itoa(t.ID), "comments", strconv.Itoa(t.Comments[0].ID))
			return c.send(ctx, http.MethodPatch, versioned(address), map[string]any{"content": text}, nil)
		}
	}
	const closed = "closed" // an open one would keep the request from being accepted, where that is asked for
	return c.send(ctx, http.MethodPost, versioned(list), map[string]any{
		"comments": []any{map[string]any{"parentCommentId": 0, "content": text, "commentType": "text"}}, "status": closed,
	}, nil)
}

// Issue opens an issue, or writes the open one from an earlier run anew; an empty
// text closes it. Returns invalid on Azure DevOps, whose work items differ from
// project to project.
func (c *Client) Issue(ctx context.Context, topic, title, text string) error {
	if c.o.Kind == Azure {
		return binnacle.Errorf(binnacle.CodeInvalid, "Azure DevOps has no issues that every project knows.")
	}
	open, body, method := "open", "body", http.MethodPatch
	shut := map[string]any{"state": "closed"}
	if c.o.Kind == GitLab {
		open, body, method = "opened", "description", http.MethodPut
		shut = map[string]any{"state_event": "close"}
	}
	found, err := c.find(ctx, c.at("issues")+"?"+url.Values{"state": {open}}.Encode(), topic)
	if err != nil {
		return err
	}
	number := func() string {
		if c.o.Kind == GitLab {
			return strconv.Itoa(found.IID)
		}
		return strconv.Itoa(found.Number)
	}
	switch {
	case text == "" && found == nil:
		return nil
	case text == "":
		return c.send(ctx, method, c.at("issues", number()), shut, nil)
	case found == nil:
		return c.send(ctx, http.MethodPost, c.at("issues"), map[string]any{"title": title, body: mark(topic) + "\n" + text}, nil)
	}
	return c.send(ctx, method, c.at("issues", number()), map[string]any{"title": title, body: mark(topic) + "\n" + text}, nil)
}
