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

// timedConn is the network connection under a WebSocket. It records when bytes
// arrive, for liveness. It waits for bytes at low cost. It collects frames into one
// write, so that several messages travel in one segment and the library needs no
// buffer of its own. A write that has to wait gets a deadline. The node frames its
// own messages here; the library frames WebSocket control frames.
type timedConn struct {
	net.Conn
	timeout  time.Duration
	meter    *meter
	lastRead atomic.Int64 // Unix time in nanoseconds

	closing      atomic.Bool // the library reads the end of the connection by itself
	drainOnClose atomic.Bool // the close reason may not have reached the client yet
	waiter       *waiter     // nil if the connection has none; then await does nothing
	idle         idleState

	// readMu is held while the reader of the connection, or the library when it
	// closes, waits or reads.
	readMu   sync.Mutex
	silent   bool    // the last wait ended without data
	buffered *[]byte // what the waiter has read, if some of it is unread
	readPos  int     // how much of buffered was read
	frames   frames
	spent    spent

	mu      sync.Mutex
	batch   *[]byte // nil while frames of the library are written directly
	partial []byte  // incomplete control frame of the library
	err     error   // of a write; nothing is written after it
}

// Sizes of the buffers. They are shared: a connection has one only while bytes are in
// transit.
const (
	waitBytes  = 2 << 10
	batchBytes = 4 << 10
)

var (
	waitBuffers  = sync.Pool{New: func() any { b := make([]byte, 0, waitBytes); return &b }}
	batchBuffers = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes); return &b }}
)

// errPinged is returned by Read, once, between a ping or a pong and the next frame.
var errPinged = errors.New("read a ping or a pong")

func newTimedConn(c net.Conn, timeout time.Duration, m *meter) *timedConn {
	t := &timedConn{Conn: c, timeout: timeout, meter: m, waiter: newWaiter(c)}
	t.lastRead.Store(time.Now().UnixNano())
	return t
}

// await waits until there is something to read. It is called between two frames. If a
// ping or a pong arrives, the library handles it and would then wait for the next
// frame; Read stops it with errPinged. await returns errIdle after a long silence.
func (c *timedConn) await() error {
	if c.waiter == nil {
		return nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.buffered != nil {
		return nil
	}
	c.idle.beginWait()
	buffered, err := c.waiter.wait()
	c.silent = c.idle.endWait(c.Conn) && errors.Is(err, os.ErrDeadlineExceeded)
	if c.silent {
		return errIdle
	}
	if err != nil {
		return err
	}
	c.buffered, c.readPos = buffered, 0
	c.lastRead.Store(time.Now().UnixNano())
	return nil
}

// empty reports whether everything that arrived was read. TLS may hold back data, so
// a TLS connection is empty only after a wait without data.
func (c *timedConn) empty() bool {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	return c.waiter != nil && c.buffered == nil && (c.waiter.tls == nil || c.silent)
}

// noteReadError records that reading ended because of what the client sent, unless
// err means that the connection is broken.
func (c *timedConn) noteReadError(err error) {
	var broken net.Error
	if !errors.Is(err, errPinged) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &broken) {
		c.drainOnClose.Store(true)
	}
}

// Close closes the connection. If the client may not have read the close reason yet,
// it closes the connection a moment later, in the background. An idle connection
// without a reader gets one, which sees the end.
func (c *timedConn) Close() error {
	if c.drainOnClose.Swap(false) {
		go c.closeGracefully()
		return nil
	}
	err := c.Conn.Close()
	c.idle.stopPolling()
	return err
}

// After the close reason was sent, data from the client is read and discarded for at
// most this long and this many bytes.
const (
	closeDrainTime  = time.Second
	closeDrainBytes = 64 << 10
)

// closeGracefully closes the connection after the client has closed it or has had
// time to read the close reason. If a connection is closed while it has unread bytes,
// the system resets it, and the reason is lost. The close frame may still be in the
// batch; it is written first.
func (c *timedConn) closeGracefully() {
	c.mu.Lock()
	if c.batch != nil {
		c.writeBatch()
	}
	c.mu.Unlock()
	_ = c.SetReadDeadline(time.Now().Add(closeDrainTime))
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, closeDrainBytes)
	}
	_ = c.Conn.Close()
	c.idle.stopPolling()
}

func (c *timedConn) Read(p []byte) (int, error) {
	if c.waiter == nil {
		n, err := c.readConn(p)
		return n, c.countRead(p[:n], err)
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.frames.pinged && c.frames.between() {
		c.frames.pinged = false
		if !c.closing.Load() {
			return 0, errPinged
		}
	}
	p = p[:c.frames.maxRead(len(p))]
	n, err := 0, error(nil)
	if c.buffered != nil {
		n = c.readBuffered(p)
	} else {
		n, err = c.readConn(p)
	}
	return n, c.countRead(p[:n], err)
}

// countRead charges the connection for the bytes that were read, and sleeps if it
// sends too much. It returns errFragments if a message has too many fragments. The
// caller holds c.readMu.
func (c *timedConn) countRead(b []byte, err error) error {
	c.meter.charge(&c.spent, at(time.Now()), c.frames.consume(b), c.Conn)
	if err == nil && c.frames.parts > maxFragments {
		c.meter.refused.Inc()
		return errFragments
	}
	return err
}

// countFrame is countRead for a frame that does not pass through Read.
func (c *timedConn) countFrame(b []byte) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	_ = c.countRead(b, nil) // never errFragments: the message is one frame
}

// takeBuffered returns the unread bytes if a frame begins there, or nil. The caller
// must pass buf to returnBuffered.
func (c *timedConn) takeBuffered() (buf *[]byte, b []byte) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.buffered == nil || !c.frames.between() || c.frames.more || c.closing.Load() {
		return nil, nil
	}
	buf, c.buffered = c.buffered, nil
	return buf, (*buf)[c.readPos:]
}

// returnBuffered returns a buffer from takeBuffered; left is its unread end, which
// Read continues with. It reports whether nothing was left.
func (c *timedConn) returnBuffered(buf *[]byte, left []byte) (all bool) {
	if len(left) == 0 {
		waitBuffers.Put(buf)
		return true
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.buffered, c.readPos = buf, len(*buf)-len(left)
	return false
}

func (c *timedConn) readConn(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.lastRead.Store(time.Now().UnixNano())
	}
	if err == io.EOF {
		// In the middle of a message the library takes io.EOF for the end of the
		// message. The end of a connection is never that.
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *timedConn) readBuffered(p []byte) int {
	n := copy(p, (*c.buffered)[c.readPos:])
	if c.readPos += n; c.readPos == len(*c.buffered) {
		waitBuffers.Put(c.buffered)
		c.buffered = nil
	}
	return n
}
