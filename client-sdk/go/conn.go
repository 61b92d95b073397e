package usher

import (
	"net"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// conn is one connection. It carries the session while it is session.conn and is
// not held. Otherwise the session neither counts nor sends messages on it.
type conn struct {
	session *Session
	ws      *websocket.Conn
	net     net.Conn // the network connection of ws; nil if the transport does not expose it

	wake   chan struct{}     // there may be something to write
	gone   chan struct{}     // closed when the session has given up the connection
	ended  chan *loss        // the error that ended the reader
	goaway chan proto.GoAway // the first goaway
	since  time.Time         // time of the welcome; set before the goroutines start

	// Protected by session.mu.
	held         bool // a handshake on another connection is in progress
	lastActivity time.Time
	stalled      bool  // the reader waits for the application
	failed       error // error of a write: the reader must not wait for the application any more
	out          stream.Outbox
	stopAckTimer func() // stops the timer of a delayed acknowledgement
	pongs        []uint64
	pingID       uint64 // of the latest ping
	pingSent     uint64 // the id of the latest ping that was written; lower than pingID while one waits
	pingSentAt   time.Time
	pongID       uint64 // of the latest pong that answers a ping
}

// closeGrace is the time limit of a closing handshake.
const closeGrace = time.Second

func newConn(s *Session) *conn {
	return &conn{
		session: s, lastActivity: time.Now(),
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
		ended: make(chan *loss, 1), goaway: make(chan proto.GoAway, 1),
		stopAckTimer: func() {},
	}
}

// start starts the reader and the writer of the connection.
func (c *conn) start() {
	c.session.wg.Go(c.read)
	c.session.wg.Go(c.write)
}

// wakeWriter makes the writer check for something to write.
func (c *conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// touch records activity of the node.
func (c *conn) touch() {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.lastActivity = time.Now()
}

// shut closes the WebSocket in the background: with the code of l if this side
// found an error, otherwise without a closing handshake.
func (c *conn) shut(l *loss) {
	if l.local {
		c.close(l.Code, l.Reason)
		return
	}
	c.session.wg.Go(func() { _ = c.ws.CloseNow() })
}

// close closes the WebSocket with a code, in the background. It takes at most
// closeGrace if the network connection is known, otherwise the 10 s of the library.
func (c *conn) close(code proto.CloseCode, reason string) {
	c.session.wg.Go(func() {
		defer c.killAfter(closeGrace)()
		_ = c.ws.Close(websocket.StatusCode(code), reason)
	})
}

// killAfter closes the network connection after d, unless stop is called before. The
// caller is a goroutine of session.wg.
func (c *conn) killAfter(d time.Duration) (stop func()) {
	return c.session.afterFunc(d, func() {
		if c.net != nil {
			_ = c.net.Close()
		}
	})
}

// giveUp ends the connection for the session, which ignores it from now on. The
// main goroutine of the session calls it once, and then closes the WebSocket.
func (c *conn) giveUp() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.conn = nil
	}
	c.stopAckTimer()
	s.stats.VolatileDropped += uint64(c.out.End())
	close(c.gone)
	s.sendReady.Broadcast()
	s.readReady.Broadcast()
}

// hold suspends the connection during a handshake on another connection, or
// resumes it.
func (c *conn) hold(held bool) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.held, c.lastActivity = held, time.Now()
	c.session.readReady.Broadcast()
	c.wakeWriter()
}
