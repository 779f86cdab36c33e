package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// upgrade carries a WebSocket handshake and, when the session agrees, joins the
// two connections. It returns once they are joined: the goroutine, its stack
// and net/http's buffers go, only a [pair] stays.
func (p *Proxy) upgrade(w http.ResponseWriter, r *http.Request, rt route) {
	if r.ContentLength != 0 {
		p.fail(w, r, rt, http.StatusBadRequest, binnacle.Errorf(binnacle.CodeInvalid, "A WebSocket handshake has no body."))
		return
	}
	t, c, err := p.dial(r.Context(), rt.id)
	if err != nil {
		p.failDial(w, r, rt, err)
		return
	}
	stop := context.AfterFunc(r.Context(), func() { _ = c.Close() })
	br := p.takeReader(c)
	defer p.putReader(br)
	res, err := p.handshake(c, br, r, rt) //nolint:bodyclose // an upgrade has none, a refusal is copied
	switch {
	case err != nil:
		stop()
		t.discard(c)
		p.failBackend(w, r, rt, err)
	case res.StatusCode != http.StatusSwitchingProtocols:
		x := &exchange{p: p, w: w, r: r, rt: rt, t: t, c: c, br: br, rc: http.NewResponseController(w)}
		err := x.relay(res)
		stop()
		t.discard(c)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	case !stop():
		t.discard(c)
		mustListen(r)
	default:
		p.join(w, r, rt, t, c, br, res)
	}
}

// handshake sends the request on and reads the answer's head.
func (p *Proxy) handshake(c *conn, br *bufio.Reader, r *http.Request, rt route) (*http.Response, error) {
	head := p.takeHead()
	defer p.putHead(head)
	*head = p.appendHead((*head)[:0], r, rt)
	*head = append(*head, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	c.begin()
	if _, err := c.Write(*head); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(br, r)
		if err != nil {
			return nil, err
		}
		if res.StatusCode == http.StatusSwitchingProtocols && !hasToken(res.Header["Upgrade"], "websocket") {
			return nil, errors.New("it switched to a protocol that was not asked for")
		}
		if res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode >= 200 {
			c.headLeft = -1
			return res, nil
		}
	}
}

// join takes the client's connection from net/http and lets the data flow.
func (p *Proxy) join(w http.ResponseWriter, r *http.Request, rt route, t *target, c *conn, br *bufio.Reader, res *http.Response) {
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.discard(c)
		p.failBackend(w, r, rt, err)
		return
	}
	h := make(http.Header, len(res.Header))
	for key, values := range res.Header {
		if !withheld(key) && key != "Content-Length" {
			h[key] = values
		}
	}
	p.guard(h, rt)
	head := append([]byte(nil), "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"...)
	for key, values := range h {
		for _, v := range values {
			head = appendHeader(head, key, v)
		}
	}
	head = append(head, "\r\n"...)
	early, _ := br.Peek(br.Buffered())
	head = append(head, early...)

	s := newPair(p, t, client, c)
	ok := t.exchange(c, s)
	p.stats.webSockets.Add(1)
	p.stats.openWebSockets.Add(1)
	_ = client.SetWriteDeadline(time.Now().Add(p.cfg.WriteTimeout))
	if _, err := client.Write(head); err != nil || !ok {
		_ = s.Close()
		return
	}
	_ = client.SetWriteDeadline(time.Time{})
	if n := rw.Reader.Buffered(); n > 0 {
		sent, _ := rw.Peek(n)
		if err := s.toServer.deliver(sent); err != nil {
			_ = s.Close()
			return
		}
	}
	s.toServer.begin()
	s.toClient.begin()
}

// closeWrite tells the other side that no more comes; false when the
// connection cannot.
func closeWrite(nc net.Conn) bool {
	half, ok := nc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}
