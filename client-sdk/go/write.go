package usher

import (
	"context"
	"math"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// ackDelay is the time that an acknowledgement waits, so that it can confirm several
// messages. The protocol allows 0.2 s.
const ackDelay = 100 * time.Millisecond

// write writes the waiting messages until the connection ends or is given up.
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
		// Without a deadline: a node that does not read for a while still pings, and
		// the session notices when a node is inactive.
		if err := c.ws.Write(context.Background(), typ, frame); err != nil {
			c.broken(err)
			return
		}
	}
}

// broken is called when a write failed. The reader no longer waits for the
// application. The last messages of the node, for example a close code, may still be
// readable; after closeGrace broken closes the connection, so that the reader does
// not wait for the network either.
func (c *conn) broken(err error) {
	s := c.session
	s.mu.Lock()
	c.failed = err
	s.readReady.Broadcast()
	s.mu.Unlock()
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-c.gone:
	case <-t.C:
		_ = c.ws.CloseNow()
	}
}

// nextFrame returns the next WebSocket message to write, or nil.
func (c *conn) nextFrame() (websocket.MessageType, []byte) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || c.held {
		return 0, nil
	}
	if ctl, ok := c.nextPing(); ok {
		return websocket.MessageText, proto.AppendControl(nil, ctl)
	}
	item := c.out.Next(math.MaxUint64)
	if item.Kind == stream.Ack {
		s.sendReady.Broadcast() // Close may wait for it
		return websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: item.Received})
	}
	return websocket.MessageBinary, item.Frame
}

// nextPing returns the next pong or ping to write. session.mu is held.
func (c *conn) nextPing() (proto.Control, bool) {
	switch {
	case len(c.pongs) > 0:
		id := c.pongs[0]
		c.pongs = c.pongs[1:]
		c.session.readReady.Broadcast()
		return proto.Control{Type: proto.TypePong, ID: id}, true
	case c.pingSent < c.pingID:
		c.pingSent, c.pingSentAt = c.pingID, time.Now()
		return proto.Control{Type: proto.TypePing, ID: c.pingID}, true
	}
	return proto.Control{}, false
}

// acknowledge schedules an acknowledgement of the handled messages. s.mu is held.
func (s *Session) acknowledge() {
	c := s.conn
	if c == nil {
		return // the next handshake sends the count
	}
	switch c.out.Acknowledge() {
	case stream.AckNow:
		c.wakeWriter()
	case stream.AckLater:
		c.stopAckTimer()
		c.stopAckTimer = s.afterFunc(ackDelay, c.ackLate)
	}
}

// acknowledgeNow sends the acknowledgement of the handled messages, if there are any.
// session.mu is held.
func (c *conn) acknowledgeNow() {
	if c.out.WantAck() {
		c.wakeWriter()
	}
}

// ackLate is called by the timer.
func (c *conn) ackLate() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		c.acknowledgeNow()
	}
}
