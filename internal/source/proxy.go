package source

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// forwardProxy carries git's HTTP for the public, for as long as one command
// runs. Git looks names up itself and follows redirects; so a check before it
// starts proves nothing. Here each connection is looked up, checked and made
// to the very address that was checked, redirects included.
type forwardProxy struct {
	guard    *guard
	upstream *url.URL // the site's own proxy, nil for none
	log      *slog.Logger
	secret   string
	server   *http.Server
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	refused *binnacle.Error // the first refusal, which git can only report as "502"
}

const (
	dialTimeout   = 15 * time.Second
	headerTimeout = 60 * time.Second
)

// startProxy listens on a free port of loopback until close.
func startProxy(ctx context.Context, g *guard, upstream string, log *slog.Logger) (*forwardProxy, error) {
	p := &forwardProxy{guard: g, secret: rand.Text(), log: log}
	if upstream != "" {
		u, err := url.Parse(upstream)
		if err != nil {
			return nil, errors.New("the configured proxy is not an address")
		}
		p.upstream = u
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for git: %w", err)
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.listener = l
	p.server = &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	p.running.Go(func() {
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.ErrorContext(ctx, "proxy for git ended", slog.Any("err", err))
		}
	})
	return p, nil
}

// close ends every connection and waits for what served them.
func (p *forwardProxy) close() {
	p.stop()
	_ = p.server.Close()
	p.running.Wait()
}

// url is the proxy's address with the secret that keeps other users of the
// machine out. It reaches git by its environment, never by its arguments.
func (p *forwardProxy) url() string {
	return "http://git:" + p.secret + "@" + p.listener.Addr().String()
}

// refusal is why a connection was refused, nil when none was.
func (p *forwardProxy) refusal() *binnacle.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *forwardProxy) handler() http.Handler {
	transport := p.transport()
	plain := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Header.Del("Proxy-Authorization")
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.running.Add(1)
		defer p.running.Done()
		if !p.authorized(r) {
			w.Header().Set("Proxy-Authenticate", `Basic realm="binnacle"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		switch {
		case r.Method == http.MethodConnect:
			p.tunnel(w, r)
		case r.URL.Scheme == "http" && r.URL.Host != "":
			// With a site's proxy in between the transport dials that one only.
			if p.upstream != nil {
				if _, err := p.lookup(r.Context(), r.URL.Hostname()); err != nil {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
			}
			plain.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	})
}

func (p *forwardProxy) authorized(r *http.Request) bool {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("git:"+p.secret))
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) == 1
}

func (p *forwardProxy) transport() *http.Transport {
	t := &http.Transport{
		DialContext:           p.dial,
		ResponseHeaderTimeout: headerTimeout,
		DisableCompression:    true,
		DisableKeepAlives:     true,
	}
	if p.upstream != nil {
		t.Proxy = http.ProxyURL(p.upstream)
		t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return t
}

// lookup checks a host and remembers the refusal. Behind a site's proxy a name
// that cannot be looked up here is left to that proxy.
func (p *forwardProxy) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := p.guard.lookup(ctx, host)
	if err != nil && p.upstream != nil && (errors.Is(err, errNoSuch) || errors.Is(err, errLookup)) {
		return nil, nil
	}
	if err != nil {
		p.refuse(ctx, host, err)
	}
	return addrs, err
}

func (p *forwardProxy) refuse(ctx context.Context, host string, err error) {
	p.log.InfoContext(ctx, "connection of git refused", slog.String("host", host), slog.Any("err", err))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil {
		p.refused = refusal(host, err)
	}
}

// dial connects to an address of addr's host that was checked just now.
func (p *forwardProxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial for git: %w", err)
	}
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, a := range addrs {
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	p.refuse(ctx, host, failed)
	return nil, failed
}

// tunnel answers CONNECT.
func (p *forwardProxy) tunnel(w http.ResponseWriter, r *http.Request) {
	out, err := p.connect(r.Context(), r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	rc := http.NewResponseController(w)
	in, buffered, err := rc.Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	defer in.Close()
	// Closing both ends is how a canceled command gets its copies to end.
	end := context.AfterFunc(r.Context(), func() { _ = in.Close(); _ = out.Close() })
	defer end()
	_ = in.SetDeadline(time.Time{})
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var copies sync.WaitGroup
	copies.Go(func() {
		_, _ = io.Copy(out, buffered)
		closeWrite(out)
	})
	_, _ = io.Copy(in, out)
	closeWrite(in)
	copies.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	_ = c.Close()
}

// connect opens the far side of a tunnel, through the site's proxy if any.
func (p *forwardProxy) connect(ctx context.Context, target string) (net.Conn, error) {
	if p.upstream == nil {
		return p.dial(ctx, "tcp", target)
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, fmt.Errorf("dial for git: %w", err)
	}
	if _, err := p.lookup(ctx, host); err != nil {
		return nil, err
	}
	return p.connectUpstream(ctx, target)
}

func (p *forwardProxy) connectUpstream(ctx context.Context, target string) (net.Conn, error) {
	port := p.upstream.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[p.upstream.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(p.upstream.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("the proxy of this site: %w", err)
	}
	if p.upstream.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: p.upstream.Hostname(), MinVersion: tls.VersionTLS12})
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if u := p.upstream.User; u != nil {
		pass, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+pass)))
	}
	if err := req.Write(conn); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the proxy of this site: %w", err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req) //nolint:bodyclose // the answer to CONNECT has none
	if err != nil || resp.StatusCode != http.StatusOK || br.Buffered() > 0 {
		_ = conn.Close()
		return nil, errors.New("the proxy of this site refused the connection")
	}
	return conn, nil
}
