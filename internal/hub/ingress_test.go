package hub_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
	"github.com/binnacle-hub/binnacle/internal/proxy"
	"github.com/binnacle-hub/binnacle/test/nginx"
)

// fixed is a backend of one session.
type fixed string

func (f fixed) Dial(ctx context.Context, id string) (net.Conn, error) {
	if id != "o-r-launch1" {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "no session")
	}
	return new(net.Dialer).DialContext(ctx, "tcp", string(f))
}

// annotations are those that the documentation tells people to set.
func annotations(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(nginx\.ingress\.kubernetes\.io/[a-z-]+): "([^"]*)"`).FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = m[2]
	}
	if len(out) < 3 {
		t.Fatalf("docs/kubernetes.md has only %v", out)
	}
	return out
}

// echo is a session's server: a WebSocket that answers, and a place for files.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-For")+" "+r.Host+" "+strconv.FormatInt(n, 10))
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// TestIngress: behind an nginx as an institute's ingress has it, with what the
// documentation says to set, pages, events as they come, WebSockets and large files
// work, and the hub knows who asks and how, when it is told to believe the nginx.
func TestIngress(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an nginx")
	}
	for _, trusted := range []bool{true, false} {
		name := "not trusted"
		cfg, forward := hub.Config{Secret: []byte(strings.Repeat("k", 32)), KeepAlive: time.Hour}, proxy.DefaultConfig()
		if trusted {
			name = "trusted"
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			forward.TrustedProxies = cfg.TrustedProxies
		}
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.script = func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
				events, l := builtScript(req)
				if req.Path == "later" {
					events, l.Phase = events[:4], binnacle.PhaseBuilding
				}
				return events, l
			}
			session := echo(t)
			p := proxy.New(forward, fixed(session.Listener.Addr().String()), slog.New(slog.NewTextHandler(t.Output(), nil)))
			h, err := hub.New(t.Context(), cfg, hub.Deps{Service: f, Parse: parse, Proxy: p, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			if err != nil {
				t.Fatal(err)
			}
			pages := h.Handler()
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if p.Handles(r) {
					p.ServeHTTP(w, r)
					return
				}
				pages.ServeHTTP(w, r)
			}))
			t.Cleanup(func() {
				upstream.CloseClientConnections()
				upstream.Close()
				h.Close()
				_ = p.Close()
			})
			front := nginx.Start(t, upstream.Listener.Addr().String(), annotations(t))
			through(t, f, front, trusted)
		})
	}
}

func through(t *testing.T, f *fake, front *nginx.Server, trusted bool) {
	t.Helper()
	const person = "127.0.0.7"
	browser := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: front.Roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(person)}}
			return d.DialContext(ctx, network, front.Address)
		},
	}}
	base := "https://" + front.Name
	do := func(method, path, body string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Forwarded-For", "192.0.2.66") // a person may claim anything
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	if resp, body := do("GET", "/", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("page: %s %.200s", resp.Status, body)
	}
	resp, body := do("POST", "/api/launches", `{"repo":"gh/o/r/HEAD"}`)
	token := resp.Header.Get(hub.TokenHeader)
	wantAddress, wantURL := person, base+"/user/o-r-launch1/"
	if !trusted {
		wantAddress, wantURL = "127.0.0.1", "http://"+front.Name+"/user/o-r-launch1/"
	}
	if resp.StatusCode != http.StatusAccepted || f.callers[0].Address != wantAddress || !strings.Contains(body, `"url":"`+wantURL) {
		t.Errorf("launch: %s by %s: %s", resp.Status, f.callers[0].Address, body)
	}

	// Events come when they happen: the stream of a launch that goes on does not end.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/launches", strings.NewReader(`{"repo":"gh/o/r/HEAD","path":"later"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, err = browser.Do(req); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	req, err = http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/launches/launch2/events?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	if resp, err = browser.Do(req); err != nil {
		t.Fatal(err)
	}
	lines, seen := bufio.NewScanner(resp.Body), false
	for !seen && lines.Scan() {
		seen = strings.Contains(lines.Text(), `"fetching"`)
	}
	if !seen {
		t.Error("the ingress holds events back:", lines.Err())
	}
	_ = resp.Body.Close()

	// A kernel's WebSocket, and a file that is larger than an ingress likes.
	c, _, err := websocket.Dial(ctx, "wss://"+front.Name+"/user/o-r-launch1/api/kernels/1/channels", &websocket.DialOptions{HTTPClient: browser})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for _, word := range []string{"one", "two"} {
		if err := c.Write(ctx, websocket.MessageText, []byte(word)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != word {
			t.Fatalf("%q %v", b, err)
		}
	}
	resp, body = do("PUT", "/user/o-r-launch1/files/large", strings.Repeat("x", 8<<20))
	want := "https " + person + ", 127.0.0.1 " + front.Name
	if !trusted {
		want = "http 127.0.0.1 " + front.Name
	}
	if want += " " + strconv.Itoa(8<<20); resp.StatusCode != http.StatusOK || body != want {
		t.Errorf("upload: %s %q, not %q", resp.Status, body, want)
	}
}
