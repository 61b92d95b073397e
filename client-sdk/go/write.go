package usher

import (
	"context"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// Bounds of the volatile messages that wait to be written.
const (
	maxVolatiles     = 256
	maxVolatileBytes = 64 << 10
)

// ackDelay is how long an acknowledgement waits for others: the protocol
// allows 0.2 s.
const ackDelay = 100 * time.Millisecond

// volatileFrame waits for the reliable frames that were sent before it, so
// that the node sees messages in the order they were sent.
type volatileFrame struct {
	after uint64
	frame []byte
}

// write writes what waits, until the connection ends or is given up.
func (c *conn) write() {
	for {
		typ, frame := c.nextFrame()
		if frame == nil {
			select {
			case <-c.wake:
				continue
			case <-c.gone:
				return
			}
		}
		// Without a deadline: a node that does not read at the moment still
		// pings, and one that is gone is silent, which the session notices.
		if err := c.ws.Write(context.Background(), typ, frame); err != nil {
			c.broken(err)
			return
		}
	}
}

// broken is called when a write failed. The reader is not to wait for the
// application any more. What the node said last, a close code perhaps, may
// still be there to be read; if not, it must not wait for the network either.
func (c *conn) broken(err error) {
	s := c.session
	s.mu.Lock()
	c.failed = err
	s.space.Broadcast()
	s.mu.Unlock()
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-c.gone:
	case <-t.C:
		_ = c.ws.CloseNow()
	}
}

// nextFrame takes the next WebSocket message to write, or nil.
func (c *conn) nextFrame() (websocket.MessageType, []byte) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || c.held {
		return 0, nil
	}
	if ctl, ok := c.nextControl(); ok {
		return websocket.MessageText, proto.AppendControl(nil, ctl)
	}
	return websocket.MessageBinary, c.nextMessage()
}

// nextControl takes the next control. session.mu is held.
func (c *conn) nextControl() (proto.Control, bool) {
	s := c.session
	switch {
	case len(c.pongs) > 0:
		id := c.pongs[0]
		c.pongs = c.pongs[1:]
		s.space.Broadcast()
		return proto.Control{Type: proto.TypePong, ID: id}, true
	case c.pingOwed:
		c.pingOwed, c.pingSent = false, time.Now()
		return proto.Control{Type: proto.TypePing, ID: c.pingID}, true
	case c.ackOwed:
		c.ackOwed = false
		if owed, _ := s.stream.AckDue(); owed {
			s.room.Broadcast() // Close may wait for it
			return proto.Control{Type: proto.TypeAck, Received: s.stream.TakeAck()}, true
		}
	}
	return proto.Control{}, false
}

// nextMessage takes the next message in the order they were sent. session.mu
// is held.
func (c *conn) nextMessage() []byte {
	if len(c.volatiles) > 0 && c.volatiles[0].after < c.next {
		frame := c.volatiles[0].frame
		c.volatiles = c.volatiles[1:]
		c.volatile -= len(frame)
		return frame
	}
	frame := c.session.stream.Frame(c.next)
	if frame != nil {
		c.next++
	}
	return frame
}

// acknowledge sees to it that the node hears what was handled: at once when it
// is much, else a little later, so that one ack does for many messages. s.mu is
// held.
func (s *Session) acknowledge(at time.Duration) {
	c := s.conn
	if c == nil {
		return // the next handshake says it
	}
	owed, now := s.stream.AckDue()
	switch {
	case !owed:
	case now || at == 0:
		c.ackOwed = true
		c.kick()
	case c.ackTimer == nil:
		c.ackTimer = time.AfterFunc(at, c.ackLate)
	}
}

// ackLate is what the timer does.
func (c *conn) ackLate() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ackTimer = nil
	if s.conn == c {
		s.acknowledge(0)
	}
}
