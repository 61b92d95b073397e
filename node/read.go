package node

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// errTooLarge says that a message is over the limit.
var errTooLarge = errors.New("message too large")

// serve carries the session over the connection until the connection ends, or is
// idle. It is the connection's only reader and holds no buffer while it waits.
func (c *conn) serve() {
	code, idle := c.readAll()
	switch {
	case idle && c.net.idle.park(c):
		return // another serve goes on when something comes
	case idle:
		// Reading needs a deeper stack than waiting, and a stack that has grown
		// stays so. A fresh goroutine waits on a small one.
		go c.serve()
		return
	}
	c.detach(code)
	c.session.node.goes.Done()
}

// readAll returns the code to close with, or 0 when the connection is gone, or
// that the connection is idle: nothing has come for a while, or nothing but a ping
// or a pong.
func (c *conn) readAll() (code proto.CloseCode, idle bool) {
	for {
		switch err := c.net.await(); {
		case errors.Is(err, errIdle):
			return 0, true
		case err != nil:
			return 0, false
		}
		if code, all := c.readWhole(); code != 0 || all {
			if code != 0 {
				return code, false
			}
			continue
		}
		switch code, err := c.readNext(); {
		case errors.Is(err, errPinged):
			return 0, true
		case err != nil, code != 0:
			return code, false
		}
	}
}

// readNext reads one message and acts on it.
func (c *conn) readNext() (proto.CloseCode, error) {
	// No context of its own: closing the connection ends the wait.
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		c.net.fault(err)
		return 0, err
	}
	return c.readOne(typ, r)
}

// buffers are shared by all connections: a connection has one only while a
// message is on its way in and being handled.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func (c *conn) readOne(typ websocket.MessageType, r io.Reader) (proto.CloseCode, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	text := typ == websocket.MessageText
	b, err := readMessage((*buf)[:0], r, c.limit(text))
	*buf = b[:0]
	switch {
	case errors.Is(err, errTooLarge):
		return proto.CloseTooLarge, nil
	case err != nil:
		c.net.fault(err)
		return 0, err
	}
	return c.act(text, b), nil
}

// readMessage appends the message to b, at most limit bytes of it.
func readMessage(b []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return b, errTooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		}
	}
}

// message counts one application message and hands it to the App.
func (c *conn) message(b []byte) proto.CloseCode {
	m, err := proto.ParseMessage(b)
	if err != nil {
		return proto.CloseProtocolError
	}
	s := c.session
	s.node.fence.pass()
	s.app.Lock()
	defer s.app.Unlock()
	s.mu.Lock()
	if s.conn != c {
		defer s.mu.Unlock()
		return c.stray()
	}
	in := s.stream
	if !m.Volatile {
		in.Receive()
	}
	s.used = at(time.Now())
	c.handling = true
	s.mu.Unlock()
	s.node.metrics.received.Inc()

	s.tellMessage(m)

	s.mu.Lock()
	c.handling = false
	here := false
	if !m.Volatile && s.stream == in { // or the client has begun a new one meanwhile
		here = s.handled(len(m.Data)) && c.begin()
	}
	s.mu.Unlock()
	if here {
		c.writeNow()
	}
	return 0
}

// handled notes that the application is done with a message. It reports whether
// its acknowledgement is to be written now. s.mu is held.
func (s *Session) handled(size int) (write bool) {
	if s.node.cfg.Checkpoint {
		s.saves.handled += size // the stream learns of it when it is saved
		s.node.saver.add(s)
		return false
	}
	if s.saves != nil {
		s.saves.stale = true
	}
	s.stream.Handled(size)
	return s.acknowledge()
}

// stray is what becomes of a message on a connection that does not carry the
// session: it is closed, or, when the session has moved, not listened to.
// session.mu is held.
func (c *conn) stray() proto.CloseCode {
	if c.mute {
		return 0
	}
	return proto.CloseReplaced // it is closed already
}

// control acts on one control.
func (c *conn) control(b []byte) proto.CloseCode {
	ctl, err := proto.ParseControl(b)
	if err != nil {
		return proto.CloseProtocolError
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return c.stray()
	}
	switch ctl.Type {
	case proto.TypeAck:
		// Only what was written to this connection, or confirmed when it began,
		// can have been received.
		if ctl.Received >= c.next || s.stream.Ack(ctl.Received) != nil {
			return proto.CloseProtocolError
		}
	case proto.TypePing:
		return c.pushPong(ctl.ID)
	case proto.TypePong:
		// That it was heard is all there is to it: nodes ping with frames.
	default:
		return proto.CloseProtocolError
	}
	return 0
}
