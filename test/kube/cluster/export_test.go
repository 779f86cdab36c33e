package cluster

import (
	"net"
	"time"
)

// Ready serves the users of a cluster that is there. expire is what happens when
// nobody has been connected for long.
func Ready(l net.Listener, cancel func()) (expire, end func()) {
	s := &server{cancel: cancel, ready: make(chan struct{}), users: map[net.Conn]bool{}}
	s.idle = time.AfterFunc(time.Hour, s.expire)
	close(s.ready)
	go s.accept(l)
	return s.expire, func() { s.close(l) }
}
