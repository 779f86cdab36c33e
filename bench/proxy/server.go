package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/binnacle-hub/binnacle/internal/proxy"
)

// frameSize is the payload of every WebSocket message: a short kernel message.
const frameSize = 100

const bigBody = 1 << 20

// serveBackend answers like a session's server, with as little work as
// possible: the load must be able to use up the proxy's core.
func serveBackend(ctx context.Context, address string) error {
	l, err := listen(ctx, address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	small := []byte("HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n" +
		"Content-Length: 52\r\n\r\n" + `{"version": "2.17.0", "padding": "0123456789abcdef"}`)
	big := append([]byte("HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/octet-stream\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n"+
		"Content-Length: 1048576\r\n\r\n"), bytes.Repeat([]byte("x"), bigBody)...)
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetNoDelay(false) // as Jupyter leaves it
		}
		go answer(c, small, big)
	}
}

func answer(c net.Conn, small, big []byte) {
	defer c.Close()
	br := bufio.NewReaderSize(c, 2<<10)
	for {
		head, err := readHead(br)
		if err != nil {
			return
		}
		switch line, _, _ := bytes.Cut(head, []byte("\r\n")); {
		case bytes.Contains(line, []byte("/big")):
			_, err = c.Write(big)
		case bytes.Contains(line, []byte("/echo")), bytes.Contains(line, []byte("/cell")):
			talk(c, br, string(head), bytes.Contains(line, []byte("/cell")))
			return
		default:
			_, err = c.Write(small)
		}
		if err != nil {
			return
		}
	}
}

// talk is a kernel's WebSocket: each message is echoed, or answered with the
// several messages that a cell gives.
func talk(c net.Conn, br *bufio.Reader, head string, cell bool) {
	key := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	var in [6 + frameSize]byte // masked
	out := append([]byte{0x82, frameSize}, make([]byte, frameSize)...)
	if !cell {
		for {
			if _, err := io.ReadFull(br, in[:]); err != nil {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
	for {
		if _, err := io.ReadFull(br, in[:]); err != nil {
			return
		}
		for i := range cellMessages {
			if i > 0 {
				<-time.After(time.Millisecond) // the kernel works
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

// cellMessages are what running a cell sends: busy, its input, the result, the
// reply and idle.
const cellMessages = 5

func readHead(br *bufio.Reader) ([]byte, error) {
	for want := 1; ; {
		if _, err := br.Peek(want); err != nil {
			return nil, err
		}
		b, err := br.Peek(br.Buffered())
		if err != nil {
			return nil, err
		}
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			_, err := br.Discard(i + 4)
			return b[:i], err
		}
		want = len(b) + 1
	}
}

type dialer struct{ network, address string }

func (d dialer) Dial(ctx context.Context, _ string) (net.Conn, error) {
	var nd net.Dialer
	return nd.DialContext(ctx, d.network, d.address)
}

// serveOurs is our proxy as the hub mounts it.
func serveOurs(ctx context.Context, address, backend string) error {
	network, at, _ := strings.Cut(backend, ":")
	p := proxy.New(proxy.DefaultConfig(), dialer{network, at}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	defer p.Close()
	return serveHTTP(ctx, address, p)
}

// serveStock is the standard library's ReverseProxy with the usual settings.
func serveStock(ctx context.Context, address, backend string) error {
	network, at, _ := strings.Cut(backend, ":")
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "session"})
			r.SetXForwarded()
		},
		FlushInterval: -1,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1024,
			DisableCompression:  true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer{network, at}.Dial(ctx, "")
			},
		},
	}
	return serveHTTP(ctx, address, p)
}

func serveHTTP(ctx context.Context, address string, h http.Handler) error {
	l, err := listen(ctx, address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	network, at, _ := strings.Cut(address, ":")
	var lc net.ListenConfig
	return lc.Listen(ctx, network, at)
}
