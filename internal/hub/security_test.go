package hub_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// TestCrossSite asks for changes from other sites: none is done.
func TestCrossSite(t *testing.T) {
	f := newFake()
	public, _ := start(t, f)
	resp, _ := ask(t, "GET", public.URL+"/", "", "Sec-Fetch-Site: none")
	cookie := "Cookie: " + strings.Split(resp.Header.Get("Set-Cookie"), ";")[0]
	for _, tc := range []struct {
		name   string
		header []string
		status int
	}{
		{"cross-site", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"sibling session", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"no-cors", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"old browser", []string{"Origin: https://evil.example.org"}, 403},
		{"null origin", []string{"Origin: null"}, 403},
		{"own page", []string{"Sec-Fetch-Site: same-origin"}, 202},
		{"old browser, own page", []string{"Origin: " + public.URL}, 202},
		{"program", nil, 202},
	} {
		before := len(f.launches)
		resp, body := ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r"}`, append([]string{cookie}, tc.header...)...)
		if resp.StatusCode != tc.status || len(f.launches)-before != map[int]int{403: 0, 202: 1}[tc.status] {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, body)
		}
	}
	own, program := f.callers[len(f.callers)-2].Owner, f.callers[len(f.callers)-1].Owner
	if own == program {
		t.Error("a program without a browser's word speaks with the cookie's authority")
	}
	if f.callers[0].Owner != own {
		t.Error("two changes from the own page have two owners")
	}
}

// TestIdentity keeps people apart and forged names out.
func TestIdentity(t *testing.T) {
	f := newFake()
	public, trusted := start(t, f)
	resp, _ := ask(t, "GET", public.URL+"/", "", "Sec-Fetch-Site: none", "Accept: text/html")
	set := resp.Header.Get("Set-Cookie")
	for _, want := range []string{"binnacle=", "HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(set, want) {
			t.Errorf("%s misses %s", set, want)
		}
	}
	mine := "Cookie: " + strings.Split(set, ";")[0]
	if resp, _ := ask(t, "GET", public.URL+"/", "", mine, "Sec-Fetch-Site: same-origin"); resp.Header.Get("Set-Cookie") != "" {
		t.Error("who has a name gets another")
	}
	ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r"}`, mine, "Sec-Fetch-Site: same-origin")
	for name, header := range map[string]string{
		"mine": mine, "stranger": "X-Nothing: 1", "forged": mine[:len(mine)-4] + "AAAA", "tossed": "Cookie: binnacle=x.y; binnacle=" + strings.TrimPrefix(mine, "Cookie: binnacle="),
	} {
		_, body := ask(t, "GET", public.URL+"/api/launches", "", header, "Sec-Fetch-Site: same-origin")
		if got, want := strings.Contains(body, "launch1"), name == "mine" || name == "tossed"; got != want {
			t.Errorf("%s sees %s", name, body)
		}
		resp, _ := ask(t, "DELETE", public.URL+"/api/sessions/o-r-launch1", "", header, "Sec-Fetch-Site: same-site")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s stops a session from a sibling: %d", name, resp.StatusCode)
		}
	}
	if resp, _ := ask(t, "GET", public.URL+"/api/launches", "", "Authorization: Bearer x.y"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token: %d", resp.StatusCode)
	}
	if _, body := ask(t, "GET", trusted.URL+"/api/launches", ""); !strings.Contains(body, "launch1") {
		t.Errorf("the operator sees %s", body)
	}
}

func TestSecureCookie(t *testing.T) {
	f := newFake()
	public, _ := start(t, f, func(o *options) {
		o.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	resp, _ := ask(t, "GET", public.URL+"/", "", "Sec-Fetch-Site: none", "X-Forwarded-Proto: https")
	if set := resp.Header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-binnacle=") || !strings.Contains(set, "; Secure") {
		t.Error(set)
	}
	ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r"}`, "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.3")
	if got := f.callers[0].Address; got != "192.0.2.7" {
		t.Errorf("address %s", got)
	}
}

func TestHeaders(t *testing.T) {
	public, _ := start(t, newFake(), func(o *options) { o.cfg.SessionDomain = "s.example.org" })
	for _, path := range []string{"/", "/v2/gh/o/r/HEAD", "/sessions", "/about", "/nothing", "/api/version", "/api/nothing", "/versions", "/badge_logo.svg"} {
		resp, body := ask(t, "GET", public.URL+path, "")
		h := resp.Header
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'self'") || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
		if strings.Contains(body, "<style") || strings.Contains(body, " style=") || strings.Contains(body, " onclick=") || strings.Contains(body, "<script>") {
			t.Errorf("%s holds what its policy forbids", path)
		}
	}
	for _, tc := range []struct{ path, host, want string }{
		{"/user/x/lab", "", "proxy"}, {"/api/launches", "x-1.s.example.org", "proxy"}, {"/", "X-1.S.Example.Org:80", "proxy"}, {"/", "s.example.org", "<!doctype"},
	} {
		var header []string
		if tc.host != "" {
			header = append(header, "Host: "+tc.host)
		}
		resp, body := ask(t, "GET", public.URL+tc.path, "", header...)
		if !strings.HasPrefix(body, tc.want) || (tc.want == "proxy") == (resp.Header.Get("Content-Security-Policy") != "") {
			t.Errorf("%s%s: %.60s %v", tc.host, tc.path, body, resp.Header)
		}
	}
}

// TestNoOpenRedirect looks at where hostile addresses lead.
func TestNoOpenRedirect(t *testing.T) {
	public, _ := start(t, newFake())
	for _, path := range []string{
		"//evil.example.org/", "//evil.example.org/%2e%2e", "/\\evil.example.org", "/repo//evil.example.org", "/repo/%2F%2Fevil.example.org/x", "/repo/a/b/%2F%2Fevil.example.org",
		"/v2//evil.example.org", "/v2/?repo=https://github.com/o/r&path=//evil.example.org", "/v2/?repo=//evil.example.org", "/v2/?repo=https://github.com//evil.example.org/x", "/sessions/..//evil.example.org",
	} {
		resp, _ := ask(t, "GET", public.URL+path, "")
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || to.Host != "" || strings.HasPrefix(resp.Header.Get("Location"), "//") || strings.HasPrefix(resp.Header.Get("Location"), "/\\") {
			t.Errorf("%s leads to %s", path, resp.Header.Get("Location"))
		}
	}
	s := binnacle.Session{URL: "https://hub.example.org/user/s/", Token: "t&"}
	for path, want := range map[string]string{
		"lab/tree/a.ipynb": "https://hub.example.org/user/s/lab/tree/a.ipynb?token=t%26", "/x?y=1": "https://hub.example.org/user/s/x?y=1&token=t%26",
		"../../other": "https://hub.example.org/user/s/?token=t%26", "": "https://hub.example.org/user/s/?token=t%26",
	} {
		if got := hub.OpenURL(s, path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}

// TestTextIsText puts markup into every text of the launch page and its errors.
func TestTextIsText(t *testing.T) {
	public, _ := start(t, newFake())
	for _, path := range []string{
		`/v2/gh/%3Cscript%3Ealert(1)%3C%2Fscript%3E/r/%22%3E%3Cb%3E`, `/v2/gh/o/r/x?urlpath=%22%3E%3Cscript%3E`, `/v2/xx/%3Cscript%3E`, `/v2/?repo=%3Cscript%3E&ref=%22%3E%3Cscript%3E`, `/v2/git/javascript:alert(1)/x`,
	} {
		_, body := ask(t, "GET", public.URL+path, "")
		if strings.Contains(body, "<script>") || strings.Contains(body, `"><b>`) || strings.Contains(body, `href="javascript:`) {
			t.Errorf("%s: markup in\n%s", path, body)
		}
	}
}

func TestHealthAndCompat(t *testing.T) {
	sick := errors.New("it is away")
	ok, _ := start(t, newFake(), func(o *options) { o.cfg.AllowOrigin = "*" })
	ill, _ := start(t, newFake(), func(o *options) {
		o.deps.Checks = append(o.deps.Checks, hub.Check{Service: "disk", Run: func(context.Context) error { return sick }})
		o.deps.Quota = func(context.Context) (hub.Quota, error) { return hub.Quota{Builds: 2, Sessions: 10, Limit: 300}, nil }
	})
	for _, tc := range []struct {
		base, path string
		status     int
		want       string
	}{
		{ok.URL, "/health", 200, `{"ok": true, "checks": [{"service": "containerd", "ok": true}]}`},
		{ill.URL, "/health", 503, `{"ok": false, "checks": [{"service": "containerd", "ok": true}, {"service": "disk", "ok": false}, {"service": "Pod quota", "total_pods": 12, "build_pods": 2, "user_pods": 10, "quota": 300, "ok": true, "_ignore_failure": true}]}`},
		{ok.URL, "/versions", 200, `{"builder_info": {"binnacle-version": "1.2.3"}, "binderhub": "1.2.3"}`},
		{ok.URL, "/robots.txt", 200, "Disallow: /\n"},
		{ok.URL, "/badge_logo.svg", 200, "<svg"},
		{ok.URL, "/badge.svg", 200, "<svg"},
		{ok.URL, "/assets/images/badge.svg", 200, "<svg"},
		{ok.URL, "/favicon_fail.ico", 200, "<svg"},
		{ok.URL, "/logo_social.png", 200, "PNG"},
		{ok.URL, "/metrics", 200, "binderhub_inprogress_builds 0"},
		{ok.URL, "/v2/xx/o/r", 400, "No provider is called"},
		{ok.URL, "/v2/dir/%2Fetc", 403, "command line"},
		{ok.URL, "/nothing", 404, "Off the chart"},
		{ok.URL, "/static/0123/style.css", 404, "Off the chart"},
	} {
		resp, body := ask(t, "GET", tc.base+tc.path, "")
		if resp.StatusCode != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %.300s", tc.path, resp.StatusCode, body)
		}
	}
	for path, want := range map[string]string{
		"/repo/u/r": "/v2/gh/u/r/master", "/repo/u/r/tree/x": "/v2/gh/u/r/master?urlpath=%2Ftree%2Fx", "/v2/?repo=https://github.com/o/r&ref=dev": "/v2/gh/o/r/dev", "/v2/": "/",
	} {
		if resp, _ := ask(t, "GET", ok.URL+path, ""); resp.Header.Get("Location") != want {
			t.Errorf("%s leads to %q, want %s", path, resp.Header.Get("Location"), want)
		}
	}
	for _, method := range []string{"HEAD", "OPTIONS"} {
		resp, body := ask(t, method, ok.URL+"/health", "")
		if resp.StatusCode != http.StatusOK || body != "" || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Access-Control-Allow-Headers") != "cache-control" {
			t.Errorf("%s: %d %q %v", method, resp.StatusCode, body, resp.Header)
		}
	}
	_, body := ask(t, "GET", ok.URL+"/api/repoproviders", "")
	checkGolden(t, "repoproviders.json", body+"\n")
	_, body = ask(t, "GET", ok.URL+"/_config", "")
	checkGolden(t, "config.json", body+"\n")
}

func TestLandingPath(t *testing.T) {
	for query, want := range map[string]string{
		"": "", "urlpath=/lab/tree/a%20b": "lab/tree/a b", "filepath=a b.ipynb/": "tree/a%20b.ipynb", "labpath=x&filepath=y&urlpath=z": "doc/tree/x",
		"filepath=é": "tree/%C3%A9", "urlpath=//evil.example.org": "evil.example.org", "labpath=a(1)%23b": "doc/tree/a(1)#b",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := hub.LandingPath(q); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	f := newFake()
	f.script = builtScript
	public, _ := start(t, f)
	ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r/HEAD"}`)
	ask(t, "GET", public.URL+"/build/gh/o/r/HEAD", "")
	f.script = func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) { // its image was removed before it could start
		return script("phase resolving", "phase launching", "phase fetching", "phase building", "phase launching", "end ready"), fakeLaunchOf(req)
	}
	_, stream := ask(t, "GET", public.URL+"/build/gh/o/r/HEAD", "")
	if !strings.Contains(stream, `"phase": "ready"`) {
		t.Error(stream)
	}
	for range 2 {
		_, body := ask(t, "GET", public.URL+"/metrics", "")
		for _, want := range []string{
			`binderhub_build_count_total{provider="GitHub",repo="https://git.example.org/o/r",status="success"} 3`,
			`binderhub_launch_count_total{provider="GitHub",repo="https://git.example.org/o/r",status="success"} 3`,
			`binderhub_launch_time_seconds_bucket{retries="0",status="success",le="2"} 3`, `binderhub_build_time_seconds_bucket{status="success",le="60"} 3`,
			`binnacle_launch_seconds_bucket{image="built",result="success",le="0.01"} 0`, `binderhub_inprogress_launches 0`, `binnacle_sessions 3`,
			`binnacle_http_requests_total{method="POST",route="/api/launches",status="202"} 1`,
		} {
			if !strings.Contains(body, want) {
				t.Errorf("no %s in\n%s", want, body)
			}
		}
		if strings.Contains(body, "secret-token") {
			t.Error("a token in the metrics")
		}
	}
}

// TestMetricsToken: with a token set, nobody else reads the figures.
func TestMetricsToken(t *testing.T) {
	public, private := start(t, newFake(), func(o *options) { o.cfg.MetricsToken = "scrape-me" })
	for _, c := range []struct {
		url    string
		header []string
		status int
	}{
		{public.URL, nil, 401},
		{public.URL, []string{"Authorization: Bearer scrape"}, 401},
		{public.URL, []string{"Authorization: scrape-me"}, 401},
		{public.URL, []string{"Authorization: Bearer scrape-me"}, 200},
		{private.URL, nil, 200},
	} {
		if resp, _ := ask(t, "GET", c.url+"/metrics", "", c.header...); resp.StatusCode != c.status {
			t.Errorf("%q: %d, want %d", c.header, resp.StatusCode, c.status)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	err := hub.Config{URL: "hub.example.org", Secret: []byte("short"), SessionDomain: "https://x", AllowOrigin: "x", KeepAlive: -1}.Validate()
	for _, want := range []string{"url:", "secret:", "session_domain:", "allow_origin:", "keep_alive:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	if err := hub.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
