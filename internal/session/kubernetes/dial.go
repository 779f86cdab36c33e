package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/binnacle-hub/binnacle"
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
		conn, err := s.connect(ctx, addr)
		if err == nil {
			return conn, nil
		}
		if err := s.away(ctx, id, err); err != nil {
			return nil, err
		}
	}
	return s.dialLater(ctx, id)
}

// away is the error for a session whose server ran, and whose machine does not
// answer any more. It may come back, so the session has not ended.
func (s *Spawner) away(ctx context.Context, id string, err error) error {
	// A server that does not listen yet refuses at once.
	slow, ok := errors.AsType[net.Error](err)
	silent := ok && slow.Timeout() && ctx.Err() == nil
	if pod, err := s.pod(ctx, id); !silent || err != nil || !machineAway(pod, time.Now()) {
		return nil //nolint:nilerr // whoever waits for it asks again
	}
	return &binnacle.Error{
		Code: binnacle.CodeUnavailable, Op: "session.dial", Message: "The machine of the session does not answer.",
		Hint: "If it comes back within minutes, the session goes on where it was: reload the page then. Else launch the repository again.",
	}
}

// machineAway tells a machine that is lost from a network that is not ready yet:
// Kubernetes takes the readiness from pods of a machine that it has not heard of,
// which nothing else does to ours; until then, the server has run for a while.
func machineAway(pod *corev1.Pod, now time.Time) bool {
	const settled = time.Minute
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse {
			return true
		}
	}
	server := serverOf(pod)
	return server != nil && server.State.Running != nil && now.Sub(server.State.Running.StartedAt.Time) > settled
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
			if err := s.away(ctx, id, err); err != nil {
				return nil, err
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
