package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// smallBody goes out in one write with its head and can be sent again.
	smallBody = 16 << 10
	// bufferSize is what a body is copied through.
	bufferSize = 32 << 10
	// readerSize holds the heads of most answers and the whole of many.
	readerSize = 4 << 10
	// maxTries bounds how often a request that can be repeated meets a
	// connection that was just closed.
	maxTries = 3
)

// errStale is a connection that the session's server closed before it saw the
// request.
var errStale = errors.New("the connection was closed before an answer came")

// exchange is one request and its answer.
type exchange struct {
	p    *Proxy
	w    http.ResponseWriter
	r    *http.Request
	rt   route
	t    *target
	c    *conn
	br   *bufio.Reader
	rc   *http.ResponseController
	up   *upload // nil when the request is sent whole
	wake time.Time
}

// forward carries a request that is not an upgrade.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, rt route) {
	head := p.takeHead()
	defer p.putHead(head)
	*head = p.appendHead((*head)[:0], r, rt)
	whole, err := p.appendBody(head, r)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	careful := !whole || !idempotent(r.Method)
	for try := 1; ; try++ {
		t, c := p.pooled(rt.id, careful || try > 1)
		reused := c != nil
		if !reused {
			if t, c, err = p.dial(r.Context(), rt.id); err != nil {
				p.failDial(w, r, rt, err)
				return
			}
		}
		if try == 1 && personal(r.Method, pathOf(rt.rest)) {
			t.touch()
		}
		x := &exchange{p: p, w: w, r: r, rt: rt, t: t, c: c}
		err = x.run(*head, whole)
		if errors.Is(err, errStale) && reused && !careful && try < maxTries && r.Context().Err() == nil {
			continue
		}
		if err != nil {
			p.failBackend(w, r, rt, err)
		}
		return
	}
}

// idempotent requests may be sent again on another connection.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// appendBody ends the head, with the framing headers of the body and, when it
// is small, the body itself. It reports whether that is the whole request.
func (p *Proxy) appendBody(head *[]byte, r *http.Request) (bool, error) {
	b := *head
	n := r.ContentLength
	switch {
	case r.Body == nil || r.Body == http.NoBody || n == 0:
		if n == 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch) {
			b = append(b, "Content-Length: 0\r\n"...)
		}
		*head = append(b, "\r\n"...) //nolint:gocritic // b grew from *head
		return true, nil
	case n < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for key := range r.Trailer {
			b = appendHeader(b, "Trailer", key)
		}
	default:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, n, 10)
		b = append(b, "\r\n"...)
	}
	if expects(r) {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	b = append(b, "\r\n"...)
	*head = b
	if n < 0 || n > smallBody || expects(r) {
		return false, nil
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r.Body, b[len(b)-int(n):]); err != nil {
		return false, err
	}
	p.stats.bytesFromClient.Add(n)
	*head = b
	return true, nil
}

func expects(r *http.Request) bool { return hasToken(r.Header["Expect"], "100-continue") }

// run sends the request and hands on the answer. An error means that nothing
// was sent to the client; errStale that the session's server did not see the
// request.
func (x *exchange) run(head []byte, whole bool) error {
	stop := context.AfterFunc(x.r.Context(), func() { _ = x.c.Close() })
	x.c.begin()
	if _, err := x.c.Write(head); err != nil {
		stop()
		x.t.discard(x.c)
		return errors.Join(errStale, err)
	}
	x.rc = http.NewResponseController(x.w)
	if !whole {
		x.up = x.startUpload()
	}
	x.br = x.p.takeReader(x.c)
	res, err := x.answer() //nolint:bodyclose // the body is spliced, then its connection kept or closed
	if err != nil {
		stop()
		x.t.discard(x.c)
		x.endUpload()
		x.p.putReader(x.br)
		if !x.c.read {
			err = errors.Join(errStale, err)
		}
		return err
	}
	err = x.relay(res)
	clean := x.endUpload() && err == nil && !res.Close && x.br.Buffered() == 0
	x.p.putReader(x.br)
	if stop() && clean {
		x.t.put(x.c)
	} else {
		x.t.discard(x.c)
	}
	if err != nil {
		// The head is out: only breaking off tells the client.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// answer reads heads until the final one.
func (x *exchange) answer() (*http.Response, error) {
	for {
		res, err := http.ReadResponse(x.br, x.r)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("it switched protocols without being asked")
		case res.StatusCode == http.StatusContinue:
			x.up.proceed()
		case res.StatusCode == http.StatusEarlyHints:
			// Only a few of them: the limit of the head covers all.
			h := x.w.Header()
			h["Link"] = res.Header["Link"]
			x.w.WriteHeader(http.StatusEarlyHints)
			delete(h, "Link")
		case res.StatusCode >= 200:
			x.c.headLeft = -1
			return res, nil
		}
	}
}

func (p *Proxy) takeHead() *[]byte {
	if b, ok := p.heads.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 2<<10)
	return &b
}

func (p *Proxy) putHead(b *[]byte) {
	if cap(*b) <= 2*smallBody {
		p.heads.Put(b)
	}
}

func (p *Proxy) takeReader(c *conn) *bufio.Reader {
	if br, ok := p.readers.Get().(*bufio.Reader); ok {
		br.Reset(c)
		return br
	}
	return bufio.NewReaderSize(c, readerSize)
}

func (p *Proxy) putReader(br *bufio.Reader) {
	br.Reset(nil)
	p.readers.Put(br)
}

func (p *Proxy) takeBuffer() *[bufferSize]byte {
	if b, ok := p.buffers.Get().(*[bufferSize]byte); ok {
		return b
	}
	return new([bufferSize]byte)
}

func (p *Proxy) putBuffer(b *[bufferSize]byte) { p.buffers.Put(b) }
