package node

import (
	"errors"
	"io"
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
	meter   *meter
	heard   atomic.Int64 // Unix time in nanoseconds

	closing atomic.Bool // the library reads the end of the connection by itself
	waiter  *waiter     // nil where there is none; then await does nothing

	// in is held while somebody waits or reads: the connection's reader, or the
	// library when it closes.
	in     sync.Mutex
	taken  *[]byte // what the waiter took, if it is not all read
	read   int     // how much of it is
	frames frames
	spent  spent

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

// errPinged is what Read returns, once, between a ping or a pong and the frame
// after it.
var errPinged = errors.New("a ping or a pong has passed")

func newTimedConn(c net.Conn, timeout time.Duration, m *meter) *timedConn {
	t := &timedConn{Conn: c, timeout: timeout, meter: m, waiter: newWaiter(c)}
	t.heard.Store(time.Now().UnixNano())
	return t
}

// await waits until there is something to read. It is called between frames.
// If that is a ping or a pong, the library handles it and would go on waiting
// by itself; Read stops it.
func (c *timedConn) await() error {
	if c.waiter == nil {
		return nil
	}
	c.in.Lock()
	defer c.in.Unlock()
	if c.taken != nil {
		return nil
	}
	taken, err := c.waiter.wait()
	if err != nil {
		return err
	}
	c.taken, c.read = taken, 0
	c.heard.Store(time.Now().UnixNano())
	return nil
}

func (c *timedConn) Read(p []byte) (int, error) {
	if c.waiter == nil {
		n, err := c.readConn(p)
		return n, c.count(p[:n], err)
	}
	c.in.Lock()
	defer c.in.Unlock()
	if c.frames.pinged && c.frames.between() {
		c.frames.pinged = false
		if !c.closing.Load() {
			return 0, errPinged
		}
	}
	p = p[:c.frames.most(len(p))]
	n, err := 0, error(nil)
	if c.taken != nil {
		n = c.readTaken(p)
	} else {
		n, err = c.readConn(p)
	}
	return n, c.count(p[:n], err)
}

// count takes in what was read, and waits before more is if it was too much.
func (c *timedConn) count(b []byte, err error) error {
	c.meter.pay(&c.spent, time.Now(), c.frames.took(b), c.RemoteAddr())
	if err == nil && c.frames.parts > maxFragments {
		c.meter.refused.Inc()
		return errFragments
	}
	return err
}

func (c *timedConn) readConn(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	if err == io.EOF {
		// The library takes io.EOF in the middle of a message for the end of the
		// message. The end of a connection is never that.
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *timedConn) readTaken(p []byte) int {
	n := copy(p, (*c.taken)[c.read:])
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
