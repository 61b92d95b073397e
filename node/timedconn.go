package node

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// timedConn is the network connection under a WebSocket. It notes when bytes
// arrive, which is what liveness goes by; waits for them at little cost; gives
// each write a deadline, since a context per write would cost a timer and an
// allocation; and gathers small writes into one, so that several messages
// travel in one segment and the library needs no buffer of its own.
type timedConn struct {
	net.Conn
	timeout time.Duration
	heard   atomic.Int64 // Unix time in nanoseconds

	// Of the reader alone.
	waiter   *waiter // nil where there is none; then await does nothing
	taken    *[]byte // what the waiter took, if it is not all read
	read     int     // how much of it is
	boundary int     // Read stops here once; 0 for nowhere

	mu       sync.Mutex
	gathered *[]byte // nil while writes go straight through
	err      error   // of a write; no other follows it
}

// Sizes of the buffers, which are shared: a connection has one only while
// bytes are under way.
const (
	waitBytes   = 2 << 10
	gatherBytes = 4 << 10
)

var (
	waitBuffers   = sync.Pool{New: func() any { b := make([]byte, 0, waitBytes); return &b }}
	gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gatherBytes); return &b }}
)

// errBoundary is what Read returns between two frames, once, where await has
// seen that the first is a control frame.
var errBoundary = errors.New("between frames")

func newTimedConn(c net.Conn, timeout time.Duration) *timedConn {
	t := &timedConn{Conn: c, timeout: timeout, waiter: newWaiter(c)}
	t.heard.Store(time.Now().UnixNano())
	return t
}

// await waits until there is something to read. It is called between frames.
// When what comes is a ping or a pong, the library would handle it and go on
// waiting by itself; Read then stops it.
func (c *timedConn) await() error {
	if c.waiter == nil {
		return nil
	}
	if c.taken == nil {
		taken, err := c.waiter.wait()
		if err != nil {
			return err
		}
		c.taken, c.read = taken, 0
		c.heard.Store(time.Now().UnixNano())
	}
	if n := controlFrame((*c.taken)[c.read:]); n > 0 {
		c.boundary = c.read + n
	}
	return nil
}

// controlFrame returns the length of the whole ping or pong that b begins
// with, or 0.
func controlFrame(b []byte) int {
	const ping, pong, maskBit, longest = 0x89, 0x8a, 0x80, 125
	if len(b) < 2 || b[0] != ping && b[0] != pong || b[1] < maskBit || b[1]-maskBit > longest {
		return 0
	}
	n := 2 + 4 + int(b[1]-maskBit) // with the mask
	if n > len(b) {
		return 0
	}
	return n
}

func (c *timedConn) Read(p []byte) (int, error) {
	switch {
	case c.boundary > 0 && c.read == c.boundary:
		c.boundary = 0
		return 0, errBoundary
	case c.taken != nil:
		return c.readTaken(p), nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *timedConn) readTaken(p []byte) int {
	b := (*c.taken)[c.read:]
	if c.boundary > 0 {
		b = b[:c.boundary-c.read]
	}
	n := copy(p, b)
	if c.read += n; c.read == len(*c.taken) {
		waitBuffers.Put(c.taken)
		c.taken = nil
	}
	return n
}

// gather keeps what is written from now on until flush.
func (c *timedConn) gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gathered == nil {
		c.gathered = gatherBuffers.Get().(*[]byte)
	}
}

// flush sends what was gathered and lets writes go straight through again.
func (c *timedConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gathered == nil {
		return c.err
	}
	c.drain()
	gatherBuffers.Put(c.gathered)
	c.gathered = nil
	return c.err
}

func (c *timedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gathered == nil:
		c.send(p)
	case len(*c.gathered)+len(p) <= gatherBytes:
		*c.gathered = append(*c.gathered, p...)
	default:
		c.drain()
		c.send(p)
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// drain sends what was gathered. c.mu is held.
func (c *timedConn) drain() {
	c.send(*c.gathered)
	*c.gathered = (*c.gathered)[:0]
}

// send writes to the network. After an error, which may have cut a frame in
// two, it writes nothing. c.mu is held.
func (c *timedConn) send(p []byte) {
	if len(p) == 0 || c.err != nil {
		return
	}
	if c.err = c.SetWriteDeadline(time.Now().Add(c.timeout)); c.err == nil {
		_, c.err = c.Conn.Write(p)
	}
}
