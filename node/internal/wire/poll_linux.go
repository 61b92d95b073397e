package wire

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
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
	mu    sync.Mutex
	file  *os.File // the epoll instance; nil while run does not wait for events
	conns []*Conn  // by file descriptor

	needed chan struct{} // gets a value when the first connection needs the poller
	log    *slog.Logger
}

// events are the events waited for. Each is reported once and must then be armed
// again.
const events = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func newPoller(log *slog.Logger) *poller { return &poller{needed: make(chan struct{}, 1), log: log} }

// add reports whether wake will be called for the connection when data arrives. The
// caller holds c.readMu.
func (p *poller) add(c *Conn) (ok bool) {
	_ = c.raw.Control(func(fd uintptr) { // does nothing if the connection is closed
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

// open creates the epoll instance. The runtime's poller watches it, so waiting for
// events needs no thread.
func (p *poller) open() (syscall.RawConn, error) {
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

// openRetry is the time between two attempts to create the epoll instance, for which the
// process may have no file left.
const openRetry = 5 * time.Second

// openUntil creates the epoll instance, and tries again until ctx ends. Meanwhile
// connections keep their goroutines, as on other systems.
func (p *poller) openUntil(ctx context.Context) (syscall.RawConn, error) {
	raw, err := p.open()
	if err != nil {
		p.log.Warn("idle connections keep their goroutines: the process cannot wait for them", "error", err)
	}
	for err != nil {
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(openRetry):
		}
		raw, err = p.open()
	}
	return raw, nil
}

// run starts a reader for each connection that has data, until ctx ends. Then it
// starts a reader for every connection.
func (p *poller) run(ctx context.Context) {
	select { // in tests connections may have no descriptor, and the poller is not needed
	case <-p.needed:
	case <-ctx.Done():
		return
	}
	raw, err := p.openUntil(ctx)
	if err != nil {
		return
	}
	defer p.stop()
	file := p.file
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

func (p *poller) stop() {
	p.mu.Lock()
	p.file.Close()
	p.file = nil
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.wake()
		}
	}
}
