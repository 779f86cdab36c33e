package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/session"
)

// Dial implements session.Spawner. A server that listens is reached without
// asking the container engine.
func (s *Spawner) Dial(ctx context.Context, id string) (net.Conn, error) {
	if !session.ValidID(id) {
		return nil, session.NotThere(id)
	}
	conn, err := s.connect(ctx, id)
	if err == nil || !notYet(err) {
		return conn, err
	}
	return s.dialLater(ctx, id)
}

// dialLater waits for the socket of a server that is starting.
func (s *Spawner) dialLater(ctx context.Context, id string) (net.Conn, error) {
	st, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if st.State == session.Exited {
		return nil, session.Ended(st)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed, stop, err := s.dirs.watch(s.runDir(id))
	if err != nil {
		return nil, session.NotThere(id) // it was stopped in between
	}
	defer stop()
	ended, err := s.ended(ctx, id)
	if err != nil {
		return nil, err
	}
	const first, last = 2 * time.Millisecond, 100 * time.Millisecond
	pause := first
	for {
		conn, err := s.connect(ctx, id)
		if err == nil || !notYet(err) {
			return conn, err
		}
		// Between bind and listen the socket is there and refuses, and nothing
		// tells when that is over.
		var again <-chan time.Time
		if errors.Is(err, unix.ECONNREFUSED) {
			again = time.After(pause)
			pause = min(2*pause, last)
		}
		select {
		case <-changed:
		case <-again:
		case <-ended:
			if st, err = s.Get(ctx, id); err != nil {
				return nil, err
			}
			return nil, session.Ended(st)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the session's server: %w", ctx.Err())
		}
	}
}

func notYet(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) }

// connect reaches the socket in the session's directory. The session's user can
// put anything there, so no link is followed and only a socket of theirs is
// taken: else they could have us speak with any socket of this machine.
func (s *Spawner) connect(ctx context.Context, id string) (net.Conn, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open(s.runDir(id), flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "run", Err: err}
	}
	defer unix.Close(dir)
	socket, err := unix.Openat(dir, socketName, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: socketName, Err: err}
	}
	defer unix.Close(socket)
	var owner, st unix.Stat_t
	if err := errors.Join(unix.Fstat(dir, &owner), unix.Fstat(socket, &st)); err != nil {
		return nil, fmt.Errorf("look at the session's socket: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Uid != owner.Uid {
		return nil, &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: "session.dial",
			Message: "The session put something else in the place of its server.", Hint: "Stop it and launch again.",
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(socket))
}
