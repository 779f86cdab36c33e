package proxy_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/proxy"
)

func TestForwarded(t *testing.T) {
	const sent = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: pub.example\r\nX-Real-IP: 192.0.2.9\r\n" +
		"Forwarded: for=192.0.2.9\r\nX-Hop: 1\r\nConnection: close, X-Hop\r\nTE: trailers, deflate\r\n"
	for _, tt := range []struct {
		name    string
		trusted []netip.Prefix
		want    []string
	}{
		{"stranger", nil, []string{"For: 127.0.0.1", "Proto: http", "Host: h.example:8080", "Port: 8080"}},
		{"other trusted", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []string{"For: 127.0.0.1", "Proto: http", "Host: h.example:8080", "Port: 8080"}},
		{"trusted", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"For: 192.0.2.9, 127.0.0.1", "Proto: https", "Host: pub.example", "Port: 443"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config()
			cfg.TrustedProxies = tt.trusted
			s := newStage(t, cfg).start()
			s.serve(t, "a", http.HandlerFunc(mirror))
			got := s.send(t, "GET /user/a/ HTTP/1.1\r\nHost: h.example:8080\r\n"+sent+"\r\n")
			for _, w := range tt.want {
				if !strings.Contains(got, "Got-X-Forwarded-"+w+"\r\n") {
					t.Errorf("no %q in %q", w, got)
				}
			}
			for _, not := range []string{"Got-X-Real-Ip", "Got-Forwarded", "Got-X-Hop", "Got-Connection", "deflate"} {
				if strings.Contains(got, not) {
					t.Errorf("%s in %q", not, got)
				}
			}
			if !strings.Contains(got, "X-Asked: GET /user/a/ h.example:8080\r\n") {
				t.Errorf("the host was not kept: %q", got)
			}
		})
	}
}

func TestAnswerHeaders(t *testing.T) {
	evil := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, c := range []string{"a=1; Domain=.example; Path=/", "__Host-binnacle=1; Secure; Path=/", "b=2; Path=/user/a/; HttpOnly"} {
			h.Add("Set-Cookie", c)
		}
		h.Set("Service-Worker-Allowed", "/")
		h.Set("Clear-Site-Data", `"cookies"`)
		h.Set("Strict-Transport-Security", "max-age=1")
		h.Set("Alt-Svc", `h2="elsewhere.example:443"`)
		h.Set("Content-Type", r.URL.Query().Get("type"))
		if csp := r.URL.Query().Get("csp"); csp != "" {
			h.Set("Content-Security-Policy", csp)
		}
	})
	get := func(t *testing.T, cfg proxy.Config, host, target string) http.Header {
		t.Helper()
		s := newStage(t, cfg).start()
		s.serve(t, "a", evil)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.front.URL+target, nil)
		req.Host = host
		res, err := s.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		for _, name := range []string{"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc"} {
			if res.Header.Get(name) != "" {
				t.Errorf("%s passed", name)
			}
		}
		return res.Header
	}
	t.Run("path mode", func(t *testing.T) {
		h := get(t, config(), "", "/user/a/files/x.html?type=text/html")
		want := []string{"a=1; Path=/user/a/", "b=2; HttpOnly; Path=/user/a/"}
		if diff := cmp.Diff(want, h["Set-Cookie"]); diff != "" {
			t.Error(diff)
		}
		if h.Get("Referrer-Policy") != "same-origin" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("got %v", h)
		}
	})
	t.Run("own host", func(t *testing.T) {
		cfg := config()
		cfg.SessionDomain = "s.example"
		h := get(t, cfg, "a.s.example", "/user/a/x?type=text/html")
		want := []string{"a=1; Path=/", "b=2; HttpOnly; Path=/user/a/"}
		if diff := cmp.Diff(want, h["Set-Cookie"]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("sandbox", func(t *testing.T) {
		for target, want := range map[string][]string{
			"files/x.html?type=text/html":                               {"sandbox allow-scripts"},
			"%66iles/x.html?type=text/html;charset=utf-8":               {"sandbox allow-scripts"},
			"lab/../files/x.svg?type=image/svg%2Bxml":                   {"sandbox allow-scripts"},
			"/nbconvert/html/x?type=text/html":                          {"sandbox allow-scripts"},
			"files/x?type=text/html&csp=frame-ancestors+x":              {"frame-ancestors x", "sandbox allow-scripts"},
			"files/x?type=text/html&csp=a+b%3Bsandbox+allow-forms":      {"a b;sandbox allow-forms"},
			"files/x.png?type=image/png":                                nil,
			"lab?type=text/html":                                        nil,
			"api/contents/files/x?type=text/html&csp=frame-ancestors+x": {"frame-ancestors x"},
		} {
			if diff := cmp.Diff(want, get(t, config(), "", "/user/a/"+target)["Content-Security-Policy"]); diff != "" {
				t.Errorf("%s: %s", target, diff)
			}
		}
	})
	t.Run("frames", func(t *testing.T) {
		cfg := config()
		cfg.FrameAncestors = []string{"'self'", "https://example.org"}
		h := get(t, cfg, "", "/user/a/lab?type=text/html&csp=frame-ancestors+none%3Breport-uri+/x")
		if diff := cmp.Diff([]string{"report-uri /x", "frame-ancestors 'self' https://example.org"}, h["Content-Security-Policy"]); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSessionHosts(t *testing.T) {
	cfg := config()
	cfg.SessionDomain = "s.example:8443"
	s := newStage(t, cfg).start()
	s.serve(t, "a", http.HandlerFunc(mirror))
	s.serve(t, "b", http.HandlerFunc(mirror))
	for _, tt := range []struct {
		method, host, target string
		status               int
		location             string
	}{
		{"GET", "a.s.example:8443", "/user/a/lab", 200, ""},
		{"POST", "A.S.EXAMPLE.", "/user/a/lab", 200, ""},
		{"GET", "a.s.example", "/user/b/lab", 404, ""},
		{"GET", "a.s.example", "/?token=x", 307, "/user/a/?token=x"},
		{"GET", "a.s.example", "/user/a?x", 307, "/user/a/?x"},
		{"GET", "a.s.example", "/api", 404, ""},
		{"GET", "x.a.s.example", "/user/a/", 404, ""},
		{"GET", "hub.example", "/user/a/lab?token=x", 307, "//a.s.example:8443/user/a/lab?token=x"},
		{"POST", "hub.example", "/user/a/lab", 404, ""},
		{"GET", "a.s.example.evil.example", "/user/a/", 307, "//a.s.example:8443/user/a/"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), tt.method, s.front.URL+tt.target, nil)
		req.Host = tt.host
		if !s.proxy.Handles(req) {
			t.Errorf("%s %s is not handled", tt.host, tt.target)
		}
		res, err := s.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != tt.status || res.Header.Get("Location") != tt.location {
			t.Errorf("%s %s %s: %d %q", tt.method, tt.host, tt.target, res.StatusCode, res.Header.Get("Location"))
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.front.URL+"/launch", nil)
	req.Host = "hub.example"
	if s.proxy.Handles(req) {
		t.Error("the hub's own page is handled")
	}
}

func TestErrorPages(t *testing.T) {
	cfg := config()
	cfg.StartWait = 50 * time.Millisecond
	cfg.HubURL = "https://hub.example/"
	s := newStage(t, cfg).start()
	s.setError("exited", binnacle.Errorf(binnacle.CodeUnavailable, "It used more than 2 GiB of memory."))
	s.setError("late", binnacle.Errorf(binnacle.CodeTimeout, "x"))
	s.setError("broken", &net.OpError{Op: "dial", Net: "unix", Err: context.Canceled})
	s.setGone("idle", "It was idle <for> 10 minutes.")
	for _, tt := range []struct {
		id     string
		status int
		text   string
	}{
		{"nobody", 404, "no session"},
		{"exited", 503, "more than 2 GiB"},
		{"late", 503, "still starting"},
		{"broken", 502, "did not answer"},
		{"idle", 410, "idle &lt;for&gt; 10"},
	} {
		res, body := do(t, s.client(), "GET", s.front.URL+"/user/"+tt.id+"/lab?token=SECRET", nil, "Accept", "text/html,*/*")
		if res.StatusCode != tt.status || !strings.Contains(body, tt.text) || !strings.Contains(body, `href="https://hub.example/"`) {
			t.Errorf("%s: %d %s", tt.id, res.StatusCode, body)
		}
		if refresh := strings.Contains(body, "http-equiv=\"refresh\""); refresh != (tt.id == "late") || (tt.id == "late") != (res.Header.Get("Retry-After") != "" && tt.status == 503) {
			t.Errorf("%s: refresh %v", tt.id, refresh)
		}
		for _, ask := range [][]string{{"api/x", "*/*"}, {"lab", "application/json"}} {
			res, body := do(t, s.client(), "GET", s.front.URL+"/user/"+tt.id+"/"+ask[0], nil, "Accept", ask[1])
			var e binnacle.Error
			if err := json.Unmarshal([]byte(body), &e); err != nil || res.StatusCode != tt.status || e.Message == "" || e.Code == "" {
				t.Errorf("%s as JSON: %d %s", tt.id, res.StatusCode, body)
			}
		}
		if res, body := do(t, s.client(), "HEAD", s.front.URL+"/user/"+tt.id+"/lab", nil); res.StatusCode != tt.status || body != "" {
			t.Errorf("%s HEAD: %d", tt.id, res.StatusCode)
		}
	}
	if strings.Contains(s.log.String(), "SECRET") {
		t.Errorf("a token is in the log: %s", s.log)
	}
	if got := s.proxy.Stats(); got.Failed != 20 {
		t.Errorf("stats %+v", got)
	}
}

// parking holds a Dial until it is let go.
type parking struct {
	fleet
	let chan struct{}
}

func (p *parking) Dial(ctx context.Context, id string) (net.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.let:
		return p.fleet.Dial(ctx, id)
	}
}

func TestParking(t *testing.T) {
	cfg := config()
	cfg.MaxParked = 3
	inner := newStage(t, cfg).start()
	inner.serve(t, "a", http.HandlerFunc(mirror))
	b := &parking{let: make(chan struct{})}
	b.address = inner.address
	s := newStage(t, cfg)
	p := proxy.New(cfg, b, nil)
	t.Cleanup(func() { _ = p.Close() })
	s.front.Config.Handler = p
	s.start()
	got := make(chan int, 3)
	for range 3 {
		go func() {
			res, err := s.client().Get(s.front.URL + "/user/a/")
			if err != nil {
				got <- 0
				return
			}
			_ = res.Body.Close()
			got <- res.StatusCode
		}()
	}
	eventually(t, "three wait", func() bool { return p.Stats().Parked == 3 })
	if res, _ := do(t, s.client(), "GET", s.front.URL+"/user/a/", nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", res.StatusCode)
	}
	close(b.let)
	for range 3 {
		if code := <-got; code != 200 {
			t.Errorf("a parked request: %d", code)
		}
	}
	if n := p.Stats().Parked; n != 0 {
		t.Errorf("%d still wait", n)
	}
}

func TestValidate(t *testing.T) {
	if err := proxy.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	bad := proxy.Config{SessionDomain: "a b", TrustedProxies: []netip.Prefix{{}}, HubURL: "javascript:x", FrameAncestors: []string{"x; y"}, MaxIdle: -1}
	err := bad.Validate()
	for _, field := range []string{"session_domain", "trusted_proxies[0]", "hub_url", "frame_ancestors[0]", "start_wait", "write_timeout", "idle_timeout", "half_close", "max_idle", "max_parked"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("nothing about %s in %v", field, err)
		}
	}
}
