package node

import (
	"context"
	"os"
	"sync"
	"syscall"
)

// canIdlePoll reports whether connections can wait without a goroutine on this
// system.
const canIdlePoll = true

// idlePoller holds the connections that wait without a goroutine. Most connections of
// a node are silent most of the time, and its goroutine is the largest part of what a
// silent connection costs. The kernel reports once (epoll) that a connection has
// data; the connection then gets a goroutine, and returns here when it is silent
// again.
//
// The runtime's own poller keeps watching the same sockets, independently. Calls on
// such a connection, deadlines and Close included, work as usual.
type idlePoller struct {
	mu    sync.Mutex
	file  *os.File     // the epoll instance; nil while run does not wait for events
	conns []*timedConn // by file descriptor

	needed chan struct{} // gets a value when the first connection needs the poller
}

// events are the events waited for. Each is reported once and must then be armed
// again.
const events = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func newIdlePoller() *idlePoller { return &idlePoller{needed: make(chan struct{}, 1)} }

// add reports whether stopPolling will be called for the connection when data
// arrives.
func (p *idlePoller) add(c *timedConn) (ok bool) {
	_ = c.waiter.raw.Control(func(fd uintptr) { // does nothing if the connection is closed
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.file == nil {
			select {
			case p.needed <- struct{}{}:
			default:
			}
			return // the caller continues to read, and tries again when idle
		}
		for len(p.conns) <= int(fd) {
			p.conns = append(p.conns, nil)
		}
		c.waiter.fd = int(fd)
		if ok = p.arm(int(fd)); ok {
			p.conns[fd] = c // an event that comes at once waits for p.mu
		}
	})
	return ok
}

// arm requests the next event of the descriptor. The kernel removes closed
// descriptors by itself. The caller holds p.mu.
func (p *idlePoller) arm(fd int) bool {
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

// open creates the epoll instance. The runtime's poller watches it, so waiting for
// events needs no thread.
func (p *idlePoller) open() (syscall.RawConn, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = os.NewFile(uintptr(fd), "epoll")
	return p.file.SyscallConn()
}

// run starts a reader for each connection that has data, until ctx ends. Then it
// starts a reader for every connection.
func (p *idlePoller) run(ctx context.Context) {
	select { // in tests connections may have no descriptor, and the poller is not needed
	case <-p.needed:
	case <-ctx.Done():
		return
	}
	raw, err := p.open()
	if err != nil {
		return // connections keep their goroutines, as on other systems
	}
	defer p.stop()
	file := p.file
	defer context.AfterFunc(ctx, func() { file.Close() })()
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
func (p *idlePoller) wake(fd int) {
	p.mu.Lock()
	var c *timedConn
	if fd < len(p.conns) {
		c = p.conns[fd]
	}
	p.mu.Unlock()
	if c != nil {
		c.idle.stopPolling()
	}
}

// remove drops a connection that has a reader again.
func (p *idlePoller) remove(c *timedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd := c.waiter.fd; fd < len(p.conns) && p.conns[fd] == c {
		p.conns[fd] = nil
	}
}

func (p *idlePoller) stop() {
	p.mu.Lock()
	p.file.Close()
	p.file = nil
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.idle.stopPolling()
		}
	}
}
