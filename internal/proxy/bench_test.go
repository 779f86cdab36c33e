package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/binnacle-hub/binnacle/internal/proxy"
)

// BenchmarkForward is one small request at a time over one connection, through
// net/http, the proxy and a unix socket to a server that does nothing.
// bench/proxy compares whole processes under load.
func BenchmarkForward(b *testing.B) {
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(c)
		}
	}()
	f := &fleet{address: map[string]net.Addr{"a": l.Addr()}}
	p := proxy.New(proxy.DefaultConfig(), f, slog.New(slog.DiscardHandler))
	front := httptest.NewServer(p)
	defer front.Close()
	defer p.Close()
	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(c, "GET /user/a/api/status HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\nCookie: a=1\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

func answerAll(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) == 2 {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		}
	}
}
