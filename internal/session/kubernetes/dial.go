package kubernetes

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// dialTimeout bounds one attempt. Where a machine is lost nobody answers.
const dialTimeout = 2 * time.Second

// Dial implements session.Spawner. The connection is the bare *net.TCPConn:
// package proxy sets TCP_QUICKACK on it after each read, without which Jupyter's
// answers wait 40 ms, and looks at the socket whether it is still alive.
func (s *Spawner) Dial(ctx context.Context, id string) (net.Conn, error) {
	addr, err := s.address(ctx, id)
	if err != nil {
		return nil, err
	}
	if addr != "" {
		if conn, err := s.connect(ctx, addr); err == nil {
			return conn, nil
		}
	}
	return s.dialLater(ctx, id)
}

// address is empty for a session that does not run yet.
func (s *Spawner) address(ctx context.Context, id string) (string, error) {
	if err := s.know(ctx); err != nil {
		return "", err
	}
	if st, ok := s.grave(id); ok {
		return "", session.Ended(st)
	}
	pod, err := s.pod(ctx, id)
	if err != nil {
		return "", err
	}
	switch st := s.status(pod); {
	case st.State == session.Exited:
		return "", session.Ended(st)
	case st.State == session.Running && pod.Status.PodIP != "":
		return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(s.cfg.Port)), nil
	}
	return "", nil
}

func (s *Spawner) connect(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "tcp", addr)
}

// dialLater waits for a server that does not listen yet. Nothing tells when it
// does, so one of those who wait tries, at growing distances; the others follow.
func (s *Spawner) dialLater(ctx context.Context, id string) (net.Conn, error) {
	changed, stop := s.news.of(id)
	defer stop()
	slot, done := s.turns.of(id)
	defer done()
	const first, last = 5 * time.Millisecond, 200 * time.Millisecond
	pause, mine := first, false
	defer func() {
		if mine {
			<-slot
		}
	}()
	for {
		addr, err := s.address(ctx, id)
		if err != nil {
			return nil, err
		}
		var again <-chan time.Time
		if mine && addr != "" {
			conn, err := s.connect(ctx, addr)
			if err == nil {
				return conn, nil
			}
			again = time.After(pause)
			pause = min(2*pause, last)
		}
		take := slot
		if mine {
			take = nil
		}
		select {
		case take <- struct{}{}:
			mine = true
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the session's server: %w", ctx.Err())
		}
	}
}
