package proxy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// parker holds the flows of all WebSockets that wait for data, in one epoll
// set. A goroutine that waits for a connection costs its stack, 2 to 8 KiB,
// which two to a WebSocket is most of what an idle one would cost; here it
// costs a slot. The set is itself watched by Go's own poller, so that no thread
// blocks on it.
type parker struct {
	once sync.Once
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	file   *os.File // the epoll set; nil until the first flow
	fd     int
	slots  []place
	free   []int32
}

// place is where a slot's flow is; turn tells its uses apart, since an event
// may be read after its flow has gone.
type place struct {
	flow *flow
	turn int32
}

// slot is a flow's place. Zero is none: indexes count from 1.
type slot struct{ index, turn int32 }

const readable = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func newParker() *parker { return &parker{slots: make([]place, 1)} }

// start runs a goroutine that close waits for; false once closed.
func (k *parker) start(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	k.wg.Go(f)
	return true
}

// open makes the set and the goroutine that watches it.
func (k *parker) open() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make an epoll set: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return fmt.Errorf("make an epoll set: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("watch an epoll set: %w", err)
	}
	k.file, k.fd = file, fd
	k.wg.Go(func() { k.watch(raw) })
	return nil
}

// add parks a flow for the first time; false when it cannot be parked.
func (k *parker) add(f *flow) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.once.Do(func() {
		if !k.closed {
			_ = k.open() // without a set every flow has a goroutine
		}
	})
	if k.closed || k.file == nil || f.pair.closed.Load() {
		return false
	}
	index := int32(len(k.slots)) //nolint:gosec // bounded by the number of descriptors
	if n := len(k.free); n > 0 {
		index = k.free[n-1]
		k.free = k.free[:n-1]
	} else {
		k.slots = append(k.slots, place{})
	}
	at := &k.slots[index]
	at.flow = f
	at.turn++
	f.slot = slot{index, at.turn}
	if err := k.control(f, syscall.EPOLL_CTL_ADD); err != nil {
		k.release(f)
		return false
	}
	return true
}

// arm makes the set report the flow once more.
func (k *parker) arm(f *flow) {
	if k.control(f, syscall.EPOLL_CTL_MOD) != nil {
		_ = f.pair.Close()
	}
}

// control goes through RawConn, which keeps the descriptor from being closed,
// and its number from meaning another connection, meanwhile.
func (k *parker) control(f *flow, op int) error {
	var failed error
	err := f.raw.Control(func(fd uintptr) {
		event := syscall.EpollEvent{Events: readable, Fd: f.slot.index, Pad: f.slot.turn}
		failed = syscall.EpollCtl(k.fd, op, int(fd), &event)
	})
	return errors.Join(err, failed)
}

// remove frees the flow's slot. Closing its descriptor, which the caller does,
// takes it out of the set.
func (k *parker) remove(f *flow) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.release(f)
}

func (k *parker) release(f *flow) {
	if f.slot.index == 0 {
		return
	}
	at := &k.slots[f.slot.index]
	if at.turn == f.slot.turn && at.flow == f {
		at.flow = nil
		k.free = append(k.free, f.slot.index)
	}
}

// watch gives each flow that has something a goroutine.
func (k *parker) watch(raw syscall.RawConn) {
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || (err != nil && !errors.Is(err, syscall.EINTR))
		})
		if err != nil || n <= 0 {
			return // closed
		}
		k.dispatch(events[:n])
	}
}

func (k *parker) dispatch(events []syscall.EpollEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	for _, e := range events {
		if at := k.slots[e.Fd]; at.flow != nil && at.turn == e.Pad {
			k.wg.Go(at.flow.run)
		}
	}
}

// close ends the watching and waits for all goroutines. The pairs must have
// been closed.
func (k *parker) close() error {
	k.mu.Lock()
	k.closed = true
	file := k.file
	k.mu.Unlock()
	var err error
	if file != nil {
		err = file.Close()
	}
	k.wg.Wait()
	return err
}
