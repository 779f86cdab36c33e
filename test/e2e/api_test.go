package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/binnacle-hub/binnacle"
)

// TestAddresses asks the real hub for everything that BinderHub's clients and
// operators ask for.
func TestAddresses(t *testing.T) {
	for path, want := range map[string]struct {
		kind string
		says []string
	}{
		"health":              {"application/json", []string{`"ok":true`}},
		"versions":            {"application/json", []string{`"binderhub"`, `"builder_info"`}},
		"metrics":             {"text/plain", []string{"binderhub_", "go_goroutines"}},
		"api/repoproviders":   {"application/json", []string{`"GitHub"`, `"git"`}},
		"api/openapi.json":    {"application/json", []string{`"openapi"`, "/api/launches/{id}/resolved"}},
		"_config":             {"application/json", []string{`"gh"`}},
		"badge_logo.svg":      {"image/svg+xml", []string{"<svg"}},
		"badge.svg":           {"image/svg+xml", []string{"<svg"}},
		"v2/gh/owner/name/x":  {"text/html", []string{"owner/name"}},
		"v2/git/a%3A%2F%2F/b": {"text/html", []string{"<html"}},
		"":                    {"text/html", []string{"<form"}},
		"about":               {"text/html", []string{"<html"}},
	} {
		resp, body := fetch(t, the.url()+path)
		text := strings.ReplaceAll(body, `": `, `":`)
		for _, says := range want.says {
			if !strings.Contains(text, says) {
				t.Errorf("%s does not say %s: %.300s", path, says, body)
			}
		}
		if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, want.kind) {
			t.Errorf("%s is %s; want %s", path, kind, want.kind)
		}
	}
	resp, body := fetch(t, the.url()+"nothing/here")
	if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "<html") {
		t.Errorf("nothing: %d %.200s", resp.StatusCode, body)
	}
}

func fetch(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	resp, body, err := tryFetch(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func tryFetch(ctx context.Context, address string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := noRedirects().Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// TestDoors tries the ways into somebody else's session: WebSockets without the
// token or with another's, and paths that climb.
func TestDoors(t *testing.T) {
	repo := the.example(t, "plain")
	mine, mySession := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, mine)
	theirs, _ := ready(t, the.public(), binnacle.LaunchRequest{Repo: repo.URL})
	stopAfter(t, theirs)
	k, err := mySession.StartKernel(t.Context(), "python3")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	u, err := url.Parse(mine.Session.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"none": "", "another's": theirs.Session.Token, "wrong": mine.Session.Token[1:] + mine.Session.Token[:1]} {
		address := "ws://" + u.Host + u.Path + "terminals/websocket/1"
		if token != "" {
			address += "?token=" + token
		}
		conn, resp, err := websocket.Dial(t.Context(), address, nil)
		if err == nil {
			_ = conn.CloseNow()
			t.Errorf("token %s: a WebSocket was opened", name)
			continue
		}
		if resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("token %s: %v %v; want 403", name, resp, err)
		}
		if resp, body := fetch(t, mine.Session.URL+"api/contents?token="+token); resp.StatusCode != http.StatusForbidden {
			t.Errorf("token %s: the files answer %d %.200s", name, resp.StatusCode, body)
		}
	}
	climb := u.Path + "../" + theirs.Session.ID + "/api/contents?token=" + mine.Session.Token
	for _, path := range []string{
		climb, strings.ReplaceAll(climb, "../", "%2e%2e/"), strings.ReplaceAll(climb, "../", "..%2f"), strings.ReplaceAll(climb, "../", "%2e%2e%2f"),
		strings.ReplaceAll(climb, "../", "..\\"), strings.ReplaceAll(climb, "../", "./.././"), strings.ReplaceAll(climb, "../", "..;/"),
		u.Path + "../../api/usage", u.Path + "%2e%2e/%2e%2e/api/usage", "//" + u.Host + "/api/usage", "/user//api/usage", "/user/%00/", "/user/" + strings.ToUpper(mine.Session.ID) + "/lab",
	} {
		status, body := raw(t, u.Host, path)
		if strings.Contains(body, theirs.Session.Token) || strings.Contains(body, `"total"`) || (status == http.StatusOK && strings.Contains(body, `"content"`)) {
			t.Errorf("%s leads somewhere: %d %.300s", path, status, body)
		}
		if status < 300 || status >= 500 {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
}

// raw sends a path as it is: clients would tidy it.
func raw(t *testing.T, host, path string) (int, string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
