//go:build unix

package node

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
)

// waiter waits for bytes on a plain TCP connection and reads them, in a function that
// is called when the kernel has data. Nearly all connections of a node wait nearly
// always, so the cost of waiting is the cost of a session. net.Conn.Read needs a
// buffer and, under the frames of the WebSocket library, a stack of 4 KiB. A waiter
// holds no buffer and fits a stack of 2 KiB.
//
// This does not work with TLS: data in the kernel does not mean that there is data to
// read. A TLS connection holds a buffer and a deeper stack until it is idle.
type waiter struct {
	raw      syscall.RawConn
	tls      *tls.Conn             // nil without TLS
	fillFunc func(fd uintptr) bool // the method fill as a value, made once
	buf      *[]byte               // what was read, from waitBuffers; nil while waiting
	err      error
	fd       int // in idlePoller, if it was ever added
}

// newWaiter returns nil if it cannot wait on the connection.
func newWaiter(c net.Conn) *waiter {
	w := &waiter{}
	under := c
	if t, ok := c.(*tls.Conn); ok {
		w.tls, under = t, t.NetConn()
	}
	kernel, ok := under.(syscall.Conn)
	if !ok {
		return nil
	}
	var err error
	if w.raw, err = kernel.SyscallConn(); err != nil {
		return nil
	}
	w.fillFunc = w.fill
	return w
}

// wait returns the bytes that arrived. The caller returns the buffer to waitBuffers.
func (w *waiter) wait() (*[]byte, error) {
	if w.tls != nil {
		return w.waitTLS()
	}
	err := w.raw.Read(w.fillFunc)
	buf := w.buf
	w.buf = nil
	if err == nil {
		err = w.err
	}
	return buf, err
}

func (w *waiter) waitTLS() (*[]byte, error) {
	buf := waitBuffers.Get().(*[]byte)
	for {
		n, err := w.tls.Read((*buf)[:cap(*buf)])
		switch {
		case n > 0: // the next Read returns an error again
			*buf = (*buf)[:n]
			return buf, nil
		case err != nil:
			waitBuffers.Put(buf)
			return nil, err
		}
	}
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

// write writes as much as the kernel accepts at once. It must not be used with TLS.
func (w *waiter) write(b []byte) (n int, err error) {
	if e := w.raw.Write(func(fd uintptr) bool {
		n, err = ignoringEINTR(func() (int, error) { return syscall.Write(int(fd), b) })
		return true
	}); e != nil {
		return 0, e
	}
	if err == syscall.EAGAIN {
		n, err = 0, nil
	}
	return max(n, 0), err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != syscall.EINTR {
			return n, err
		}
	}
}
