package node

import (
	"net"
	"time"

	"github.com/coder/websocket"
)

// startBatch collects everything that is written from now on until flush. If wait is
// false and the library is writing, it returns false and starts no batch.
func (c *timedConn) startBatch(wait bool) bool {
	if wait {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return false // the library is writing
	}
	defer c.mu.Unlock()
	if c.batch == nil {
		c.batch = batchBuffers.Get().(*[]byte)
	}
	return true
}

// appendRaw adds bytes to the batch before the first frame.
func (c *timedConn) appendRaw(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.batch = append(*c.batch, p...)
}

// appendFrame adds a frame of the node to the batch. If the batch is full it is
// written first; if wait is false, the batch grows instead.
func (c *timedConn) appendFrame(typ websocket.MessageType, payload []byte, wait bool) {
	opcode := byte(opcodeBinary)
	if typ == websocket.MessageText {
		opcode = opcodeText
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	const maxHeader = 10
	if wait && len(*c.batch)+maxHeader+len(payload) > batchBytes {
		c.writeBatch()
		if len(payload) > batchBytes-maxHeader {
			*c.batch = appendFrameHeader(*c.batch, opcode, len(payload))
			c.writeBatch()
			c.writeConn(payload)
			return
		}
	}
	*c.batch = append(appendFrameHeader(*c.batch, opcode, len(payload)), payload...)
}

// flush writes the batch. After it, frames of the library are written directly again.
// If wait is false, it reports whether everything could be written without waiting.
func (c *timedConn) flush(wait bool) (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batch == nil {
		return true, c.err
	}
	if wait {
		c.writeBatch()
	} else if !c.tryWriteBatch() {
		return false, nil
	}
	if cap(*c.batch) <= batchBytes {
		*c.batch = (*c.batch)[:0]
		batchBuffers.Put(c.batch)
	}
	c.batch = nil
	return true, c.err
}

// Write receives what the library writes: WebSocket control frames, in any number of
// pieces. A control frame is passed on only when it is complete.
func (c *timedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, p...)
	for len(c.partial) >= 2 && c.err == nil {
		n := 2 + int(c.partial[1])
		if len(c.partial) < n {
			return len(p), nil
		}
		last := c.partial[0]&0xf == opcodeClose
		if c.batch != nil {
			*c.batch = append(*c.batch, c.partial[:n]...)
			if last {
				c.drainOnClose.Store(true) // the library does not wait until it is written
			}
		} else {
			c.writeConn(c.partial[:n])
		}
		c.partial = c.partial[n:]
		if last && c.batch == nil && c.err == nil {
			c.err = net.ErrClosed // nothing may follow a close frame
			return len(p), nil
		}
	}
	if len(c.partial) == 0 {
		c.partial = nil
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// writeBatch writes the batch. The caller holds c.mu.
func (c *timedConn) writeBatch() {
	if !c.tryWriteBatch() {
		c.writeConn(*c.batch)
	}
	*c.batch = (*c.batch)[:0]
}

// tryWriteBatch writes as much of the batch as it can without waiting, and reports
// whether that was all of it. Mostly it is, and then no deadline is needed. The
// caller holds c.mu.
func (c *timedConn) tryWriteBatch() bool {
	b := *c.batch
	if len(b) == 0 || c.err != nil {
		return true
	}
	if c.waiter == nil || c.waiter.tls != nil {
		return false
	}
	var n int
	n, c.err = c.waiter.write(b)
	*c.batch = b[:copy(b, b[n:])]
	return len(*c.batch) == 0 || c.err != nil
}

// writeConn writes to the network. After an error it writes nothing, because the
// error may have left an incomplete frame. The caller holds c.mu.
func (c *timedConn) writeConn(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if c.err = c.SetWriteDeadline(time.Now().Add(c.timeout)); c.err == nil {
		_, c.err = c.Conn.Write(p)
		_ = c.SetWriteDeadline(time.Time{}) // or it would end a later write that does not wait
	}
}
