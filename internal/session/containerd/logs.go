package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/binnacle-hub/binnacle/internal/session"
)

// Logs implements session.Spawner.
func (s *Spawner) Logs(ctx context.Context, id string, follow bool, w io.Writer) error {
	st, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var changed, ended <-chan struct{}
	if follow && st.State != session.Exited {
		var stop func()
		if changed, stop, err = s.dirs.watch(s.dir(id)); err != nil {
			return session.NotThere(id) // it was stopped in between
		}
		defer stop()
		if ended, err = s.ended(ctx, id); err != nil {
			return err
		}
	}
	f, err := os.Open(s.logFile(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was written
	}
	if err != nil {
		return fmt.Errorf("open the session's log: %w", err)
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("follow the session's log: %w", err)
		}
		if err := copyNew(w, f); err != nil {
			return err
		}
		if ended == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			ended = nil // once more, for the last lines
		case <-ctx.Done():
		}
	}
}

// copyNew copies what is new, and starts over when the log was cut.
func copyNew(w io.Writer, f *os.File) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.Size() < at {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err == nil {
		_, err = io.Copy(w, f)
	}
	if err != nil {
		return fmt.Errorf("copy the session's log: %w", err)
	}
	return nil
}

// cutLog keeps a log within the limit: the newest part stays, behind a line
// that says so. The shim appends, so what it writes meanwhile follows.
func cutLog(path string, limit int64) error {
	info, err := os.Lstat(path)
	if err != nil || info.Size() <= limit {
		return nil // no log yet, or no longer
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open a log: %w", err)
	}
	defer f.Close()
	tail := make([]byte, limit/4) //nolint:mnd // enough to see how it went on, and not soon again
	n, err := f.ReadAt(tail, info.Size()-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a log: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("cut a log: %w", err)
	}
	if _, err := f.Write(append([]byte("[binnacle: the log grew too long; what came before was removed]\n"), tail[:n]...)); err != nil {
		return fmt.Errorf("write a log: %w", err)
	}
	return nil
}
