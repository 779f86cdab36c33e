package certificate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/binnacle-hub/binnacle"
)

// Database is where replicas share certificates. What is not there is not_found.
type Database interface {
	PutFile(ctx context.Context, path string, data []byte) error
	File(ctx context.Context, path string) (data []byte, modified time.Time, err error)
	Files(ctx context.Context, dir string) (paths []string, err error)
	RemoveFiles(ctx context.Context, path string) error
	// Acquire takes a lock for lease, or extends it; false: another holder has it.
	Acquire(ctx context.Context, name, holder string, lease time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Storage keeps certificates in a database that replicas share.
type Storage struct {
	db    Database
	lease time.Duration
	look  time.Duration

	mu   sync.Mutex
	held map[string]held
}

// held is a lock of this process. Each taking has its own name, so that two parts
// of a process exclude each other like two processes.
type held struct {
	holder string
	stop   func()
}

var _ certmagic.Storage = (*Storage)(nil)

// NewStorage makes a storage whose locks, should their holder die, end after lease.
func NewStorage(db Database, lease time.Duration) *Storage {
	const looks = 40
	return &Storage{db: db, lease: lease, look: min(time.Second, lease/looks), held: map[string]held{}}
}

// Lock waits for the lock called name, and holds it until Unlock or until this
// process ends.
func (s *Storage) Lock(ctx context.Context, name string) error {
	holder := rand.Text()
	for {
		got, err := s.db.Acquire(ctx, name, holder, s.lease)
		if err != nil {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		if got {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.look):
		}
	}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(keeping, name, holder) })
	s.mu.Lock()
	s.held[name] = held{holder: holder, stop: func() { stop(); wg.Wait() }}
	s.mu.Unlock()
	return nil
}

// keep extends the lease until ctx ends; a failure is tried again, and the lease
// outlasts a few of them.
func (s *Storage) keep(ctx context.Context, name, holder string) {
	const parts = 4
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.lease / parts):
			if got, err := s.db.Acquire(ctx, name, holder, s.lease); err == nil && !got {
				return // it was away for too long: another has the lock
			}
		}
	}
}

// Unlock gives the lock back.
func (s *Storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	h, ok := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("unlock %s: it is not held", name)
	}
	h.stop()
	return s.db.Release(ctx, name, h.holder)
}

// Store is [Database.PutFile].
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	return s.db.PutFile(ctx, key, value)
}

// Load returns fs.ErrNotExist when there is nothing.
func (s *Storage) Load(ctx context.Context, key string) ([]byte, error) {
	data, _, err := s.db.File(ctx, key)
	return data, missing(err)
}

// Delete removes key and all below it.
func (s *Storage) Delete(ctx context.Context, key string) error { return s.db.RemoveFiles(ctx, key) }

// Exists says whether there is something at key or below it.
func (s *Storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List has the keys below dir, and what is between with recursive, or only those
// right below it.
func (s *Storage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	paths, err := s.db.Files(ctx, dir)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("list %s: %w", dir, fs.ErrNotExist)
	}
	var keys []string
	for _, p := range paths {
		parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"), "/")
		for i := range parts {
			if i > 0 && !recursive {
				break
			}
			keys = append(keys, path.Join(dir, path.Join(parts[:i+1]...)))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// Stat tells about a key, or that it is a directory.
func (s *Storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	data, modified, err := s.db.File(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(data)), IsTerminal: true}, nil
	}
	if binnacle.CodeOf(err) != binnacle.CodeNotFound {
		return certmagic.KeyInfo{}, err
	}
	list, lerr := s.db.Files(ctx, key)
	if lerr != nil {
		return certmagic.KeyInfo{}, lerr
	}
	if len(list) == 0 {
		return certmagic.KeyInfo{}, missing(err)
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// missing says in certmagic's words that there is nothing.
func missing(err error) error {
	if binnacle.CodeOf(err) == binnacle.CodeNotFound {
		return errors.Join(fs.ErrNotExist, err)
	}
	return err
}
