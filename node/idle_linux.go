package node

import (
	"context"
	"os"
	"sync"
	"syscall"
)

// canPark says that connections can wait without a goroutine.
const canPark = true

// idlers is the connections that wait without a goroutine. Most connections of a
// node are silent most of the time, and a goroutine is most of what such a one
// costs. The kernel says which of them has something to read (epoll), once; the
// connection then gets a goroutine, and comes back here when it is silent again.
//
// The runtime's own poller goes on watching the same sockets and knows nothing of
// this. What is called on a connection meanwhile, deadlines and Close included,
// works as ever.
type idlers struct {
	mu    sync.Mutex
	file  *os.File     // the epoll instance; nil while nobody waits for its events
	conns []*timedConn // by file descriptor

	wanted chan struct{} // gets a value when a connection would wait here, and cannot yet
}

// events is what is waited for: once, then it must be asked for again.
const events = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func newIdlers() *idlers { return &idlers{wanted: make(chan struct{}, 1)} }

// add reports whether somebody will call unpark for the connection.
func (i *idlers) add(c *timedConn) (ok bool) {
	_ = c.waiter.raw.Control(func(fd uintptr) { // not at all if it is closed
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.file == nil {
			select {
			case i.wanted <- struct{}{}:
			default:
			}
			return // it goes on reading, and will be idle again
		}
		for len(i.conns) <= int(fd) {
			i.conns = append(i.conns, nil)
		}
		c.waiter.fd = int(fd)
		if ok = i.ask(int(fd)); ok {
			i.conns[fd] = c // an event that comes at once waits for the lock
		}
	})
	return ok
}

// ask asks for the descriptor's next event. The kernel forgets descriptors that are
// closed. i.mu is held.
func (i *idlers) ask(fd int) bool {
	raw, err := i.file.SyscallConn()
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

// open returns the epoll instance. The runtime's poller watches it, so that waiting
// takes no thread.
func (i *idlers) open() (syscall.RawConn, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.file = os.NewFile(uintptr(fd), "epoll")
	return i.file.SyscallConn()
}

// run gives connections a reader when something has come, until ctx ends; then all
// get one.
func (i *idlers) run(ctx context.Context) {
	select { // a node whose connections are none of the kernel's, as in tests, has no use for it
	case <-i.wanted:
	case <-ctx.Done():
		return
	}
	raw, err := i.open()
	if err != nil {
		return // as on other systems
	}
	defer i.end()
	file := i.file
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
			i.wake(int(e.Fd))
		}
	}
}

// wake gives the connection of the descriptor a reader. If that is another one by
// now, it reads in vain, and parks again.
func (i *idlers) wake(fd int) {
	i.mu.Lock()
	var c *timedConn
	if fd < len(i.conns) {
		c = i.conns[fd]
	}
	i.mu.Unlock()
	if c != nil {
		c.idle.unpark()
	}
}

// forget lets go of a connection that has a reader again.
func (i *idlers) forget(c *timedConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if fd := c.waiter.fd; fd < len(i.conns) && i.conns[fd] == c {
		i.conns[fd] = nil
	}
}

func (i *idlers) end() {
	i.mu.Lock()
	i.file.Close()
	i.file = nil
	conns := i.conns
	i.conns = nil
	i.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.idle.unpark()
		}
	}
}
