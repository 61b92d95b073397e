package node

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// timedConn is the network connection under a WebSocket. It notes when bytes
// arrive, which is what liveness goes by; waits for them at little cost; gathers
// frames into one write, so that several messages travel in one segment and the
// library needs no buffer of its own; and gives a write that has to wait a
// deadline. Messages of the node are framed here, controls of WebSocket by the
// library.
type timedConn struct {
	net.Conn
	timeout time.Duration
	meter   *meter
	heard   atomic.Int64 // Unix time in nanoseconds

	closing atomic.Bool // the library reads the end of the connection by itself
	owes    atomic.Bool // the reason of the end may not have reached the client yet
	waiter  *waiter     // nil where there is none; then await does nothing
	idle    idleState

	// in is held while somebody waits or reads: the connection's reader, or the
	// library when it closes.
	in     sync.Mutex
	silent bool    // the last wait was in vain
	taken  *[]byte // what the waiter took, if it is not all read
	read   int     // how much of it is
	frames frames
	spent  spent

	mu       sync.Mutex
	gathered *[]byte // nil while the library's frames go straight through
	part     []byte  // of a frame that the library writes
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
// by itself; Read stops it. It returns errIdle when nothing has come for long.
func (c *timedConn) await() error {
	if c.waiter == nil {
		return nil
	}
	c.in.Lock()
	defer c.in.Unlock()
	if c.taken != nil {
		return nil
	}
	c.idle.wait()
	taken, err := c.waiter.wait()
	c.silent = c.idle.waited(c.Conn) && errors.Is(err, os.ErrDeadlineExceeded)
	if c.silent {
		return errIdle
	}
	if err != nil {
		return err
	}
	c.taken, c.read = taken, 0
	c.heard.Store(time.Now().UnixNano())
	return nil
}

// empty reports whether everything that came has been read, as far as can be told:
// TLS may hold some back, unless it has just waited in vain.
func (c *timedConn) empty() bool {
	c.in.Lock()
	defer c.in.Unlock()
	return c.waiter != nil && c.taken == nil && (c.waiter.tls == nil || c.silent)
}

// fault notes that reading ended with the error, if that is for what the client has
// sent and not because the connection is gone.
func (c *timedConn) fault(err error) {
	var broken net.Error
	if !errors.Is(err, errPinged) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &broken) {
		c.owes.Store(true)
	}
}

// Close closes the connection, a moment later if the client is still to hear why. If
// it has no reader, because it is idle, it gets one now, which sees it.
func (c *timedConn) Close() error {
	if c.owes.Swap(false) {
		go c.partWith()
		return nil
	}
	err := c.Conn.Close()
	c.idle.unpark()
	return err
}

// What a client still sends after it was told why the connection ends is read for
// this long, and so much of it.
const (
	lastWords      = time.Second
	lastWordsBytes = 64 << 10
)

// partWith closes the connection once the client has, or has had the time to read
// why it should: closed with bytes unread, the connection would be reset, and the
// reason lost on its way. It may also be among what is gathered still.
func (c *timedConn) partWith() {
	c.mu.Lock()
	if c.gathered != nil {
		c.drain()
	}
	c.mu.Unlock()
	_ = c.SetReadDeadline(time.Now().Add(lastWords))
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lastWordsBytes)
	}
	_ = c.Conn.Close()
	c.idle.unpark()
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
// c.in is held.
func (c *timedConn) count(b []byte, err error) error {
	c.meter.pay(&c.spent, at(time.Now()), c.frames.took(b), c.Conn)
	if err == nil && c.frames.parts > maxFragments {
		c.meter.refused.Inc()
		return errFragments
	}
	return err
}

// countWhole is count for frames that do not pass through Read.
func (c *timedConn) countWhole(b []byte) {
	c.in.Lock()
	defer c.in.Unlock()
	_ = c.count(b, nil) // of one part
}

// takeBetween returns what has come, if a frame begins there. Whoever has it gives
// it back.
func (c *timedConn) takeBetween() (buf *[]byte, b []byte) {
	c.in.Lock()
	defer c.in.Unlock()
	if c.taken == nil || !c.frames.between() || c.frames.more || c.closing.Load() {
		return nil, nil
	}
	buf, c.taken = c.taken, nil
	return buf, (*buf)[c.read:]
}

// giveBack gives back what was taken, for Read to go on with what is left. It
// reports whether that is nothing.
func (c *timedConn) giveBack(buf *[]byte, left []byte) (all bool) {
	if len(left) == 0 {
		waitBuffers.Put(buf)
		return true
	}
	c.in.Lock()
	defer c.in.Unlock()
	c.taken, c.read = buf, len(*buf)-len(left)
	return false
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
