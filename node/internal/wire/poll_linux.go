package wire

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// canPoll reports whether connections can wait without a goroutine on this
// system.
const canPoll = true

// poller holds the connections that wait without a goroutine. Most connections of
// a node are silent most of the time, and its goroutine is the largest part of what a
// silent connection costs. The kernel reports once (epoll) that a connection has
// data; the connection then gets a goroutine, and returns here when it is silent
// again.
//
// The runtime's own poller keeps watching the same sockets, independently. Calls on
// such a connection, deadlines and Close included, work as usual.
type poller struct {
	mu      sync.Mutex
	running bool     // run runs
	file    *os.File // the epoll instance; nil before the first connection needs it, and after run
	conns   []*Conn  // by file descriptor
	failed  bool     // there was no epoll instance for a connection, and the log says so

	opened chan struct{} // gets a value when file is set
	log    *slog.Logger
}

// events are the events waited for. Each is reported once and must then be armed
// again.
const events = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func newPoller(log *slog.Logger) *poller { return &poller{opened: make(chan struct{}, 1), log: log} }

// add reports whether wake will be called for the connection when data arrives. The
// caller holds c.readMu.
func (p *poller) add(c *Conn) (ok bool) {
	_ = c.raw.Control(func(fd uintptr) { // does nothing if the connection is closed
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.open() {
			return // the caller continues to read, and tries again when idle
		}
		for len(p.conns) <= int(fd) {
			p.conns = append(p.conns, nil)
		}
		c.fd = int32(fd)
		if ok = p.arm(int(fd)); ok {
			p.conns[fd] = c // an event that comes at once waits for p.mu
		}
	})
	return ok
}

// arm requests the next event of the descriptor. The kernel removes closed
// descriptors by itself. The caller holds p.mu.
func (p *poller) arm(fd int) bool {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	e := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	if raw.Control(func(epoll uintptr) {
		err = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_MOD, fd, &e)
		if err == syscall.ENOENT {
			err = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, fd, &e)
		}
	}) != nil {
		return false
	}
	return err == nil
}

// open creates the epoll instance, unless there is one, and reports whether there is one
// now. The first connection that rests needs it at once: nobody would ask it to rest again
// soon. The runtime's poller watches the instance, so waiting for events needs no thread.
// The process may have no file left for it; then the next connection tries again. The
// caller holds p.mu.
func (p *poller) open() bool {
	if p.file != nil || !p.running {
		return p.file != nil
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err == nil {
		if err = syscall.SetNonblock(fd, true); err != nil {
			syscall.Close(fd)
		}
	}
	if err != nil {
		if !p.failed {
			p.failed = true
			p.log.Warn("idle connections keep their goroutines: the process cannot wait for them", "error", err)
		}
		return false
	}
	p.file = os.NewFile(uintptr(fd), "epoll")
	p.opened <- struct{}{} // has space: run takes one value, and file is set once
	return true
}

// run starts a reader for each connection that has data, until ctx ends. Then it
// starts a reader for every connection.
func (p *poller) run(ctx context.Context) {
	p.mu.Lock()
	p.running = true
	p.mu.Unlock()
	defer p.stop()
	select { // in tests connections may have no descriptor, and the poller is not needed
	case <-p.opened:
	case <-ctx.Done():
		return
	}
	p.mu.Lock()
	file := p.file
	p.mu.Unlock()
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		file.Close()
	})
	defer func() {
		if !stop() {
			<-closed
		}
	}()
	list := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		if raw.Read(func(epoll uintptr) bool {
			n, err = syscall.EpollWait(int(epoll), list, 0)
			return n > 0 || err != nil && err != syscall.EINTR
		}) != nil || err != nil && err != syscall.EINTR {
			return
		}
		for _, e := range list[:max(n, 0)] {
			p.wake(int(e.Fd))
		}
	}
}

// wake starts a reader for the connection of the descriptor. If the descriptor
// belongs to another connection by now, that reader finds no data and the connection
// becomes idle again.
func (p *poller) wake(fd int) {
	p.mu.Lock()
	var c *Conn
	if fd < len(p.conns) {
		c = p.conns[fd]
	}
	p.mu.Unlock()
	if c != nil {
		c.wake()
	}
}

// remove drops a connection that has a reader again. The caller holds its readMu.
func (p *poller) remove(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd := int(c.fd); fd < len(p.conns) && p.conns[fd] == c {
		p.conns[fd] = nil
	}
}

// stop ends the waits: all connections get readers, and none rests from now on.
func (p *poller) stop() {
	p.mu.Lock()
	p.running = false
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
	select {
	case <-p.opened: // at the same time as the end of ctx
	default:
	}
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.wake()
		}
	}
}
