package usher

import (
	"context"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// Limits of the volatile messages that wait to be written.
const (
	maxVolatiles     = 256
	maxVolatileBytes = 64 << 10
)

// ackDelay is the time that an acknowledgement waits, so that it can confirm several
// messages. The protocol allows 0.2 s.
const ackDelay = 100 * time.Millisecond

// volatileFrame is a volatile message that waits for the reliable frames that were
// sent before it, so that the node receives messages in the order of sending.
type volatileFrame struct {
	after uint64 // number of the last reliable frame before it
	frame []byte
}

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
	if ctl, ok := c.nextControl(); ok {
		return websocket.MessageText, proto.AppendControl(nil, ctl)
	}
	return websocket.MessageBinary, c.nextMessage()
}

// nextControl returns the next control to write. session.mu is held.
func (c *conn) nextControl() (proto.Control, bool) {
	s := c.session
	switch {
	case len(c.pongs) > 0:
		id := c.pongs[0]
		c.pongs = c.pongs[1:]
		s.readReady.Broadcast()
		return proto.Control{Type: proto.TypePong, ID: id}, true
	case c.pingPending:
		c.pingPending, c.pingSent = false, time.Now()
		return proto.Control{Type: proto.TypePing, ID: c.pingID}, true
	case c.ackPending:
		c.ackPending = false
		if pending, _ := s.stream.AckDue(); pending {
			s.sendReady.Broadcast() // Close may wait for it
			return proto.Control{Type: proto.TypeAck, Received: s.stream.TakeAck()}, true
		}
	}
	return proto.Control{}, false
}

// nextMessage returns the next message to write, in the order of sending, or nil.
// session.mu is held.
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

// acknowledge schedules an acknowledgement of the handled messages: at once if there
// are many, otherwise after at, so that one ack confirms several messages. s.mu is
// held.
func (s *Session) acknowledge(at time.Duration) {
	c := s.conn
	if c == nil {
		return // the next handshake sends the count
	}
	pending, now := s.stream.AckDue()
	switch {
	case !pending:
	case now || at == 0:
		c.ackPending = true
		c.wakeWriter()
	case c.ackTimer == nil:
		c.ackTimer = time.AfterFunc(at, c.ackLate)
	}
}

// ackLate is called by the timer.
func (c *conn) ackLate() {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ackTimer = nil
	if s.conn == c {
		s.acknowledge(0)
	}
}
