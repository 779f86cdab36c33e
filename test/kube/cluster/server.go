package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what users of a cluster need to know.
type Info struct {
	Kubeconfig string `json:"kubeconfig"`
	Registry   string `json:"registry"`
	Box        string `json:"box"` // an image with /box in it
	Dir        string `json:"dir"`
	Error      string `json:"error,omitempty"`
}

func (c *cluster) info() Info {
	return Info{Kubeconfig: c.kubeconfig("admin"), Registry: c.registry(), Box: c.box(), Dir: c.dir}
}

// What one may say on the socket, a word a line. After join the cluster stays
// at least until the connection ends; keep lets it stay until stop.
const (
	Join = "join"
	Keep = "keep"
	Stop = "stop"
	// Start, with the name of a node after it, starts that node again.
	Start = "start"
	// Registry, with a kind of fault or "ok" after it, spoils the registry.
	Registry = "registry"
)

// Socket is where a cluster listens.
func Socket(dir string) string { return filepath.Join(dir, "socket") }

// Serve runs a cluster for those who connect to its socket. It stops when told
// to, when ctx is done, and when nobody has been connected for linger.
func Serve(ctx context.Context, cfg Config, linger time.Duration) error {
	lock, err := Own(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := Sweep(ctx, cfg.Dir); err != nil {
		return err
	}
	_ = os.RemoveAll(cfg.Dir + "-failed") // the logs of one that did not start
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return fmt.Errorf("make the cluster's directory: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", Socket(cfg.Dir))
	if err != nil {
		return fmt.Errorf("listen for users of the cluster: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{linger: linger, cancel: cancel, ready: make(chan struct{}), users: map[net.Conn]bool{}}
	s.idle = time.AfterFunc(linger, s.expire)
	go s.accept(l)
	err = Run(ctx, cfg, func(info Info, do Doer) {
		s.info, s.do = info, do
		close(s.ready)
	})
	if err != nil {
		s.fail(err)
	}
	s.close(l)
	errs := []error{err, os.Remove(cfg.Dir + ".lock")}
	if err == nil {
		errs = append(errs, os.Remove(cfg.Dir+".log"))
	}
	return errors.Join(errs...)
}

// Own takes the lock of a directory, which goes with the process.
func Own(dir string) (*os.File, error) {
	for {
		f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock the cluster's directory: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, errors.Join(ErrRuns, f.Close())
		}
		// The one before us may have removed the file that we have opened.
		opened, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(dir + ".lock"); err == nil && os.SameFile(opened, there) {
			return f, nil
		}
		_ = f.Close()
	}
}

// ExitRuns is the status of a process that found a cluster running.
const ExitRuns = 3

// ErrRuns says that a cluster has this directory.
var ErrRuns = errors.New("a cluster runs in this directory")

// server counts the users of a cluster.
type server struct {
	linger time.Duration
	cancel func()
	idle   *time.Timer
	ready  chan struct{} // closed when info is set
	info   Info
	do     Doer

	mu    sync.Mutex
	kept  bool
	done  bool
	users map[net.Conn]bool
	work  sync.WaitGroup
}

func (s *server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.done {
			_ = conn.Close()
		} else {
			s.users[conn] = true
			s.idle.Stop()
			s.work.Go(func() { s.talk(conn) })
		}
		s.mu.Unlock()
	}
}

// talk hears one user out.
func (s *server) talk(conn net.Conn) {
	defer s.leave(conn)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		word, what, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch word {
		case Start, Registry:
			<-s.ready
			var answer Info
			if s.do == nil { // the cluster did not start
				return
			}
			if err := s.do(word, what); err != nil {
				answer.Error = err.Error()
			}
			if json.NewEncoder(conn).Encode(answer) != nil {
				return
			}
		case Keep:
			s.mu.Lock()
			s.kept = true
			s.mu.Unlock()
			fallthrough
		case Join:
			<-s.ready
			if json.NewEncoder(conn).Encode(s.info) != nil {
				return
			}
		case Stop:
			s.stop()
		}
	}
}

// expire stops the cluster unless somebody has come.
func (s *server) expire() {
	s.mu.Lock()
	nobody := len(s.users) == 0
	s.done = s.done || nobody
	s.mu.Unlock()
	if nobody {
		s.cancel()
	}
}

// stop turns away whoever comes from now on: stopping takes a while, and the cluster
// of one who joined meanwhile would vanish.
func (s *server) stop() {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.cancel()
}

func (s *server) leave(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, conn)
	if len(s.users) == 0 && !s.kept {
		s.idle.Reset(s.linger)
	}
}

// fail tells everybody who waits why there is no cluster.
func (s *server) fail(err error) {
	select {
	case <-s.ready:
	default:
		s.info.Error = err.Error()
		close(s.ready)
		const moment = 200 * time.Millisecond // for the answer to be written
		time.Sleep(moment)
	}
}

// close ends all connections: the other side sees that the cluster is gone.
func (s *server) close(l net.Listener) {
	_ = l.Close()
	s.mu.Lock()
	s.done = true
	for conn := range s.users {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.idle.Stop()
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
	s.work.Wait()
}

// Sweep removes what a cluster in this directory left when it was killed.
func Sweep(ctx context.Context, dir string) error {
	var errs []error
	if n, ok := numberOf(dir); ok {
		l := layout{number: n, dir: dir}
		errs = append(errs, l.disconnect())
		const most = 9
		for i := 1; i <= most; i++ {
			errs = append(errs, removeCgroup(ctx, l.cgroup(i)))
		}
	}
	return errors.Join(append(errs, restoreSysctls(), os.RemoveAll(dir))...)
}
