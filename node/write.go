package node

import (
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
)

// conn is one connection of a session.
type conn struct {
	ws  *websocket.Conn
	net *timedConn

	session *Session // set once by attach

	// Protected by session.mu.
	writing   bool   // somebody is in write or writeNow
	handling  bool   // the application handles a message of this connection
	urgent    []byte // to write before anything else: the welcome, later a goaway
	asked     bool   // to leave
	mute      bool   // the session has moved; the client will close
	awaits    uint64 // nothing is written before the save of that number is done
	pongs     []uint64
	ackOwed   bool    // an acknowledgement goes with the next write
	ackAt     instant // by when one is to go; 0 when there is none
	lingers   *time.Timer
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

// kick makes sure that what waits is written, by a goroutine of its own.
// session.mu is held.
func (c *conn) kick() {
	if c.begin() {
		go c.write()
	}
}

// begin makes the caller the one who writes, unless somebody does already. It is to
// call write or writeNow. session.mu is held.
func (c *conn) begin() bool {
	if c.writing {
		return false
	}
	c.writing = true
	c.session.node.goes.Add(1)
	return true
}

// startWriting has a message that was just sent written. While the application
// handles a message it is mostly what sends, and a goroutine for each answer costs
// more than the answer: then the caller is to call writeNow, which never waits.
// session.mu is held.
func (c *conn) startWriting() (here bool) {
	switch {
	case !c.messageWaits() || !c.begin():
		return false
	case c.handling:
		return true
	}
	go c.write()
	return false
}

// write writes what waits and ends when nothing does: an idle connection has
// no writer.
func (c *conn) write() {
	defer c.session.node.goes.Done()
	for {
		c.session.node.fence.pass()
		end, _, err := c.writeAll(true)
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

// writeNow is write for callers that must not wait: what takes longer it leaves to
// a goroutine.
func (c *conn) writeNow() {
	for !c.session.node.fence.stalled() {
		end, wrote, err := c.writeAll(false)
		if !wrote || end != nil || err != nil {
			break
		}
		if c.rest() {
			c.session.node.goes.Done()
			return
		}
	}
	go c.write()
}

// writeAll writes the frames that wait, in as few segments as they fit, and
// returns how the connection ends, if it does. Where it may not wait it reports
// whether everything was written.
func (c *conn) writeAll(wait bool) (end *closing, wrote bool, err error) {
	if !c.net.gather(wait) {
		return nil, false, nil
	}
	for {
		typ, frame, end := c.nextFrame()
		if frame == nil {
			wrote, err := c.net.flush(wait)
			return end, wrote, err
		}
		c.net.frame(typ, frame, wait)
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
	if s.stream != nil && (c.ackOwed || c.ackRides()) {
		c.ackOwed, c.ackAt = false, 0
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
	if c.lingers != nil {
		c.lingers.Stop()
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
