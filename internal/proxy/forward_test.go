package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mirror answers with what it was asked.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	w.Header().Set("X-Asked", r.Method+" "+r.RequestURI+" "+r.Host)
	w.Header().Set("X-Framing", fmt.Sprint(r.ContentLength, r.TransferEncoding))
	w.Header().Set("X-Trailer", r.Trailer.Get("Sum"))
	for _, name := range []string{"Connection", "Cookie", "Te", "Upgrade", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-Ip", "Forwarded", "X-Hop", "User-Agent", "Accept-Encoding"} {
		for _, v := range r.Header[name] {
			w.Header().Add("Got-"+name, v)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func TestMethodsAndPaths(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newStage(t, config()).start()
			s.serve(t, "a", http.HandlerFunc(mirror))
			host := s.front.Listener.Addr().String()
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
				for _, target := range []string{
					"/user/a/", "/user/a/lab?token=x&y=%2F", "/user/a/api/contents/a%2Fb%20c.ipynb", "/user/a/..%2f..%2fb", "/user/a//x//",
					"/user/a/./../b/", "/user/a/%e2%82%ac?", "/user/a/x;y=1,2?a=b?c", "/user/a/caf\u00e9",
				} {
					for _, body := range []string{"", "hello", strings.Repeat("large ", 10000)} {
						if method == "GET" && body != "" {
							continue
						}
						got := s.send(t, method+" "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
						if !strings.Contains(got, "\r\nX-Asked: "+method+" "+target+" "+host+"\r\n") || !strings.HasSuffix(got, "\r\n\r\n"+body) {
							t.Fatalf("%s %s: %.300q", method, target, got)
						}
					}
				}
			}
			if n := s.dialed(); n > 12 {
				t.Errorf("%d connections to the session for requests that came one after another", n)
			}
		})
	}
}

// TestNoWayAround is a table over verbs and ways to reach another session or
// the hub through a session's address.
func TestNoWayAround(t *testing.T) {
	s := newStage(t, config()).start()
	for _, id := range []string{"a", "b"} {
		s.serve(t, id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Session", id)
			mirror(w, r)
		}))
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"} {
		for target, session := range map[string]string{
			"/user/a/../b/x":                     "a",
			"/user/a/..%2fb/x":                   "a",
			"/user/a/%2e%2e/b/x":                 "a",
			"/user/a/..\\b/x":                    "a",
			"http://elsewhere.example/user/b/x":  "b",
			"http://elsewhere.example":           "",
			"//user/a/x":                         "",
			"/user//a/x":                         "",
			"/./user/a/x":                        "",
			"/x/../user/a/x":                     "",
			"/user/%61/x":                        "",
			"/user/a%2f..%2fb/x":                 "",
			"/user/c/x":                          "",
			"/user/a%00/x":                       "",
			"/user/":                             "",
			"/":                                  "",
			"/USER/a/x":                          "",
			"ftp://elsewhere.example/user//a/":   "",
			"http://user/a/x":                    "",
			"http://elsewhere.example?/user/a/x": "",
		} {
			got := s.send(t, method+" "+target+" HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n\r\n")
			if method == "CONNECT" || method == "TRACE" {
				session = ""
			}
			reached := ""
			if _, after, ok := strings.Cut(got, "X-Session: "); ok {
				reached = after[:1]
			}
			if reached != session {
				t.Errorf("%s %s: reached %q, want %q: %.200q", method, target, reached, session, got)
			}
			if session == "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
				t.Errorf("%s %s: %.60q", method, target, got)
			}
		}
	}
}

func TestSmuggling(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(mirror))
	for name, request := range map[string]string{
		"two lengths":             "POST /user/a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"list of lengths":         "POST /user/a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\nhello",
		"signed length":           "POST /user/a/ HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello",
		"unknown coding":          "POST /user/a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two codings":             "POST /user/a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"space before colon":      "POST /user/a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"two hosts":               "GET /user/a/ HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
		"no host":                 "GET /user/a/ HTTP/1.1\r\n\r\n",
		"space in target":         "GET /user/a/ x HTTP/1.1\r\nHost: h\r\n\r\n",
		"tab in target":           "GET /user/a/\tx HTTP/1.1\r\nHost: h\r\n\r\n",
		"bare carriage return":    "GET /user/a/ HTTP/1.1\r\nHost: h\r\nX-A: b\rX-C: d\r\n\r\n",
		"null in a header":        "GET /user/a/ HTTP/1.1\r\nHost: h\r\nX-A: b\x00c\r\n\r\n",
		"header without a name":   "GET /user/a/ HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
		"websocket with a length": "GET /user/a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
	} {
		if got := s.send(t, request); !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 501") {
			t.Errorf("%s: %.200q", name, got)
		}
	}
	t.Run("length and chunked", func(t *testing.T) {
		got := s.send(t, "POST /user/a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /user/a/two HTTP/1.1\r\nHost: h\r\n\r\n")
		// One framing goes out, ours, so both ends agree what is a request.
		if !strings.Contains(got, "X-Asked: POST /user/a/ h") || !strings.Contains(got, "X-Framing: -1 [chunked]") || strings.Count(got, "HTTP/1.1 ") > 2 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("upgrade to h2c", func(t *testing.T) {
		got := s.send(t, "GET /user/a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(got, "Got-Upgrade") {
			t.Errorf("got %q", got)
		}
	})
}

func TestBadAnswers(t *testing.T) {
	s := newStage(t, config()).start()
	answer := make(chan string, 1)
	s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, <-answer)
		}
	})
	for name, text := range map[string]string{
		"nothing":            "",
		"not http":           "SSH-2.0-x\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"unasked switch":     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"endless head":       "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 400) + "\r\n",
		"endless hints":      strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20000),
		"broken header line": "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
	} {
		answer <- text
		res, body := do(t, s.client(), "POST", s.front.URL+"/user/a/x", nil)
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %d %.100q", name, res.StatusCode, body)
		}
	}
	t.Run("short body", func(t *testing.T) {
		for _, text := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc",
		} {
			answer <- text
			res, err := s.client().Post(s.front.URL+"/user/a/x", "", nil)
			if err != nil {
				continue
			}
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err == nil {
				t.Errorf("%q: the client was not told that it is short", text)
			}
		}
	})
}

func TestFraming(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/user/a/none":
			w.WriteHeader(http.StatusNoContent)
		case "/user/a/same":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/user/a/sized":
			w.Header().Set("Content-Length", "12345")
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 12345))
		case "/user/a/untyped":
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		case "/user/a/trailer":
			w.Header().Set("Trailer", "Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("Sum", "42")
		case "/user/a/hints":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "body")
		default:
			mirror(w, r)
		}
	}))
	at := func(p string) string { return s.front.URL + "/user/a/" + p }
	c := s.client()

	if res, body := do(t, c, "GET", at("none"), nil); res.StatusCode != http.StatusNoContent || body != "" {
		t.Errorf("204: %v", res)
	}
	if res, _ := do(t, c, "GET", at("same"), nil); res.StatusCode != http.StatusNotModified || res.Header.Get("Etag") != `"x"` {
		t.Errorf("304: %v", res)
	}
	if res, body := do(t, c, "HEAD", at("sized"), nil); res.ContentLength != 12345 || body != "" {
		t.Errorf("HEAD: %v", res)
	}
	if res, body := do(t, c, "GET", at("sized"), nil); res.ContentLength != 12345 || len(body) != 12345 {
		t.Errorf("sized: %v", res)
	}
	if res, _ := do(t, c, "GET", at("untyped"), nil); len(res.Header["Content-Type"]) != 0 {
		t.Errorf("a type was guessed: %v", res.Header)
	}
	if res, body := do(t, c, "GET", at("trailer"), nil); body != "body" || res.Trailer.Get("Sum") != "42" {
		t.Errorf("trailer: %v %q", res.Trailer, body)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, at("x"), io.MultiReader(strings.NewReader("chunked")))
	req.Trailer = http.Header{"Sum": {"7"}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.Header.Get("X-Framing") != "-1 [chunked]" || res.Header.Get("X-Trailer") != "7" {
		t.Errorf("request trailer: %v", res.Header)
	}
	hint := ""
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hint = fmt.Sprint(code, h.Get("Link"))
		return nil
	}})
	req, _ = http.NewRequestWithContext(ctx, http.MethodGet, at("hints"), nil)
	if res, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if hint != "103</style.css>; rel=preload" || res.Header.Get("Link") != "" {
		t.Errorf("hint %q", hint)
	}
}

func TestExpectContinue(t *testing.T) {
	s := newStage(t, config()).start()
	s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "100-continue" {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		if strings.HasSuffix(req.URL.Path, "refuse") {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Length: %d\r\nContent-Length: 0\r\n\r\n", n)
	})
	head := "Host: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	if got := s.send(t, "PUT /user/a/refuse HTTP/1.1\r\n"+head); !strings.HasPrefix(got, "HTTP/1.1 413") {
		t.Errorf("refused: %q", got)
	}
	if got := s.send(t, "PUT /user/a/take HTTP/1.1\r\n"+head+"hello"); !strings.Contains(got, "X-Length: 5") {
		t.Errorf("taken: %q", got)
	}
}

// TestBigUpload sends more than we may hold.
func TestBigUpload(t *testing.T) {
	size := int64(300 << 20)
	if testing.Short() {
		size = 30 << 20
	}
	for _, mode := range []string{"sized", "chunked", "h2"} {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t, config())
			if mode == "h2" {
				s.front.StartTLS()
			} else {
				s.start()
			}
			s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sum := sha256.New()
				n, err := io.Copy(sum, r.Body)
				fmt.Fprintf(w, "%d %v %s", n, err, hex.EncodeToString(sum.Sum(nil)))
			}))
			sum := sha256.New()
			body := io.TeeReader(io.LimitReader(&pattern{}, size), sum)
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, s.front.URL+"/user/a/big", body)
			if mode == "sized" {
				req.ContentLength = size
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			res, err := s.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			runtime.ReadMemStats(&after)
			if want := fmt.Sprintf("%d <nil> %s", size, hex.EncodeToString(sum.Sum(nil))); string(got) != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 24<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

// pattern is endless and does not repeat within a buffer.
type pattern struct{ n uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*1664525 + 1013904223
		b[i] = byte(p.n >> 24)
	}
	return len(b), nil
}

func TestBigDownload(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newStage(t, config()).start()
			const size = 20 << 20
			s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("sized") {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				}
				_, _ = io.Copy(w, io.LimitReader(&pattern{}, size))
			}))
			want := sha256.New()
			_, _ = io.Copy(want, io.LimitReader(&pattern{}, size))
			for _, query := range []string{"?sized", ""} {
				for range 2 { // the second on a connection that was used
					_, body := do(t, s.client(), "GET", s.front.URL+"/user/a/big"+query, nil)
					if got := sha256.Sum256([]byte(body)); !bytes.Equal(got[:], want.Sum(nil)) {
						t.Fatalf("%s: %d bytes, other ones", query, len(body))
					}
				}
			}
			if n := s.dialed(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestStreaming wants each event before the next is sent.
func TestStreaming(t *testing.T) {
	for _, mode := range []string{"h1", "h2"} {
		for _, contentType := range []string{"text/event-stream", "text/event-stream; charset=utf-8", "application/x-ndjson"} {
			t.Run(mode+" "+contentType, func(t *testing.T) {
				s := newStage(t, config())
				if mode == "h2" {
					s.front.StartTLS()
				} else {
					s.start()
				}
				next := make(chan struct{})
				s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", contentType)
					w.WriteHeader(http.StatusOK)
					_ = http.NewResponseController(w).Flush()
					for i := range 5 {
						<-next
						fmt.Fprintf(w, "data: %d\n\n", i)
						_ = http.NewResponseController(w).Flush()
					}
				}))
				res, err := s.client().Get(s.front.URL + "/user/a/events")
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				br := bufio.NewReader(res.Body)
				for i := range 5 {
					next <- struct{}{}
					line, err := br.ReadString('\n')
					if _, e := br.ReadString('\n'); e != nil || err != nil || line != fmt.Sprintf("data: %d\n", i) {
						t.Fatalf("event %d: %q %v", i, line, err)
					}
				}
			})
		}
	}
}

func TestClientCancels(t *testing.T) {
	s := newStage(t, config()).start()
	begun, ended := make(chan struct{}), make(chan struct{})
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.front.URL+"/user/a/slow", nil)
	go func() {
		<-begun
		cancel()
	}()
	if _, err := s.client().Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the session does not know that the client went away")
	}
}

// TestSlowClient lets a client take nothing for longer than it may.
func TestSlowClient(t *testing.T) {
	cfg := config()
	cfg.WriteTimeout = 300 * time.Millisecond
	s := newStage(t, cfg).start()
	ended := make(chan struct{}, 2)
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("sized") {
			w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		}
		_, _ = io.Copy(w, &pattern{})
		ended <- struct{}{}
	}))
	for _, query := range []string{"", "?sized"} {
		c, err := net.Dial("tcp", s.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /user/a/big%s HTTP/1.1\r\nHost: h\r\n\r\n", query)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Errorf("%q: a client that takes nothing holds the session", query)
		}
		_ = c.Close()
	}
}

// TestStaleConnection wants every request, POST included, to go over another
// connection when the one kept from before has ended, as the proxy can see.
func TestStaleConnection(t *testing.T) {
	s := newStage(t, config()).start()
	ended := make(chan struct{}, 1)
	s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
		// One answer, then the connection ends without a word.
		if req, err := http.ReadRequest(br); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		_ = c.Close()
		ended <- struct{}{}
	})
	for _, method := range []string{"GET", "GET", "POST", "POST", "PUT", "DELETE", "GET"} {
		res, body := do(t, s.client(), method, s.front.URL+"/user/a/x", strings.NewReader(""))
		if res.StatusCode != http.StatusOK || body != "ok" {
			t.Fatalf("%s: %d %s", method, res.StatusCode, body)
		}
		<-ended
	}
}

// TestRepeat ends a kept connection when it has read a second request: what may
// be sent twice is, and a POST is seen once and its fate told.
func TestRepeat(t *testing.T) {
	for method, want := range map[string]int{"GET": http.StatusOK, "PUT": http.StatusOK, "POST": http.StatusBadGateway} {
		s := newStage(t, config()).start()
		var seen atomic.Int32
		s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			seen.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if _, err := http.ReadRequest(br); err == nil {
				seen.Add(1)
			}
		})
		if res, body := do(t, s.client(), "GET", s.front.URL+"/user/a/x", nil); res.StatusCode != http.StatusOK {
			t.Fatalf("the first: %d %s", res.StatusCode, body)
		}
		res, _ := do(t, s.client(), method, s.front.URL+"/user/a/x", strings.NewReader(""))
		times := int32(2) // the first, and this one
		if want == http.StatusOK {
			times++
		}
		if res.StatusCode != want || seen.Load() != times {
			t.Errorf("%s: %d, want %d; the session saw %d requests, want %d", method, res.StatusCode, want, seen.Load(), times)
		}
	}
}

func TestHTTP2(t *testing.T) {
	s := newStage(t, config())
	s.front.StartTLS()
	s.serve(t, "a", http.HandlerFunc(mirror))
	res, body := do(t, s.client(), "POST", s.front.URL+"/user/a/..%2fx?y", strings.NewReader("hello"), "Cookie", "a=1", "Cookie", "binnacle=2", "Te", "trailers")
	if res.ProtoMajor != 2 || body != "hello" {
		t.Fatalf("%s %q", res.Proto, body)
	}
	host := s.front.Listener.Addr().String()
	got := map[string]string{}
	for key := range res.Header {
		if strings.HasPrefix(key, "Got-X-F") || key == "Got-Cookie" || key == "Got-Te" || key == "X-Asked" {
			got[key] = res.Header.Get(key)
		}
	}
	_, port, _ := net.SplitHostPort(host)
	want := map[string]string{
		"X-Asked": "POST /user/a/..%2fx?y " + host, "Got-Cookie": "a=1", "Got-Te": "trailers",
		"Got-X-Forwarded-For": "127.0.0.1", "Got-X-Forwarded-Proto": "https", "Got-X-Forwarded-Host": host, "Got-X-Forwarded-Port": port,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Many at a time over one connection.
	done := make(chan error, 50)
	for i := range 50 {
		go func() {
			text := strings.Repeat(strconv.Itoa(i), 1+i*2000)
			res, err := s.client().Post(s.front.URL+"/user/a/x", "text/plain", strings.NewReader(text))
			if err == nil {
				var got []byte
				got, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil && string(got) != text {
					err = fmt.Errorf("request %d got the answer of another", i)
				}
			}
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
