package proxy

import (
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// continueWait is how long a body waits for the session's server to ask for it,
// when the client said that it should.
const continueWait = time.Second

// upload sends the body of a request while the answer is awaited. nil is a
// request that was sent whole.
type upload struct {
	x    *exchange
	ask  chan struct{} // closed: send the body
	stop chan struct{} // closed: do not begin to
	once sync.Once
	done chan struct{}
	err  error // once done is closed
}

func (x *exchange) startUpload() *upload {
	// Without it net/http reads the body to its end before our first write.
	// HTTP/2 knows no other way and says so with an error.
	_ = x.rc.EnableFullDuplex()
	u := &upload{x: x, ask: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	if !expects(x.r) {
		u.proceed()
	}
	go func() {
		defer close(u.done)
		u.err = u.send()
	}()
	return u
}

// proceed lets the body go.
func (u *upload) proceed() {
	if u != nil {
		u.once.Do(func() { close(u.ask) })
	}
}

func (u *upload) send() error {
	timer := time.NewTimer(continueWait)
	defer timer.Stop()
	select {
	case <-u.stop:
		return http.ErrBodyNotAllowed
	case <-u.ask:
	case <-timer.C:
	}
	x := u.x
	var to io.Writer = x.c.Conn
	var chunks io.WriteCloser
	if x.r.ContentLength < 0 {
		chunks = httputil.NewChunkedWriter(x.c.Conn)
		to = chunks
	}
	err := u.copy(to)
	if err != nil {
		if x.r.Context().Err() == nil && !u.stopped() {
			// Half a body is an error for the session's server too; it may
			// still have answered, so only our side is closed.
			closeWrite(x.c.Conn)
		}
		return err
	}
	if chunks == nil {
		return nil
	}
	if err := chunks.Close(); err != nil {
		return err
	}
	var tail []byte
	for key, values := range x.r.Trailer {
		if hopByHop(key) {
			continue
		}
		for _, v := range values {
			tail = appendHeader(tail, key, v)
		}
	}
	_, err = x.c.Write(append(tail, "\r\n"...))
	return err
}

func (u *upload) stopped() bool {
	select {
	case <-u.stop:
		return true
	default:
		return false
	}
}

func (u *upload) copy(to io.Writer) error {
	buf := u.x.p.takeBuffer()
	defer u.x.p.putBuffer(buf)
	left := u.x.r.ContentLength
	for {
		n, err := u.x.r.Body.Read(buf[:])
		if n > 0 {
			u.x.p.stats.bytesFromClient.Add(int64(n))
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			left -= int64(n)
		}
		if err == io.EOF {
			if u.x.r.ContentLength >= 0 && left != 0 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// endUpload waits for the body to be sent, or breaks it off when the answer is
// complete before. It reports whether the body was sent to its end.
func (x *exchange) endUpload() bool {
	if x.up == nil {
		return true
	}
	select {
	case <-x.up.done:
		return x.up.err == nil
	default:
	}
	close(x.up.stop)
	_ = x.rc.SetReadDeadline(time.Unix(1, 0))
	_ = x.c.Close()
	<-x.up.done
	return false
}
