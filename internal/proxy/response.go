package proxy

import (
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// spliceFrom is the body length from which the kernel copies, in pieces of
// spliceStep so that a reader that takes nothing is noticed.
const (
	spliceFrom = 64 << 10
	spliceStep = 256 << 10
)

// lastChunk is the end of a chunked body. Fewer bytes than that in the reader
// cannot be more data.
const lastChunk = "0\r\n\r\n"

// relay hands an answer to the client.
func (x *exchange) relay(res *http.Response) error {
	x.header(res)
	x.w.WriteHeader(res.StatusCode)
	if x.r.Method == http.MethodHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		return nil
	}
	var err error
	if res.ContentLength >= 0 {
		err = x.copySized(res.ContentLength)
	} else {
		err = x.copyStream(res)
	}
	if !x.wake.IsZero() {
		_ = x.rc.SetWriteDeadline(time.Time{})
	}
	return err
}

// header copies the answer's headers that may pass, and adds ours.
func (x *exchange) header(res *http.Response) {
	h := x.w.Header()
	named := res.Header["Connection"]
	for key, values := range res.Header {
		if withheld(key) || (len(named) > 0 && hasToken(named, key)) {
			continue
		}
		h[key] = values
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // no guessing
	}
	for key := range res.Trailer {
		h.Add("Trailer", key)
	}
	x.p.guard(h, x.rt)
}

// withheld says whether a header of an answer stops here: those of one
// connection, and those that speak for the whole host, which is not the
// session's alone.
func withheld(key string) bool {
	switch key {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Service-Worker-Allowed", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data",
		"Nel", "Report-To", "Set-Cookie2":
		return true
	}
	return false
}

// guard keeps a session's pages from reaching the hub's or other sessions'.
func (p *Proxy) guard(h http.Header, rt route) {
	if cookies := h["Set-Cookie"]; cookies != nil {
		prefix := rt.prefix()
		if rt.own {
			prefix = ""
		}
		kept := cookies[:0]
		for _, c := range cookies {
			if c, ok := rewriteSetCookie(c, prefix); ok {
				kept = append(kept, c)
			}
		}
		if len(kept) == 0 {
			delete(h, "Set-Cookie")
		} else {
			h["Set-Cookie"] = kept
		}
	}
	if h["Referrer-Policy"] == nil {
		// Not no-referrer: Jupyter wants a Referer on its /files/.
		h["Referrer-Policy"] = p.always.referrer
	}
	if h["Cross-Origin-Resource-Policy"] == nil && h["Access-Control-Allow-Origin"] == nil {
		// A session that allows other origins by CORS (Thebe) means it.
		h["Cross-Origin-Resource-Policy"] = p.always.resource
	}
	if !rt.own && active(h["Content-Type"]) && userFile(rt) && !sandboxed(h["Content-Security-Policy"]) {
		h["Content-Security-Policy"] = append(h["Content-Security-Policy"], "sandbox allow-scripts")
		h["X-Content-Type-Options"] = []string{"nosniff"}
	}
	if p.always.ancestors != "" {
		allowFrames(h, p.always.ancestors)
	}
}

// active says whether a browser runs scripts in content of this type.
func active(contentType []string) bool {
	if len(contentType) == 0 {
		return true // it guesses
	}
	t, _, err := mime.ParseMediaType(contentType[0])
	return err != nil || t == "text/html" || strings.HasSuffix(t, "xml")
}

// userFile says whether the path is one under which Jupyter shows files of the
// repository as they are. It looks at the path as Jupyter does, decoded.
func userFile(rt route) bool {
	rest := pathOf(rt.rest)
	if decoded, err := url.PathUnescape(rest); err == nil {
		rest = decoded
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+rest), "/"), "/")
	return first == "files" || first == "nbconvert"
}

func sandboxed(policies []string) bool {
	for _, policy := range policies {
		for directive := range strings.SplitSeq(policy, ";") {
			name, _, _ := strings.Cut(strings.TrimSpace(directive), " ")
			if strings.EqualFold(name, "sandbox") {
				return true
			}
		}
	}
	return false
}

// allowFrames puts our frame-ancestors in place of the session's.
func allowFrames(h http.Header, ancestors string) {
	delete(h, "X-Frame-Options")
	var policies []string
	for _, policy := range h["Content-Security-Policy"] {
		var kept []string
		for directive := range strings.SplitSeq(policy, ";") {
			directive = strings.TrimSpace(directive)
			name, _, _ := strings.Cut(directive, " ")
			if directive != "" && !strings.EqualFold(name, "frame-ancestors") {
				kept = append(kept, directive)
			}
		}
		if len(kept) > 0 {
			policies = append(policies, strings.Join(kept, "; "))
		}
	}
	h["Content-Security-Policy"] = append(policies, ancestors)
}

// copySized copies a body of n bytes. It reads below http.Response.Body, which
// would hide the connection from the kernel's own copying.
func (x *exchange) copySized(n int64) error {
	x.p.stats.bytesToClient.Add(n)
	if held := min(int64(x.br.Buffered()), n); held > 0 {
		b, err := x.br.Peek(int(held))
		if err != nil {
			return err
		}
		if _, err := x.w.Write(b); err != nil { //nolint:gosec // a proxy passes on what the session answers; pages are isolated by other means
			return err
		}
		_, _ = x.br.Discard(int(held))
		n -= held
	}
	if n == 0 {
		return nil
	}
	if rf, ok := x.w.(io.ReaderFrom); ok && n >= spliceFrom {
		return x.splice(rf, n)
	}
	buf := x.p.takeBuffer()
	defer x.p.putBuffer(buf)
	for n > 0 {
		m, err := x.br.Read(buf[:min(n, bufferSize)])
		n -= int64(m)
		if m > 0 {
			if err := x.write(buf[:m], n > 0 && x.br.Buffered() == 0); err != nil {
				return err
			}
		}
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// splice lets the kernel move the bytes where the writer knows how.
func (x *exchange) splice(rf io.ReaderFrom, n int64) error {
	for n > 0 {
		x.extend()
		step := io.LimitedReader{R: x.c.Conn, N: min(n, spliceStep)}
		m, err := rf.ReadFrom(&step)
		n -= m
		x.c.quick.arm()
		if err != nil {
			return err
		}
		if m == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// copyStream copies a body of unknown length, each piece at once.
func (x *exchange) copyStream(res *http.Response) error {
	mediaType, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	events := strings.EqualFold(strings.TrimSpace(mediaType), "text/event-stream")
	if x.br.Buffered() < len(lastChunk) {
		if err := x.rc.Flush(); err != nil {
			return err
		}
	}
	buf := x.p.takeBuffer()
	defer x.p.putBuffer(buf)
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			x.p.stats.bytesToClient.Add(int64(n))
			if err := x.write(buf[:n], events || x.br.Buffered() < len(lastChunk)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			h := x.w.Header()
			maps.Copy(h, res.Trailer)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *exchange) write(b []byte, flush bool) error {
	x.extend()
	if _, err := x.w.Write(b); err != nil {
		return err
	}
	if flush {
		return x.rc.Flush()
	}
	return nil
}

// extend gives a reader that takes nothing its time. The deadline is set anew
// only when half of it has passed, because setting one costs as much as a
// small write.
func (x *exchange) extend() {
	now := time.Now()
	if x.wake.Sub(now) > x.p.cfg.WriteTimeout/2 {
		return
	}
	x.wake = now.Add(x.p.cfg.WriteTimeout)
	_ = x.rc.SetWriteDeadline(x.wake)
}
