package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/binnacle-hub/binnacle"
)

// maxHead is the longest head of an answer we read.
const maxHead = 256 << 10

// trustIdle is how long an unused connection is taken to be alive without
// looking.
const trustIdle = time.Second

var errHeadTooLong = errors.New("the head of the answer is too long")

// conn is a connection to a session's server.
type conn struct {
	net.Conn
	quick     *quickAck
	headLeft  int // bytes a head may still have; negative: no head is being read
	idleSince time.Time
	read      bool // something came since begin
}

func newConn(nc net.Conn) *conn {
	c := &conn{Conn: nc, headLeft: -1}
	if tc, ok := nc.(*net.TCPConn); ok {
		c.quick = newQuickAck(tc)
	}
	return c
}

// begin makes ready for reading a head.
func (c *conn) begin() { c.headLeft, c.read = maxHead, false }

func (c *conn) Read(p []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLong
	}
	if c.headLeft > 0 && len(p) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.read = true
		if c.headLeft > 0 {
			c.headLeft -= n
		}
		c.quick.arm()
	}
	return n, err
}

// alive looks whether an unused connection was closed by the other side, or
// holds bytes that nobody asked for.
func (c *conn) alive() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	var b [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && alive
}

// quickAck keeps the kernel from delaying acknowledgements on a TCP
// connection. Jupyter leaves Nagle's algorithm on: with delayed
// acknowledgements each message of a kernel that follows another waits 40 ms.
// The kernel forgets the option, so it is set again after each read. nil does
// nothing.
type quickAck struct {
	raw syscall.RawConn
	set func(uintptr)
}

func newQuickAck(tc *net.TCPConn) *quickAck {
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil
	}
	q := &quickAck{raw: raw, set: func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	}}
	q.arm()
	return q
}

func (q *quickAck) arm() {
	if q != nil {
		_ = q.raw.Control(q.set)
	}
}

// pooled gives an unused connection of the session, or none. With careful it is
// looked at even when it was used just now, for requests that must not be sent
// twice.
func (p *Proxy) pooled(id string, careful bool) (*target, *conn) {
	t := p.lookup(id)
	if t == nil {
		return nil, nil
	}
	for {
		c := t.take()
		if c == nil {
			return t, nil
		}
		if !careful && time.Since(c.idleSince) < trustIdle || c.alive() {
			return t, c
		}
		t.discard(c)
	}
}

// dial makes a new connection to the session, waiting for one that starts.
func (p *Proxy) dial(ctx context.Context, id string) (*target, *conn, error) {
	if p.stats.parked.Add(1) > int64(p.cfg.MaxParked) {
		p.stats.parked.Add(-1)
		return nil, nil, binnacle.Errorf(binnacle.CodeTimeout, "Too many requests wait for sessions to start.")
	}
	defer p.stats.parked.Add(-1)
	wait, cancel := context.WithTimeout(ctx, p.cfg.StartWait)
	defer cancel()
	nc, err := p.backend.Dial(wait, id)
	if err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			return nil, nil, binnacle.Errorf(binnacle.CodeTimeout, "The session is still starting.")
		}
		return nil, nil, fmt.Errorf("dial session: %w", err)
	}
	if t := p.target(id); t != nil {
		if c, ok := t.adopt(nc); ok {
			return t, c, nil
		}
	}
	_ = nc.Close()
	return nil, nil, binnacle.Errorf(binnacle.CodeUnavailable, "The session has stopped.")
}
