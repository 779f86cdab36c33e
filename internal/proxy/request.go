package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// hopByHop says whether a request header is for us only, or one we write
// ourselves. key is canonical.
func hopByHop(key string) bool {
	switch key {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", // of one connection
		"Host", "Content-Length", "Expect", "Cookie", // written by appendHead
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
		"X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Ssl", "X-Forwarded-Scheme",
		"X-Real-Ip", "X-Scheme": // who the client is, for whom we speak
		return true
	}
	return false
}

// appendHead writes the head of the request to the session, but for the empty
// line: framing headers follow.
func (p *Proxy) appendHead(b []byte, r *http.Request, rt route) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, rt.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	named := r.Header["Connection"]
	for key, values := range r.Header {
		if hopByHop(key) || (len(named) > 0 && hasToken(named, key)) {
			continue
		}
		for _, v := range values {
			b = appendHeader(b, key, v)
		}
	}
	for _, v := range r.Header["Cookie"] {
		if v = sessionCookies(v); v != "" {
			b = appendHeader(b, "Cookie", v)
		}
	}
	if hasToken(r.Header["Te"], "trailers") {
		b = appendHeader(b, "Te", "trailers")
	}
	return p.appendForwarded(b, r)
}

// appendHeader leaves out what would break the line. net/http lets no such
// value in, but a handler before us may set one.
func appendHeader(b []byte, key, value string) []byte {
	if strings.ContainsAny(value, "\r\n\x00") {
		return b
	}
	b = append(b, key...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendForwarded says who the client is. What a client says itself counts only
// when it is a trusted proxy.
func (p *Proxy) appendForwarded(b []byte, r *http.Request) []byte {
	proto, host := "http", r.Host
	if r.TLS != nil {
		proto = "https"
	}
	port := ""
	client, ok := remoteAddr(r.RemoteAddr)
	trusted := ok && p.trusts(client)
	if trusted {
		switch v := lastValue(r.Header["X-Forwarded-Proto"]); strings.ToLower(v) {
		case "https", "wss":
			proto = "https"
		case "http", "ws":
			proto = "http"
		}
		if v := lastValue(r.Header["X-Forwarded-Host"]); v != "" && visible(v) {
			host = v
		}
		if v := lastValue(r.Header["X-Forwarded-Port"]); validPort(v) {
			port = v
		}
	}
	if port == "" {
		port = portOf(host, proto)
	}
	if ok {
		b = append(b, "X-Forwarded-For: "...)
		if trusted {
			for _, v := range r.Header["X-Forwarded-For"] {
				if v != "" && !strings.ContainsAny(v, "\r\n\x00") {
					b = append(b, v...)
					b = append(b, ", "...)
				}
			}
		}
		b = client.AppendTo(b)
		b = append(b, "\r\n"...)
	}
	b = appendHeader(b, "X-Forwarded-Proto", proto)
	b = appendHeader(b, "X-Forwarded-Host", host)
	return appendHeader(b, "X-Forwarded-Port", port)
}

func (p *Proxy) trusts(a netip.Addr) bool {
	for _, prefix := range p.cfg.TrustedProxies {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// remoteAddr is false for a client on a unix socket.
func remoteAddr(s string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), true
}

// lastValue is what the nearest proxy said.
func lastValue(values []string) string {
	if len(values) == 0 {
		return ""
	}
	v := values[len(values)-1]
	if i := strings.LastIndexByte(v, ','); i >= 0 {
		v = v[i+1:]
	}
	return strings.TrimSpace(v)
}

func portOf(host, proto string) string {
	if _, port, err := net.SplitHostPort(host); err == nil && validPort(port) {
		return port
	}
	if proto == "https" {
		return "443"
	}
	return "80"
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// hasToken looks for a word in comma-separated header values.
func hasToken(values []string, word string) bool {
	for _, v := range values {
		for v != "" {
			var part string
			part, v, _ = strings.Cut(v, ",")
			part, _, _ = strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// isUpgrade says whether a request asks for a WebSocket. Other upgrades (h2c)
// are not carried: the headers that ask for them are dropped and the request is
// answered as if it had not asked.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.Method == http.MethodGet &&
		hasToken(r.Header["Connection"], "upgrade") && hasToken(r.Header["Upgrade"], "websocket")
}
