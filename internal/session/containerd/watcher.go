package containerd

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watcher tells who asks that something happened in a directory. All share one
// inotify instance, of which a user has few.
type watcher struct {
	fs   *fsnotify.Watcher
	done sync.WaitGroup
	mu   sync.Mutex
	subs map[string]map[chan struct{}]bool
}

func newWatcher() (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch directories: %w", err)
	}
	w := &watcher{fs: fs, subs: map[string]map[chan struct{}]bool{}}
	w.done.Go(w.loop)
	return w, nil
}

func (w *watcher) loop() {
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			w.tell(e.Name)
		case _, ok := <-w.fs.Errors: // a queue that ran over: anything may have happened
			if !ok {
				return
			}
			w.tell("")
		}
	}
}

// tell wakes those who watch the file's directory, or all for "".
func (w *watcher) tell(file string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for dir, subs := range w.subs {
		if file != "" && file != dir && filepath.Dir(file) != dir {
			continue
		}
		for c := range subs {
			select {
			case c <- struct{}{}:
			default: // it has been told and has not looked yet
			}
		}
	}
}

// watch returns a channel that says when to look again. The caller calls stop.
func (w *watcher) watch(dir string) (changed <-chan struct{}, stop func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs[dir] == nil {
		if err := w.fs.Add(dir); err != nil {
			return nil, nil, fmt.Errorf("watch the session's directory: %w", err)
		}
		w.subs[dir] = map[chan struct{}]bool{}
	}
	c := make(chan struct{}, 1)
	w.subs[dir][c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.subs[dir], c); len(w.subs[dir]) == 0 {
			delete(w.subs, dir)
			_ = w.fs.Remove(dir) // the directory may be gone, and the watch with it
		}
	}, nil
}

func (w *watcher) close() error {
	err := w.fs.Close()
	w.done.Wait()
	return err
}
