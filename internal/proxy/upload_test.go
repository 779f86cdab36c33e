package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBothWays wants each piece back before the next is sent.
func TestBothWays(t *testing.T) {
	for _, mode := range []string{"h1", "h2"} {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t, config())
			if mode == "h2" {
				s.front.StartTLS()
			} else {
				s.start()
			}
			s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				_ = rc.EnableFullDuplex()
				_ = rc.Flush()
				buf := make([]byte, 100)
				for {
					n, err := r.Body.Read(buf)
					_, _ = w.Write(buf[:n])
					_ = rc.Flush()
					if err != nil {
						return
					}
				}
			}))
			pr, pw := io.Pipe()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.front.URL+"/user/a/x", pr)
			res, err := s.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			br := bufio.NewReader(res.Body)
			for i := range 5 {
				fmt.Fprintf(pw, "piece %d\n", i)
				if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("piece %d\n", i) {
					t.Fatalf("%q %v", line, err)
				}
			}
			_ = pw.Close()
			if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
}

// TestEarlyAnswer wants an answer that comes before the body was read.
func TestEarlyAnswer(t *testing.T) {
	s := newStage(t, config()).start()
	s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
		}
	})
	for range 5 {
		c, err := net.Dial("tcp", s.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /user/a/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", 1<<30, strings.Repeat("x", 100000))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %v %v", res, err)
		} else if body, err := io.ReadAll(res.Body); err != nil || string(body) != "no\n" {
			t.Errorf("got %q %v", body, err)
		}
		_ = c.Close()
	}
}

func TestUploadCanceled(t *testing.T) {
	s := newStage(t, config()).start()
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	s.serve(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 100))
		begun <- struct{}{}
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}))
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\nc8\r\n", "Content-Length: 1000000\r\n\r\n"} {
		c, err := net.Dial("tcp", s.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /user/a/x HTTP/1.1\r\nHost: h\r\n%s%s", framing, strings.Repeat("x", 200))
		<-begun
		_ = c.Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%q: half an upload looks whole", framing)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%q: the session was not told", framing)
		}
	}
}

func TestIdleConnections(t *testing.T) {
	cfg := config()
	cfg.IdleTimeout, cfg.MaxIdle = 100*time.Millisecond, 2
	s := newStage(t, cfg).start()
	closed := make(chan struct{}, 20)
	s.raw(t, "a", func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				closed <- struct{}{}
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	for range 10 {
		do(t, s.client(), "GET", s.front.URL+"/user/a/", nil)
	}
	if n := s.dialed(); n != 1 {
		t.Errorf("%d connections for requests one after another", n)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("an unused connection is kept for ever")
	}
	if res, _ := do(t, s.client(), "POST", s.front.URL+"/user/a/", nil); res.StatusCode != http.StatusOK {
		t.Errorf("after: %d", res.StatusCode)
	}
}
