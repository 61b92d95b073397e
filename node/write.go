package node

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// Bounds of what waits to be written beside the stream.
const (
	maxVolatileBytes = 64 << 10
	maxVolatile      = 256
	maxPongs         = 16
	ackDelay         = 100 * time.Millisecond // protocol: at the latest after 0.2 s
)

// conn is one connection of a session.
type conn struct {
	ws  *websocket.Conn
	net *timedConn

	session *Session // set once by attach

	// Protected by session.mu.
	writing   bool   // a goroutine is in write
	urgent    []byte // to write before anything else: the welcome, later a goaway
	asked     bool   // to leave
	mute      bool   // the session has moved; the client will close
	awaits    uint64 // nothing is written before the save of that number is done
	pongs     []uint64
	ackOwed   bool // an acknowledgement goes with the next write
	ackTimer  *time.Timer
	next      uint64 // number of the next reliable frame to write
	volatiles []volatileFrame
	volatile  int // bytes in volatiles
	closing   *closing
	pingAt    time.Time
}

// volatileFrame waits for the reliable frames that were sent before it, so
// that a client sees messages in the order they were sent.
type volatileFrame struct {
	after uint64
	frame []byte
}

// closing says how a connection ends.
type closing struct {
	code   proto.CloseCode
	reason string
	flush  bool // after everything that was sent, not before
}

// kick makes sure that what waits is written. session.mu is held.
func (c *conn) kick() {
	if !c.writing {
		c.writing = true
		c.session.node.goes.Add(1)
		go c.write()
	}
}

// write writes what waits and ends when nothing does: an idle connection has
// no writer.
func (c *conn) write() {
	defer c.session.node.goes.Done()
	for {
		c.session.node.fence.pass()
		end, err := c.writeAll()
		switch {
		case err != nil:
			c.broken(err)
			return
		case end != nil:
			c.close(end.code, end.reason)
			return
		case c.rest():
			return
		}
	}
}

// writeAll writes the frames that wait, in as few segments as they fit, and
// returns how the connection ends, if it does.
func (c *conn) writeAll() (*closing, error) {
	c.net.gather()
	for {
		typ, frame, end := c.nextFrame()
		if frame == nil {
			return end, c.net.flush()
		}
		// The deadline is timedConn's.
		if err := c.ws.Write(context.Background(), typ, frame); err != nil {
			_ = c.net.flush()
			return nil, err
		}
	}
}

// rest reports whether nothing waits; then there is no writer any more.
func (c *conn) rest() bool {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing != nil || c.speaks() && (c.urgent != nil || len(c.pongs) > 0 || c.ackOwed && s.stream != nil || c.messageWaits()) {
		return false
	}
	if len(c.pongs) == 0 {
		c.pongs = nil
	}
	if len(c.volatiles) == 0 {
		c.volatiles = nil
	}
	c.writing = false
	return true
}

// speaks reports whether anything but the end may be written now: not while
// the session may be another node's, and not before it is saved.
// session.mu is held.
func (c *conn) speaks() bool {
	s := c.session
	return !s.frozen && !c.mute && (c.awaits == 0 || c.awaits <= s.saves.done)
}

// messageWaits reports whether nextMessage has one. session.mu is held.
func (c *conn) messageWaits() bool {
	return len(c.volatiles) > 0 && c.volatiles[0].after < c.next || c.frame() != nil
}

// frame returns the next reliable frame, if there is one that may be written.
// session.mu is held.
func (c *conn) frame() []byte {
	s := c.session
	if s.stream == nil || s.node.cfg.Checkpoint && c.next > s.saves.released {
		return nil
	}
	return s.stream.Frame(c.next)
}

// nextFrame takes the next frame to write, or the way the connection ends, or
// nothing.
func (c *conn) nextFrame() (websocket.MessageType, []byte, *closing) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing != nil && (!c.closing.flush || s.frozen) || !c.speaks() {
		return 0, nil, c.closing
	}
	if c.urgent != nil {
		b := c.urgent
		c.urgent = nil
		return websocket.MessageText, b, nil
	}
	if n := len(c.pongs); n > 0 {
		id := c.pongs[0]
		c.pongs = c.pongs[1:]
		return websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: id}), nil
	}
	if c.ackOwed && s.stream != nil {
		c.ackOwed = false
		return websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: s.stream.TakeAck()}), nil
	}
	if b := c.nextMessage(); b != nil {
		s.node.metrics.sent.Inc()
		return websocket.MessageBinary, b, nil
	}
	return 0, nil, c.closing
}

// nextMessage takes the next message in the order they were sent. session.mu
// is held.
func (c *conn) nextMessage() []byte {
	if len(c.volatiles) > 0 && c.volatiles[0].after < c.next {
		b := c.volatiles[0].frame
		c.volatiles = c.volatiles[1:]
		c.volatile -= len(b)
		return b
	}
	b := c.frame()
	if b != nil {
		c.next++
	}
	return b
}

// pushVolatile queues a volatile frame, and drops the oldest when too much
// waits: of positions, the newest is the one worth having. session.mu is held.
func (c *conn) pushVolatile(frame []byte) {
	for len(c.volatiles) > 0 && (len(c.volatiles) >= maxVolatile || c.volatile+len(frame) > maxVolatileBytes) {
		c.volatile -= len(c.volatiles[0].frame)
		c.volatiles = c.volatiles[1:]
		c.session.node.metrics.dropped.WithLabelValues("slow").Inc()
	}
	c.volatiles = append(c.volatiles, volatileFrame{c.session.stream.Sent(), frame})
	c.volatile += len(frame)
	c.kick()
}

// pushPong queues the answer to a ping. A client that pings faster than it
// reads the answers is cut. session.mu is held.
func (c *conn) pushPong(id uint64) proto.CloseCode {
	if len(c.pongs) >= maxPongs {
		return proto.CloseRateExceeded
	}
	c.pongs = append(c.pongs, id)
	c.kick()
	return 0
}

// acknowledge sees to it that the client hears what was handled: at once when
// it is much, else with the timer, so that one acknowledgement does for many
// messages. s.mu is held.
func (s *Session) acknowledge() {
	c := s.conn
	if c == nil {
		return // the next welcome says it
	}
	owed, now := s.stream.AckDue()
	switch {
	case now:
		c.ackOwed = true
		c.kick()
	case !owed:
	case c.ackTimer == nil:
		c.ackTimer = time.AfterFunc(ackDelay, c.ackLate)
	default:
		c.ackTimer.Reset(ackDelay)
	}
}

// ackLate is what the timer does.
func (c *conn) ackLate() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	if owed, _ := s.stream.AckDue(); owed {
		c.ackOwed = true
		c.kick()
	}
}

// shut closes the connection with the code, ahead of whatever waits.
// session.mu is held, and c is not the session's connection any more.
func (c *conn) shut(code proto.CloseCode) {
	c.end(&closing{code: code, reason: code.String()})
}

func (c *conn) end(how *closing) {
	if c.closing != nil {
		return
	}
	c.closing = how
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	c.session.node.metrics.closes.WithLabelValues(closeLabel(how.code)).Inc()
	c.kick()
}

// close tells the client the code and waits a while for its answer.
func (c *conn) close(code proto.CloseCode, reason string) {
	c.net.closing.Store(true)
	_ = c.ws.Close(websocket.StatusCode(code), reason)
}

// broken is called by the writer when a write failed. Closing ends the reader,
// which detaches the session.
func (c *conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) { // it cannot be told with a code: nothing can be written
		c.session.node.metrics.closes.WithLabelValues(proto.CloseTooSlow.String()).Inc()
	}
	_ = c.ws.CloseNow()
}
