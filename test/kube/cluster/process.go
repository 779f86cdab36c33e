package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// processes starts the children of this process on a thread of their own that
// lives as long as we do: a child is killed when the thread that made it ends,
// so none of them outlives us, whatever happens to us.
type processes struct {
	logs  string
	ask   chan func()
	ended chan *process // each that ends
	mu    sync.Mutex
	all   map[string]*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why, after done
}

func newProcesses(ctx context.Context, logs string) *processes {
	p := &processes{logs: logs, ask: make(chan func()), ended: make(chan *process), all: map[string]*process{}}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is the children's
		for {
			select {
			case f := <-p.ask:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	return p
}

// start runs a program whose output goes to a file of its name.
func (p *processes) start(ctx context.Context, name string, cmd *exec.Cmd) error {
	log, err := os.OpenFile(filepath.Join(p.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for us alone
	result := make(chan error)
	p.ask <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	one := &process{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		one.err = cmd.Wait()
		close(one.done)
		select {
		case p.ended <- one:
		case <-ctx.Done():
		}
	}()
	p.mu.Lock()
	p.all[name] = one
	p.mu.Unlock()
	return nil
}

// list is a copy of what has been started.
func (p *processes) list() map[string]*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.all)
}

// tail is the end of a program's log, for an error.
func (p *processes) tail(name string) string {
	f, err := os.Open(filepath.Join(p.logs, name+".log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	const size = 2000
	if st, err := f.Stat(); err == nil && st.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return string(bytes.TrimSpace(b))
}
