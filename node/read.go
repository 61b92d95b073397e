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

// errTooLarge means that a message exceeds the limit.
var errTooLarge = errors.New("message too large")

// serve reads the connection until it ends or is idle. It is the only reader of the
// connection, and holds no buffer while it waits.
func (c *conn) serve() {
	code, idle := c.readAll()
	switch {
	case idle && c.net.idle.startPolling(c):
		return // serve is started again when data arrives
	case idle:
		// Reading needs a deeper stack than waiting, and a stack that has grown stays
		// grown. A new goroutine waits on a small stack.
		go c.serve()
		return
	}
	c.detach(code)
	c.session.node.wg.Done()
}

// readAll reads until the connection ends or is idle. It returns the code to close
// with, or 0 if the connection is broken. idle means that nothing arrived for a
// while, or nothing but a ping or a pong.
func (c *conn) readAll() (code proto.CloseCode, idle bool) {
	for {
		switch err := c.net.await(); {
		case errors.Is(err, errIdle):
			return 0, true
		case err != nil:
			return 0, false
		}
		if code, all := c.readCompleteFrames(); code != 0 || all {
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
	// It needs no context: closing the connection ends the wait.
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		c.net.noteReadError(err)
		return 0, err
	}
	return c.readOne(typ, r)
}

// buffers are shared by all connections. A connection uses one only while a message
// is read and handled.
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
		c.net.noteReadError(err)
		return 0, err
	}
	return c.act(text, b), nil
}

// readMessage appends the message to b. It returns errTooLarge if the message has
// more than limit bytes.
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

// message counts one application message and passes it to the App.
func (c *conn) message(b []byte) proto.CloseCode {
	m, err := proto.ParseMessage(b)
	if err != nil {
		return proto.CloseProtocolError
	}
	s := c.session
	s.node.stallGuard.wait()
	s.callbackLock.Lock()
	defer s.callbackLock.Unlock()
	s.mu.Lock()
	if s.conn != c {
		defer s.mu.Unlock()
		return c.lateFrame()
	}
	in := s.stream
	if !m.Volatile {
		in.Receive()
	}
	s.used = at(time.Now())
	c.handling = true
	s.mu.Unlock()
	s.node.metrics.received.Inc()

	s.notifyMessage(m)

	s.mu.Lock()
	c.handling = false
	writeHere := false
	if !m.Volatile && s.stream == in { // or the client has begun a new stream in the meantime
		writeHere = s.handled(len(m.Data)) && c.becomeWriter()
	}
	s.mu.Unlock()
	if writeHere {
		c.writeNow()
	}
	return 0
}

// handled records that the application has handled a message of size bytes. It
// reports whether the acknowledgement is to be written now. The caller holds s.mu.
func (s *Session) handled(size int) (write bool) {
	if s.node.cfg.Checkpoint {
		s.checkpoint.handled += size // the stream counts it after the next checkpoint
		s.node.checkpointer.add(s)
		return false
	}
	if s.checkpoint != nil {
		s.checkpoint.stale = true
	}
	s.stream.Handled(size)
	return s.acknowledge()
}

// lateFrame returns what to do about a frame on a connection that no longer carries
// the session. A draining connection ignores it; any other connection is closed. The
// caller holds session.mu.
func (c *conn) lateFrame() proto.CloseCode {
	if c.draining {
		return 0
	}
	return proto.CloseReplaced // it is being closed already
}

// control acts on one control of the protocol.
func (c *conn) control(b []byte) proto.CloseCode {
	ctl, err := proto.ParseControl(b)
	if err != nil {
		return proto.CloseProtocolError
	}
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return c.lateFrame()
	}
	switch ctl.Type {
	case proto.TypeAck:
		// The client can have received only what was written to this connection, or
		// what it confirmed at the start of the connection.
		if c.out.Ack(ctl.Received) != nil {
			return proto.CloseProtocolError
		}
	case proto.TypePing:
		return c.pushPong(ctl.ID)
	case proto.TypePong:
		// Nothing to do: its arrival has been recorded, and the node itself pings
		// with WebSocket frames.
	default:
		return proto.CloseProtocolError
	}
	return 0
}
