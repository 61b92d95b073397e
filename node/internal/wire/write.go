package wire

import (
	"net"
	"syscall"
	"time"
)

// batchBytes is how much is gathered before it is written.
const batchBytes = 4 << 10

// batch is gathered output. Its method attempt is made into a function once, because
// that allocates.
type batch struct {
	b []byte

	// One attempt to write without waiting.
	p           []byte
	n           int
	err         error
	attemptFunc func(fd uintptr) bool
}

func newBatch() *batch {
	t := &batch{b: make([]byte, 0, batchBytes)}
	t.attemptFunc = t.attempt
	return t
}

// writeNow writes as much of p as the kernel accepts at once.
func (t *batch) writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	t.p, t.n, t.err = p, 0, nil
	err = raw.Write(t.attemptFunc)
	if err == nil {
		err = t.err
	}
	t.p = nil
	return t.n, err
}

// Begin gathers everything that is written from now on until Flush. If wait is false and
// a write waits, it returns false and gathers nothing.
func (c *Conn) Begin(wait bool) bool {
	if wait {
		c.writeMu.Lock()
	} else if !c.writeMu.TryLock() {
		return false
	}
	defer c.writeMu.Unlock()
	c.gather()
	return true
}

// Append adds a message to the batch, between Begin and Flush. If the batch is full, it
// is written first; if wait is false, the batch grows instead. After an error or a close
// frame Append does nothing.
func (c *Conn) Append(text bool, payload []byte, wait bool) {
	opcode := byte(opBinary)
	if text {
		opcode = opText
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.writeErr != nil {
		return
	}
	c.gather()
	t := c.batch
	const maxHeader = 10
	if wait && len(t.b)+maxHeader+len(payload) > batchBytes {
		c.writeBatch(c.server.cfg.WriteTimeout)
		if len(payload) > batchBytes-maxHeader {
			t.b = appendHeader(t.b, opcode, len(payload))
			n := copy(t.b[len(t.b):batchBytes], payload)
			t.b, payload = t.b[:len(t.b)+n], payload[n:]
			c.writeBatch(c.server.cfg.WriteTimeout)
			c.write(payload, c.server.cfg.WriteTimeout)
			return
		}
	}
	t.b = append(appendHeader(t.b, opcode, len(payload)), payload...)
}

// Flush writes the batch. If wait is false, it writes only what it can without waiting,
// and reports whether that was everything; if not, the batch goes on. After a close
// frame err is net.ErrClosed; after a write that took longer than Config.WriteTimeout it
// is os.ErrDeadlineExceeded.
func (c *Conn) Flush(wait bool) (all bool, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.batch == nil {
		return true, c.writeErr
	}
	if wait {
		c.writeBatch(c.server.cfg.WriteTimeout)
	} else if !c.tryBatch() {
		return false, nil
	}
	c.releaseBatch()
	return true, c.writeErr
}

// Ping sends an empty ping. If the ping cannot be written at once, a goroutine writes
// it, within Config.WriteTimeout.
func (c *Conn) Ping() {
	if !c.pinging.CompareAndSwap(false, true) {
		return // the last one waits, and the client gets it first
	}
	finish := c.startPing()
	if finish == nil {
		c.pinging.Store(false)
		return
	}
	c.server.wg.Go(func() {
		defer c.pinging.Store(false)
		finish()
	})
}

// startPing writes a ping as far as it can without waiting. It returns what remains to
// be done, or nil.
func (c *Conn) startPing() (finish func()) {
	if !c.writeMu.TryLock() {
		return func() { _ = c.writeControl(opPing, nil) }
	}
	defer c.writeMu.Unlock()
	if c.writeErr != nil {
		return nil
	}
	gathering := c.batch != nil // then the ping leaves with the batch
	c.gather()
	c.batch.b = appendHeader(c.batch.b, opPing, 0)
	if gathering {
		return nil
	}
	if !c.tryBatch() {
		return func() { _, _ = c.Flush(true) }
	}
	c.releaseBatch()
	return nil
}

// writeControl writes a ping or a pong, or adds it to the batch if there is one.
func (c *Conn) writeControl(opcode byte, payload []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.writeErr != nil {
		return c.writeErr
	}
	gathering := c.batch != nil
	c.gather()
	t := c.batch
	if len(t.b) > batchBytes-2-maxControl {
		c.writeBatch(c.server.cfg.WriteTimeout)
	}
	t.b = append(appendHeader(t.b, opcode, len(payload)), payload...)
	if !gathering {
		c.writeBatch(c.server.cfg.WriteTimeout)
		c.releaseBatch()
	}
	return c.writeErr
}

// writeClose writes the batch and then a close frame. Nothing can be written after it.
func (c *Conn) writeClose(payload []byte) error {
	return c.endWriting(append(appendHeader(nil, opClose, len(payload)), payload...))
}

// endWriting writes the batch and then last, which is a close frame or nil. It
// returns net.ErrClosed if nothing can be written because endWriting was called before.
func (c *Conn) endWriting(last []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.writeErr != nil {
		return c.writeErr
	}
	c.gather()
	c.batch.b = append(c.batch.b, last...)
	c.writeBatch(min(c.server.cfg.WriteTimeout, closeTimeout))
	c.releaseBatch()
	if c.writeErr != nil {
		return c.writeErr
	}
	c.writeErr = net.ErrClosed
	return nil
}

// gather begins a batch if there is none. The caller holds c.writeMu, as it must for
// everything below.
func (c *Conn) gather() {
	if c.batch == nil {
		c.batch = c.server.batches.Get().(*batch)
	}
}

func (c *Conn) releaseBatch() {
	t := c.batch
	c.batch = nil
	if t.b = t.b[:0]; cap(t.b) <= batchBytes {
		c.server.batches.Put(t)
	}
}

// writeBatch writes the batch, and waits if it has to.
func (c *Conn) writeBatch(timeout time.Duration) {
	c.write(c.batch.b, timeout)
	c.batch.b = c.batch.b[:0]
}

// tryBatch writes as much of the batch as it can without waiting, and reports whether
// nothing is left.
func (c *Conn) tryBatch() bool {
	t := c.batch
	rest := c.tryWrite(t.b)
	t.b = t.b[:copy(t.b, rest)]
	return len(rest) == 0 || c.writeErr != nil
}

// write writes p. Mostly the kernel accepts it at once, and then no deadline is needed.
// After an error nothing is written, because the error may have left an incomplete
// frame.
func (c *Conn) write(p []byte, timeout time.Duration) {
	if p = c.tryWrite(p); len(p) == 0 || c.writeErr != nil {
		return
	}
	if c.writeErr = c.net.SetWriteDeadline(time.Now().Add(timeout)); c.writeErr == nil {
		_, c.writeErr = c.net.Write(p)
		_ = c.net.SetWriteDeadline(time.Time{}) // or it would end a later write that does not wait
	}
}

// tryWrite writes what it can of p without waiting, and returns the rest.
func (c *Conn) tryWrite(p []byte) (rest []byte) {
	if c.transport != plain || len(p) == 0 || c.writeErr != nil {
		return p
	}
	n, err := c.batch.writeNow(c.raw, p)
	c.writeErr = err
	return p[n:]
}
