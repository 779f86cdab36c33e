package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/binnacle-hub/binnacle"
)

// takeLock holds path until the file is closed or this process dies. Without
// it a second containerd would wait for ever, silently, for the first one's
// database.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner := ""
		if b, err := os.ReadFile(path); err == nil {
			owner = strings.TrimSpace(string(b))
		}
		return nil, errors.Join(&binnacle.Error{
			Code: binnacle.CodeConflict, Op: "engine.lock",
			Message: "Another Binnacle (process " + owner + ") uses this data directory.",
			Hint:    "Use that one, stop it, or choose another directory with --data.",
		}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data directory: %w", err), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write the lock of the data directory: %w", err), f.Close())
		}
	}
	return f, nil
}
