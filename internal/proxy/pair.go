package proxy

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// pair is a WebSocket: two connections and what flows between them.
type pair struct {
	p              *Proxy
	t              *target
	client, server net.Conn
	quick          *quickAck // of server
	toServer       flow
	toClient       flow
	frames         frames       // of the client
	ended          atomic.Int32 // flows that came to their end
	closed         atomic.Bool
}

// flow is one direction of a pair. At most one goroutine works for it at a
// time, and none while nothing comes.
type flow struct {
	pair     *pair
	src, dst net.Conn
	raw      syscall.RawConn // of src; nil when it cannot be parked (TLS)
	slot     slot
	deadline int64 // of writing to dst, in Unix nanoseconds
}

// piece is what a goroutine needs to move data for a flow. It is pooled with
// its functions bound, so that an event allocates nothing.
type piece struct {
	buf  [bufferSize]byte
	n    int
	err  error
	read func(fd uintptr) bool
}

func (p *Proxy) takePiece() *piece {
	if m, ok := p.pieces.Get().(*piece); ok {
		return m
	}
	m := &piece{}
	m.read = func(fd uintptr) bool {
		for {
			m.n, m.err = syscall.Read(int(fd), m.buf[:])
			if !errors.Is(m.err, syscall.EINTR) {
				return true // also when nothing is there: we do not wait here
			}
		}
	}
	return m
}

func newPair(p *Proxy, t *target, client net.Conn, c *conn) *pair {
	s := &pair{p: p, t: t, client: client, server: c.Conn, quick: c.quick}
	s.toServer = flow{pair: s, src: s.client, dst: s.server, raw: rawConn(s.client)}
	s.toClient = flow{pair: s, src: s.server, dst: s.client, raw: rawConn(s.server)}
	return s
}

// rawConn is nil for a connection whose bytes are not those of its descriptor.
func rawConn(nc net.Conn) syscall.RawConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		raw, _ := c.SyscallConn()
		return raw
	case *net.UnixConn:
		raw, _ := c.SyscallConn()
		return raw
	}
	return nil
}

// Close closes both connections at once.
func (s *pair) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.p.parker.remove(&s.toServer)
	s.p.parker.remove(&s.toClient)
	err := errors.Join(s.client.Close(), s.server.Close())
	s.t.drop(s)
	s.p.stats.openWebSockets.Add(-1)
	return err
}

// begin waits for data: in the parker, or in a goroutine where that cannot be.
func (f *flow) begin() {
	if f.raw != nil && f.pair.p.parker.add(f) {
		return
	}
	if !f.pair.p.parker.start(f.copy) {
		_ = f.pair.Close()
	}
}

// run moves what is there and parks the flow again.
func (f *flow) run() {
	m := f.pair.p.takePiece()
	defer f.pair.p.pieces.Put(m)
	for {
		err := f.raw.Read(m.read)
		if err == nil {
			err = m.err
		}
		switch {
		case errors.Is(err, syscall.EAGAIN):
			f.pair.p.parker.arm(f)
			return
		case err != nil:
			_ = f.pair.Close()
			return
		case m.n == 0:
			f.end()
			return
		}
		if f == &f.pair.toClient {
			f.pair.quick.arm()
		}
		if err := f.deliver(m.buf[:m.n]); err != nil {
			_ = f.pair.Close()
			return
		}
		if m.n < len(m.buf) {
			f.pair.p.parker.arm(f)
			return
		}
	}
}

// copy is run for a connection that cannot be parked. Its buffer is small
// because it is held while nothing comes.
func (f *flow) copy() {
	var buf [4 << 10]byte
	for {
		n, err := f.src.Read(buf[:])
		if n > 0 {
			if f == &f.pair.toClient {
				f.pair.quick.arm()
			}
			if f.deliver(buf[:n]) != nil {
				_ = f.pair.Close()
				return
			}
		}
		if err != nil {
			f.end()
			return
		}
	}
}

// deliver writes data that came from src.
func (f *flow) deliver(b []byte) error {
	s := f.pair
	if f == &s.toServer {
		s.p.stats.bytesFromClient.Add(int64(len(b)))
		if s.frames.scan(b) {
			s.t.touch()
		}
	} else {
		s.p.stats.bytesToClient.Add(int64(len(b)))
	}
	// As in exchange.extend: a deadline is not set for each write.
	now := time.Now()
	timeout := s.p.cfg.WriteTimeout
	if f.deadline-now.UnixNano() < int64(timeout)/2 {
		end := now.Add(timeout)
		f.deadline = end.UnixNano()
		if err := f.dst.SetWriteDeadline(end); err != nil {
			return err
		}
	}
	_, err := f.dst.Write(b)
	return err
}

// end passes on that src sends no more. When both sides have ended, or one of
// them cannot be told, the pair closes; else the other side has some time.
func (f *flow) end() {
	s := f.pair
	if s.closed.Load() {
		return
	}
	if s.ended.Add(1) == 2 || !closeWrite(f.dst) {
		_ = s.Close()
		return
	}
	// The timer holds the pair until it fires, also when that closes before.
	time.AfterFunc(s.p.cfg.HalfClose, func() { _ = s.Close() })
}
