//go:build unix

package node

import (
	"io"
	"net"
	"syscall"
)

// waiter waits for bytes on a plain TCP connection and takes them in, from a
// function that is called when the kernel has some. Nearly all connections of
// a node wait nearly always, so what waiting costs is what a session costs:
// net.Conn.Read needs a buffer and, under the WebSocket library's frames, a
// stack of 4 KiB; this holds no buffer and fits a stack of 2 KiB.
type waiter struct {
	raw  syscall.RawConn
	take func(fd uintptr) bool // fill, as a value: made once
	buf  *[]byte               // what was taken, from waitBuffers; nil while waiting
	err  error
}

// newWaiter returns nil if the connection is not one to wait on so: TLS reads
// more than it gives.
func newWaiter(c net.Conn) *waiter {
	kernel, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := kernel.SyscallConn()
	if err != nil {
		return nil
	}
	w := &waiter{raw: raw}
	w.take = w.fill
	return w
}

// wait returns the bytes that came, for the caller to give back to waitBuffers.
func (w *waiter) wait() (*[]byte, error) {
	err := w.raw.Read(w.take)
	buf := w.buf
	w.buf = nil
	if err == nil {
		err = w.err
	}
	return buf, err
}

func (w *waiter) fill(fd uintptr) (done bool) {
	buf := waitBuffers.Get().(*[]byte)
	b := (*buf)[:cap(*buf)]
	n, err := ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), b) })
	switch {
	case err == syscall.EAGAIN:
		waitBuffers.Put(buf)
		return false
	case err == nil && n == 0:
		err = io.EOF
	}
	if err != nil {
		waitBuffers.Put(buf)
		w.err = err
		return true
	}
	*buf = b[:n]
	w.buf = buf
	return true
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != syscall.EINTR {
			return n, err
		}
	}
}
