package node

import (
	"net"
	"time"

	"github.com/coder/websocket"
)

// gather keeps what is written from now on until flush. Where it may not wait it
// reports whether it did not have to.
func (c *timedConn) gather(wait bool) bool {
	if wait {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return false // the library is writing
	}
	defer c.mu.Unlock()
	if c.gathered == nil {
		c.gathered = gatherBuffers.Get().(*[]byte)
	}
	return true
}

// preface gathers what comes before the first frame.
func (c *timedConn) preface(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.gathered = append(*c.gathered, p...)
}

// frame gathers a message of the node. What does not fit is written first, or,
// where it may not wait, kept with the rest.
func (c *timedConn) frame(typ websocket.MessageType, payload []byte, wait bool) {
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
	if wait && len(*c.gathered)+maxHeader+len(payload) > gatherBytes {
		c.drain()
		if len(payload) > gatherBytes-maxHeader {
			*c.gathered = appendFrameHeader(*c.gathered, opcode, len(payload))
			c.drain()
			c.send(payload)
			return
		}
	}
	*c.gathered = append(appendFrameHeader(*c.gathered, opcode, len(payload)), payload...)
}

// flush sends what was gathered and lets the library's frames go straight through
// again. Where it may not wait it reports whether everything was sent.
func (c *timedConn) flush(wait bool) (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gathered == nil {
		return true, c.err
	}
	if wait {
		c.drain()
	} else if !c.tryDrain() {
		return false, nil
	}
	if cap(*c.gathered) <= gatherBytes {
		*c.gathered = (*c.gathered)[:0]
		gatherBuffers.Put(c.gathered)
	}
	c.gathered = nil
	return true, c.err
}

// Write takes what the library writes: controls of WebSocket, in any number of
// pieces. Nothing comes between them.
func (c *timedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part = append(c.part, p...)
	for len(c.part) >= 2 && c.err == nil {
		n := 2 + int(c.part[1])
		if len(c.part) < n {
			return len(p), nil
		}
		last := c.part[0]&0xf == opcodeClose
		if c.gathered != nil {
			*c.gathered = append(*c.gathered, c.part[:n]...)
			if last {
				c.owes.Store(true) // the library does not wait for it
			}
		} else {
			c.send(c.part[:n])
		}
		c.part = c.part[n:]
		if last && c.gathered == nil && c.err == nil {
			c.err = net.ErrClosed // nothing follows a close
			return len(p), nil
		}
	}
	if len(c.part) == 0 {
		c.part = nil
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// drain sends what was gathered. c.mu is held.
func (c *timedConn) drain() {
	if !c.tryDrain() {
		c.send(*c.gathered)
	}
	*c.gathered = (*c.gathered)[:0]
}

// tryDrain sends as much of what was gathered as can be sent without waiting, and
// reports whether that is all. Most of the time it is: then no deadline is needed.
// c.mu is held.
func (c *timedConn) tryDrain() bool {
	b := *c.gathered
	if len(b) == 0 || c.err != nil {
		return true
	}
	if c.waiter == nil || c.waiter.tls != nil {
		return false
	}
	var n int
	n, c.err = c.waiter.write(b)
	*c.gathered = b[:copy(b, b[n:])]
	return len(*c.gathered) == 0 || c.err != nil
}

// send writes to the network. After an error, which may have cut a frame in
// two, it writes nothing. c.mu is held.
func (c *timedConn) send(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if c.err = c.SetWriteDeadline(time.Now().Add(c.timeout)); c.err == nil {
		_, c.err = c.Conn.Write(p)
		_ = c.SetWriteDeadline(time.Time{}) // or it would end a write that does not wait
	}
}
