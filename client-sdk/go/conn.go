package usher

import (
	"net"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// conn is one connection. It carries the session while it is session.conn and
// is not held; otherwise nothing is counted or sent on it.
type conn struct {
	session *Session
	ws      *websocket.Conn
	net     net.Conn // beneath ws; nil where the transport does not show it

	wake   chan struct{}     // there may be something to write
	gone   chan struct{}     // closed when the session has given the connection up
	ended  chan *loss        // what the reader ended with
	goaway chan proto.GoAway // the first one
	since  time.Time         // of the welcome; set before the goroutines start

	// Protected by session.mu.
	held      bool // a handshake is under way on another connection
	heard     time.Time
	stalled   bool   // the reader waits for the application
	failed    error  // of a write: the reader is not to wait for the application
	next      uint64 // number of the next reliable frame to write
	pongs     []uint64
	pingOwed  bool
	pingID    uint64 // of the latest ping
	pingSent  time.Time
	pongID    uint64 // of the latest pong that answers one
	ackOwed   bool
	ackTimer  *time.Timer
	volatiles []volatileFrame
	volatile  int // bytes in volatiles
}

// closeGrace is how long a closing handshake may take.
const closeGrace = time.Second

func newConn(s *Session) *conn {
	return &conn{
		session: s, heard: time.Now(),
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
		ended: make(chan *loss, 1), goaway: make(chan proto.GoAway, 1),
	}
}

// start lets the connection carry the session.
func (c *conn) start() {
	c.session.goes.Go(c.read)
	c.session.goes.Go(c.write)
}

// kick makes the writer look for something to write.
func (c *conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// hear notes that the node lives.
func (c *conn) hear() {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.heard = time.Now()
}

// shut closes the WebSocket, in the background: with the code where this side
// found an error, else without a word.
func (c *conn) shut(l *loss) {
	if l.local {
		c.close(l.Code, l.Reason)
		return
	}
	c.session.goes.Go(func() { _ = c.ws.CloseNow() })
}

// close closes the WebSocket with a code, in the background. It does not take
// longer than closeGrace where the network connection is known, and the 10 s
// of the library elsewhere.
func (c *conn) close(code proto.CloseCode, reason string) {
	c.session.goes.Go(func() {
		defer c.killAfter(closeGrace).Stop()
		_ = c.ws.Close(websocket.StatusCode(code), reason)
	})
}

// killAfter breaks the network connection after the time.
func (c *conn) killAfter(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() {
		if c.net != nil {
			_ = c.net.Close()
		}
	})
}

// giveUp ends the connection for the session: from now on it is not listened
// to. It is called once, by the session's main goroutine, which then closes
// the WebSocket.
func (c *conn) giveUp() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.conn = nil
	}
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	s.stats.VolatileDropped += uint64(len(c.volatiles))
	c.volatiles, c.volatile = nil, 0
	close(c.gone)
	s.room.Broadcast()
	s.space.Broadcast()
}

// hold stops the connection while a handshake is under way on another one, or
// lets it go on.
func (c *conn) hold(held bool) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.held, c.heard = held, time.Now()
	c.session.space.Broadcast()
	c.kick()
}
