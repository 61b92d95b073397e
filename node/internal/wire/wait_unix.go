//go:build unix

package wire

import (
	"io"
	"syscall"
)

// canWait reports whether plain connections can be read and written without waiting.
const canWait = true

// waitKernel waits for bytes on a plain connection and reads them, in a function that is
// called when the kernel has data. Unlike net.Conn.Read it needs no buffer before that,
// and it fits the smallest stack.
func (r *reader) waitKernel() error {
	r.fillErr = nil
	if err := r.conn.raw.Read(r.fillFunc); err != nil {
		return err
	}
	return r.fillErr
}

// fill reads what the kernel has, and reports whether the wait is over.
func (r *reader) fill(fd uintptr) (done bool) {
	buf := r.conn.server.inputs.Get().(*[]byte)
	b := (*buf)[:cap(*buf)]
	n, err := ignoringEINTR(syscall.Read, int(fd), b)
	if n > 0 {
		*buf = b[:n]
		r.in = buf
		return true
	}
	r.conn.server.inputs.Put(buf)
	if err == syscall.EAGAIN {
		return false
	}
	if r.fillErr = err; err == nil {
		r.fillErr = io.EOF
	}
	return true
}

// attempt writes what the kernel accepts at once.
func (t *batch) attempt(fd uintptr) (done bool) {
	n, err := ignoringEINTR(syscall.Write, int(fd), t.p)
	t.n = max(n, 0)
	if err != syscall.EAGAIN {
		t.err = err
	}
	return true
}

func ignoringEINTR(f func(fd int, b []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		if n, err := f(fd, b); err != syscall.EINTR {
			return n, err
		}
	}
}
