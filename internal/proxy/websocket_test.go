package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echo is a session whose WebSocket sends back what it gets.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("refuse") {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(data) == "close" {
			_ = c.Close(4001, "as you say")
			return
		}
		if err := c.Write(r.Context(), kind, data); err != nil {
			return
		}
	}
}

func (s *stage) dialWS(t *testing.T, path string, header http.Header) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), s.front.URL+path, &websocket.DialOptions{
		HTTPClient: s.front.Client(), HTTPHeader: header,
		Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return c
}

func TestWebSocket(t *testing.T) {
	for _, mode := range []string{"unix", "tls", "tcp"} {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t, config())
			if mode == "tls" {
				s.front.EnableHTTP2 = false // the client's choice in ALPN
				s.front.StartTLS()
			} else {
				s.start()
			}
			s.serve(t, "a", http.HandlerFunc(echo))
			c := s.dialWS(t, "/user/a/api/kernels/1/channels?session_id=x", nil)
			if got := c.Subprotocol(); got != "v1.kernel.websocket.jupyter.org" {
				t.Errorf("subprotocol %q", got)
			}
			noise := make([]byte, 5<<20)
			_, _ = rand.Read(noise)
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, len(noise)} {
				go func() { _ = c.Write(t.Context(), websocket.MessageBinary, noise[:size]) }()
				if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, noise[:size]) {
					t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
				}
			}
			// Fragments, each flushed.
			w, err := c.Writer(t.Context(), websocket.MessageText)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				_, _ = io.WriteString(w, strings.Repeat("piece", 2000))
			}
			go func() { _ = w.Close() }()
			if _, got, err := c.Read(t.Context()); err != nil || len(got) != 200000 {
				t.Fatalf("fragments: %d %v", len(got), err)
			}
			// Ping needs a reader.
			ctx := c.CloseRead(t.Context())
			if err := c.Ping(ctx); err != nil {
				t.Errorf("ping: %v", err)
			}
		})
	}
}

func TestWebSocketClose(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(echo))
	c := s.dialWS(t, "/user/a/ws", nil)
	_ = c.Write(t.Context(), websocket.MessageText, []byte("close"))
	_, _, err := c.Read(t.Context())
	if ce, ok := errors.AsType[websocket.CloseError](err); !ok || ce.Code != 4001 || ce.Reason != "as you say" {
		t.Errorf("got %v", err)
	}
	c = s.dialWS(t, "/user/a/ws", nil)
	if err := c.Close(websocket.StatusGoingAway, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
	c = s.dialWS(t, "/user/a/ws", nil)
	_ = c.CloseNow() // without a word
	eventually(t, "all WebSockets are closed", func() bool { return s.proxy.Stats().OpenWebSockets == 0 })
	if got := s.proxy.Stats().WebSockets; got != 3 {
		t.Errorf("%d WebSockets", got)
	}
}

func TestWebSocketRefused(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(echo))
	s.setGone("b", "It was idle for 10 minutes.")
	for path, want := range map[string]int{"/user/a/ws?refuse": 403, "/user/b/ws": 410, "/user/c/ws": 404} {
		_, res, err := websocket.Dial(t.Context(), s.front.URL+path, nil)
		if err == nil || res == nil || res.StatusCode != want {
			t.Errorf("%s: %v", path, res)
		}
	}
	// Pipelined data before the answer is not lost.
	got := s.send(t, "GET /user/a/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82\x00\x00\x00\x00hi")
	if !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "\x81\x02hi") {
		t.Errorf("got %q", got)
	}
}

func TestActivity(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ws") {
			echo(w, r)
			return
		}
		mirror(w, r)
	}))
	last := func() time.Time { return s.proxy.LastActivity("a") }
	for _, poll := range []string{"api/kernels", "api/sessions?x", "metrics"} {
		do(t, s.client(), "GET", s.front.URL+"/user/a/"+poll, nil)
	}
	c := s.dialWS(t, "/user/a/ws", nil)
	read := make(chan struct{}, 1)
	go func() {
		for {
			if _, _, err := c.Read(context.WithoutCancel(t.Context())); err != nil {
				return
			}
			read <- struct{}{}
		}
	}()
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last(); !got.IsZero() {
		t.Fatalf("a poll or a ping is activity: %v", got)
	}
	_ = c.Write(t.Context(), websocket.MessageText, []byte("x"))
	<-read
	first := last()
	if time.Since(first) > time.Minute {
		t.Fatalf("a message is no activity: %v", first)
	}
	do(t, s.client(), "PUT", s.front.URL+"/user/a/api/contents/x", nil)
	if !last().After(first) {
		t.Error("saving is no activity")
	}
	if got := s.proxy.LastActivity("made-up"); !got.IsZero() {
		t.Errorf("made-up: %v", got)
	}
}

func TestForget(t *testing.T) {
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/user/a/ws":
			echo(w, r)
		case "/user/a/stream":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	s.serve(t, "b", http.HandlerFunc(echo))
	other := s.dialWS(t, "/user/b/ws", nil)
	c := s.dialWS(t, "/user/a/ws", nil)
	res, err := s.client().Get(s.front.URL + "/user/a/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	s.setGone("a", "You stopped it.")
	start := time.Now()
	s.proxy.Forget("a")
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the WebSocket lives on")
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the stream ended as if it were complete")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	if res, body := do(t, s.client(), "GET", s.front.URL+"/user/a/", nil); res.StatusCode != http.StatusGone || !strings.Contains(body, "You stopped it.") {
		t.Errorf("after: %d %s", res.StatusCode, body)
	}
	_ = other.Write(t.Context(), websocket.MessageText, []byte("x"))
	if _, got, err := other.Read(t.Context()); err != nil || string(got) != "x" {
		t.Errorf("another session was hurt: %v", err)
	}
}

// TestHalfClose wants a client's end told to the session, what the session
// still sends delivered, and a session that never ends cut off.
func TestHalfClose(t *testing.T) {
	cfg := config()
	cfg.HalfClose = 300 * time.Millisecond
	s := newStage(t, cfg).start()
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		got, _ := io.ReadAll(rw)
		fmt.Fprintf(c, "got %d", len(got))
		<-r.Context().Done()
		<-t.Context().Done()
	}))
	c, err := net.Dial("tcp", s.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /user/a/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+strings.Repeat("\x82\x80\x00\x00\x00\x00", 10))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(br)
	if err != nil || string(got) != "got 60" {
		t.Errorf("%q %v", got, err)
	}
	eventually(t, "the WebSocket is closed", func() bool { return s.proxy.Stats().OpenWebSockets == 0 })
}

// TestIdleWebSockets opens many and wants each to be its own.
func TestIdleWebSockets(t *testing.T) {
	count := 2000
	if testing.Short() {
		count = 200
	}
	s := newStage(t, config()).start()
	s.serve(t, "a", http.HandlerFunc(echo))
	var open []*websocket.Conn
	for range count {
		open = append(open, s.dialWS(t, "/user/a/ws", nil))
	}
	if got := s.proxy.Stats().OpenWebSockets; got != int64(count) {
		t.Fatalf("%d are open", got)
	}
	for round := range 2 {
		for i, c := range open {
			_ = c.Write(t.Context(), websocket.MessageText, fmt.Append(nil, round, i))
		}
		for i, c := range open {
			if _, got, err := c.Read(t.Context()); err != nil || string(got) != fmt.Sprint(round, i) {
				t.Fatalf("%d: %q %v", i, got, err)
			}
		}
	}
	for _, c := range open {
		_ = c.CloseNow()
	}
	eventually(t, "all WebSockets are closed", func() bool { return s.proxy.Stats().OpenWebSockets == 0 })
}
