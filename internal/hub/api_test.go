package hub_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/hub"
)

// description loads openapi.json as the hub serves it.
func description(t *testing.T) routers.Router {
	t.Helper()
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	doc.Servers = nil
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// checkAnswer compares an answer with the description.
func checkAnswer(t *testing.T, router routers.Router, method, path string, resp *http.Response, body string) string {
	t.Helper()
	req := httptest.NewRequest(method, path, nil)
	route, params, err := router.FindRoute(req)
	if err != nil {
		t.Errorf("%s %s is not described: %v", method, path, err)
		return ""
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewBufferString(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), in); err != nil {
		t.Errorf("%s %s: %d %s\n%v", method, path, resp.StatusCode, body, err)
	}
	return method + " " + route.Path
}

// TestAPI asks for every route, checks the status, and holds each answer
// against openapi.json; a route that is not asked for fails it.
func TestAPI(t *testing.T) {
	f := newFake()
	f.script = builtScript
	public, trusted := start(t, f)
	router := description(t)
	resp, body := ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r/HEAD","path":"lab"}`)
	token := "Authorization: Bearer " + resp.Header.Get(hub.TokenHeader)
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Location") != "/api/launches/launch1" {
		t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	asked := map[string]bool{checkAnswer(t, router, "POST", "/api/launches", resp, body): true}
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
		header             []string
	}{
		{"GET", "/api/launches", "", 200, `"id":"launch1"`, nil},
		{"GET", "/api/launches/launch1", "", 200, `"url":"` + public.URL + `/user/o-r-launch1/"`, nil},
		{"GET", "/api/launches/launch9", "", 404, "not_found", nil},
		{"GET", "/api/launches/UPPER", "", 404, "not_found", nil},
		{"GET", "/api/launches/launch1/events", "", 200, "id: 11\nevent: end\ndata: {", nil},
		{"GET", "/api/launches/launch1/events?after=10", "", 200, "id: 11\n", []string{"Accept: text/event-stream"}},
		{"GET", "/api/launches/launch1/events?after=2", "", 200, "{\"id\":11,", []string{"Accept: application/x-ndjson", "Last-Event-ID: 10"}},
		{"GET", "/api/launches/launch1/events?after=11", "", 204, "", nil},
		{"GET", "/api/launches/launch1/events?after=-1", "", 400, "invalid", nil},
		{"GET", "/api/launches/launch1/events", "", 400, "invalid", []string{"Last-Event-ID: x"}},
		{"GET", "/api/launches/launch1/log", "", 200, "Fetching 0123456\n== building\n", nil},
		{"GET", "/api/launches/launch1/resolved", "", 200, `"name":"apt.txt"`, nil},
		{"GET", "/api/launches/launch1/resolved/requirements.txt", "", 200, "numpy==2.3.1\n", nil},
		{"GET", "/api/launches/launch1/resolved/..%2fx", "", 404, "not_found", nil},
		{"GET", "/api/launches/launch9/resolved", "", 404, "not_found", nil},
		{"GET", "/api/sessions", "", 200, `"token":"secret-token"`, nil},
		{"GET", "/api/sessions/o-r-launch1", "", 200, `"state":"running"`, nil},
		{"GET", "/api/sessions/other", "", 404, "not_found", nil},
		{"POST", "/api/sessions/o-r-launch1/keep-alive", "", 200, `"idle_ends"`, nil},
		{"GET", "/api/sessions/o-r-launch1/log?follow=true", "", 200, "<script>alert(1)</script>", nil},
		{"GET", "/api/parse?q=https://github.com/o/r/tree/main/a%20b/c.ipynb", "", 200, `"launch":"` + public.URL + `/v2/gh/o/r/main?urlpath=lab%2Ftree%2Fa%2520b%2Fc.ipynb"`, nil},
		{"GET", "/api/parse?q=https://github.com/o/r/tree/main/a/b/c.ipynb&subdir=a/b", "", 200, `"launch":"` + public.URL + `/v2/gh/o/r/main?subdir=a%2Fb\u0026urlpath=lab%2Ftree%2Fc.ipynb"`, nil},
		{"GET", "/api/parse?q=nonsense", "", 400, "invalid", nil},
		{"GET", "/api/parse?q=/etc", "", 403, "forbidden", nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","ref":"dev","path":"rstudio"}`, 200, `"url_path":"rstudio"`, nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","open":"vscode"}`, 200, `"url_path":"vscode/"`, nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","path":"a b/c.ipynb","open":"notebook"}`, 200, `?urlpath=tree%2Fa%2520b%2Fc.ipynb"`, nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","path":"n b.py","open":"marimo"}`, 200, `"url_path":"marimo/?file=n+b.py"`, nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","path":"tree/a.ipynb","open":"vscode"}`, 200, `"url_path":"tree/a.ipynb"`, nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","open":"emacs"}`, 400, "emacs", nil},
		{"POST", "/api/parse", `{"repo":"gh/o/r/x","ref":"a\nb"}`, 400, "invalid", nil},
		{"POST", "/api/launches", `{"repo":"x","color":"red"}`, 400, "color", nil},
		{"POST", "/api/launches", `{"repo":"x"} {}`, 400, "follows", nil},
		{"POST", "/api/launches", `{"repo":"x"}`, 400, "not JSON", []string{"Content-Type: text/plain"}},
		{"POST", "/api/launches", `{"repo":"` + strings.Repeat("x", 2<<20) + `"}`, 400, "too large", nil},
		{"GET", "/api/version", "", 200, `{"version":"1.2.3"}`, nil},
		{"GET", "/api/openapi.json", "", 200, `"openapi": "3.1.0"`, nil},
		{"GET", "/api/repoproviders", "", 200, `"displayName": "GitHub"`, nil},
		{"DELETE", "/api/launches/launch1", "", 204, "", nil},
		{"DELETE", "/api/sessions/o-r-launch1", "", 204, "", nil},
		{"DELETE", "/api/sessions/o-r-launch1", "", 404, "not_found", nil},
	} {
		resp, body := ask(t, tc.method, public.URL+tc.path, tc.body, append([]string{token}, tc.header...)...)
		if resp.StatusCode != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s: %d %s; want %d with %s", tc.method, tc.path, resp.StatusCode, body, tc.status, tc.want)
		}
		asked[checkAnswer(t, router, tc.method, tc.path, resp, body)] = true
	}
	for _, tc := range []struct{ method, path, body, want string }{
		{"GET", "/api/usage", "", `"total":12`}, {"POST", "/api/clean", `{"budget":7}`, `"freed":7`},
	} {
		resp, body := ask(t, tc.method, trusted.URL+tc.path, tc.body)
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", tc.path, resp.StatusCode, body)
		}
		asked[checkAnswer(t, router, tc.method, tc.path, resp, body)] = true
		if resp, _ := ask(t, tc.method, public.URL+tc.path, tc.body, token); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the network: %d", tc.path, resp.StatusCode)
		}
	}
	// An error with all that one can have, in the launch and in its last event.
	f.mu.Lock()
	f.script = failing([]string{"phase building"}, &binnacle.Error{
		Code: binnacle.CodeBuildFailed, Op: "secret", Message: "No.", Hint: "Do.", File: "a.txt", Line: 2, ID: "k3jf8s2m1q", Excerpt: []string{"one", "…", "  two"}, Err: errors.New("secret"),
	})
	f.mu.Unlock()
	resp, body = ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r/HEAD"}`, token)
	checkAnswer(t, router, "POST", "/api/launches", resp, body)
	where := resp.Header.Get("Location")
	const whole = `"error":{"code":"build_failed","message":"No.","hint":"Do.","file":"a.txt","line":2,"excerpt":["one","…","  two"],"id":"k3jf8s2m1q"}`
	for _, path := range []string{where, where + "/events"} {
		resp, body := ask(t, "GET", public.URL+path, "", token)
		if !strings.Contains(body, whole) || strings.Contains(body, "secret") {
			t.Errorf("%s: %s; want %s", path, body, whole)
		}
		checkAnswer(t, router, "GET", path, resp, body)
	}
	h, err := hub.New(t.Context(), hub.Config{}, hub.Deps{Service: f, Parse: parse, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for route := range h.Routes() {
		if !asked[route] {
			t.Errorf("%s has no test", route)
		}
	}
}

func TestMethodNotAllowed(t *testing.T) {
	public, _ := start(t, newFake())
	for path, allow := range map[string]string{"/api/launches": "GET, POST", "/api/launches/x": "DELETE, GET", "/build/gh/o/r/x": "GET, HEAD, OPTIONS", "/v2/gh/o/r/x": "GET, HEAD, OPTIONS"} {
		resp, body := ask(t, "PUT", public.URL+path, "{}")
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != allow || !strings.Contains(body, `"code":"invalid"`) {
			t.Errorf("%s: %d %q %s", path, resp.StatusCode, resp.Header.Get("Allow"), body)
		}
	}
	if resp, body := ask(t, "GET", public.URL+"/api/nothing", ""); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "not_found") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestErrorsKeepSecrets shows a cause to the log and not to the person.
func TestErrorsKeepSecrets(t *testing.T) {
	f := newFake()
	f.err = io.ErrNoProgress
	var log bytes.Buffer
	public, _ := start(t, f, func(o *options) { o.deps.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	resp, body := ask(t, "GET", public.URL+"/api/sessions?token=topsecret", "")
	var e binnacle.Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != http.StatusInternalServerError || e.Code != binnacle.CodeInternal || e.ID == "" || strings.Contains(body, "Read") {
		t.Errorf("%d %s (%v)", resp.StatusCode, body, err)
	}
	if !strings.Contains(log.String(), "err_id="+e.ID) || !strings.Contains(log.String(), "no data or error") || strings.Contains(log.String(), "topsecret") {
		t.Errorf("log:\n%s", log.String())
	}
	f.err = binnacle.Errorf(binnacle.CodeLimited, "Full.")
	if resp, _ := ask(t, "GET", public.URL+"/api/sessions", ""); resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.err = later{f.err}
	if resp, _ := ask(t, "GET", public.URL+"/api/sessions", ""); resp.Header.Get("Retry-After") != "91" {
		t.Errorf("Retry-After is %s; want what the error says", resp.Header.Get("Retry-After"))
	}
}

// later is a refusal that says when to come again.
type later struct{ error }

func (later) RetryAfter() time.Duration { return 90*time.Second + time.Millisecond }

func (l later) Unwrap() error { return l.error }

// TestResume breaks a live stream and takes it up again.
func TestResume(t *testing.T) {
	f := newFake()
	f.script = func(req binnacle.LaunchRequest) ([]binnacle.Event, binnacle.Launch) {
		l := fakeLaunchOf(req)
		l.Phase = binnacle.PhaseBuilding
		return script("phase resolving", "phase building", "log one"), l
	}
	public, _ := start(t, f, func(o *options) { o.cfg.KeepAlive = 30 * time.Millisecond })
	resp, _ := ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r"}`)
	token := "Authorization: Bearer " + resp.Header.Get(hub.TokenHeader)
	streamUntil(t, public.URL+"/api/launches/launch1/events", "keep-alive", token)()
	streamUntil(t, public.URL+"/api/launches/launch1/events", "one", token)()
	if _, body := ask(t, "GET", public.URL+"/api/launches/launch1/log", "", token); !strings.HasSuffix(body, "one\n") {
		t.Errorf("log of a launch that runs: %q", body)
	}
	f.push("launch1", binnacle.Event{Kind: binnacle.EventLog, Phase: binnacle.PhaseBuilding, Message: "two"})
	f.push("launch1", binnacle.Event{Kind: binnacle.EventEnd, Phase: binnacle.PhaseFailed, Error: binnacle.Errorf(binnacle.CodeBuildFailed, "No.")})
	_, body := ask(t, "GET", public.URL+"/api/launches/launch1/events", "", token, "Last-Event-ID: 3")
	ids := regexp.MustCompile(`(?m)^(id|event): .*`).FindAllString(body, -1)
	if diff := cmp.Diff([]string{"id: 4", "event: log", "id: 5", "event: end"}, ids); diff != "" {
		t.Error(diff)
	}
	// A stream that breaks on our side says so without a number.
	f.mu.Lock()
	f.launches[0].launch.Phase, f.launches[0].events = binnacle.PhaseBuilding, f.launches[0].events[:3]
	f.eventErr = binnacle.Errorf(binnacle.CodeUnavailable, "The store is away.")
	f.mu.Unlock()
	if _, body = ask(t, "GET", public.URL+"/api/launches/launch1/events", "", token); !strings.Contains(body, "id: 0\nevent: problem\n") || !strings.Contains(body, "The store is away.") {
		t.Errorf("problem: %s", body)
	}
}

// TestAliases: who comes by another name of the hub stays there; a name that is
// not the hub's is not believed.
func TestAliases(t *testing.T) {
	f := newFake()
	f.base = "https://hub.example.org"
	public, _ := start(t, f, func(o *options) {
		o.cfg.URL, o.cfg.Aliases = "https://hub.example.org", []string{"my-hub.cloud.example"}
	})
	resp, _ := ask(t, "POST", public.URL+"/api/launches", `{"repo":"gh/o/r/HEAD"}`, "Host: my-hub.cloud.example")
	token := "Authorization: Bearer " + resp.Header.Get(hub.TokenHeader)
	for host, want := range map[string]string{
		"hub.example.org": "https://hub.example.org", "My-Hub.cloud.example": "https://my-hub.cloud.example",
		"my-hub.cloud.example:8443": "https://my-hub.cloud.example:8443", "evil.example": "https://hub.example.org",
	} {
		_, body := ask(t, "GET", public.URL+"/api/launches/launch1", "", token, "Host: "+host)
		if !strings.Contains(body, `"url":"`+want+`/user/o-r-launch1/"`) {
			t.Errorf("%s: %s", host, body)
		}
		if _, body = ask(t, "GET", public.URL+"/api/parse?q=gh/o/r/HEAD", "", token, "Host: "+host); !strings.Contains(body, `"launch":"`+want+`/v2/gh/o/r/HEAD`) {
			t.Errorf("%s: %s", host, body)
		}
	}
}
