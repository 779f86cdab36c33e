package proxy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/proxy"
)

// fleet is a backend of HTTP servers by session id.
type fleet struct {
	mu      sync.Mutex
	address map[string]net.Addr
	fail    map[string]error
	gone    map[string]string
	dials   int
}

func (f *fleet) Dial(ctx context.Context, id string) (net.Conn, error) {
	f.mu.Lock()
	a, err := f.address[id], f.fail[id]
	f.dials++
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, binnacle.Errorf(binnacle.CodeNotFound, "no session")
	}
	var d net.Dialer
	return d.DialContext(ctx, a.Network(), a.String())
}

func (f *fleet) Gone(id string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.gone[id]
	return s, ok
}

func (f *fleet) setError(id string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[id] = err
}

func (f *fleet) setGone(id, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.address, id)
	f.gone[id] = reason
}

func (f *fleet) dialed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

// stage is a proxy before a fleet.
type stage struct {
	*fleet
	proxy *proxy.Proxy
	front *httptest.Server
	log   *syncBuffer
}

func config() proxy.Config {
	c := proxy.DefaultConfig()
	c.StartWait = 5 * time.Second
	return c
}

func newStage(t *testing.T, cfg proxy.Config) *stage {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := &stage{
		fleet: &fleet{address: map[string]net.Addr{}, fail: map[string]error{}, gone: map[string]string{}},
		log:   &syncBuffer{},
	}
	s.proxy = proxy.New(cfg, s.fleet, slog.New(slog.NewTextHandler(s.log, nil)))
	s.front = httptest.NewUnstartedServer(s.proxy)
	s.front.EnableHTTP2 = true
	s.front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(func() {
		s.front.CloseClientConnections()
		s.front.Close()
		if err := s.proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stage) start() *stage {
	s.front.Start()
	return s
}

// serve runs a session on a unix socket, or on TCP where t's name ends in tcp.
func (s *stage) serve(t *testing.T, id string, h http.Handler) *httptest.Server {
	t.Helper()
	network, address := "unix", filepath.Join(shortDir(t), "s")
	if strings.HasSuffix(t.Name(), "tcp") {
		network, address = "tcp", "127.0.0.1:0"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	s.put(id, l.Addr())
	return srv
}

func (s *stage) put(id string, a net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address[id] = a
}

// raw serves a session by hand: one function per connection.
func (s *stage) raw(t *testing.T, id string, serve func(c net.Conn, br *bufio.Reader)) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
				defer stop()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	s.put(id, l.Addr())
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "px")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// send writes bytes to the front as they are and reads until it closes or
// until wait has passed after the last byte.
func (s *stage) send(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 4096)
	for {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			return got.String()
		}
	}
}

func do(t *testing.T, c *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}

// client follows no redirects.
func (s *stage) client() *http.Client {
	c := *s.front.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// eventually waits for what the other side of a connection does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never came: %s", what)
		case <-tick.C:
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
