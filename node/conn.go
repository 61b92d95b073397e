package node

import (
	"errors"
	"os"
	"time"

	"github.com/usher-broker/usher/node/internal/wire"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// restAfter is how long a connection must be silent before it gives up its goroutine,
// on systems that allow it. Starting a goroutine again takes a few microseconds, so
// an active connection keeps its own.
const restAfter = 3 * time.Second

// conn is one connection of a session. It is the wire.Handler of ws.
type conn struct {
	ws *wire.Conn

	session *Session // set once, by attach

	// session.mu protects the following.
	stage            connStage
	resting          bool   // it was silent at the last check, and no message has arrived since
	writing          bool   // a goroutine is in write or writeNow
	handling         bool   // the application is handling a message of this connection
	urgent           []byte // written before anything else: the welcome, later a goaway
	awaitsCheckpoint uint64 // nothing is written before the checkpoint of this number is stored; 0 for none
	pongs            []uint64
	out              stream.Outbox
	ackAt            instant // when a delayed acknowledgement is due; 0 if there is none
	drainTimer       *time.Timer
	closing          *closing
	pingAt           time.Time
}

// connStage is whether the client is to stay on a connection. It only grows.
type connStage uint8

const (
	connOpen     connStage = iota // the client may stay
	connAsked                     // the client was asked to leave
	connDraining                  // the session has moved, and the client is expected to close
)

// closing says how a connection ends.
type closing struct {
	closeError
	flush bool // after everything that was sent, instead of before it
}

// serve starts to read, in a new goroutine: attaching needs a deep stack, and a
// goroutine whose stack has grown would keep it for as long as the connection lives.
// The reader counts in Node.wg until Closed has returned.
func (c *conn) serve() {
	c.session.node.wg.Add(1)
	c.ws.Serve(c)
}

// Message acts on one message of the client. It returns a closeError if the connection
// is to be closed.
func (c *conn) Message(text bool, b []byte) error {
	if text {
		return c.control(b)
	}
	return c.message(b)
}

// Closed detaches the session when nothing more is read.
func (c *conn) Closed(err error) {
	defer c.session.node.wg.Done()
	var how *closeError
	var violation *wire.ProtocolError
	switch {
	case errors.As(err, &how):
		c.detach(how.code)
	case errors.Is(err, wire.ErrTooLarge):
		c.detach(proto.CloseTooLarge)
	case errors.As(err, &violation):
		c.violated(violation)
	default:
		c.detach(0)
	}
}

// violated counts a violation of RFC 6455. The codec closes the connection itself.
func (c *conn) violated(what *wire.ProtocolError) {
	s := c.session
	s.node.metrics.closes.WithLabelValues("websocket_error").Inc()
	s.node.log.Info("client violated RFC 6455", "session", s.ID, "user", s.User, "error", what)
	c.detach(0)
}

// message counts one application message and passes it to the App.
func (c *conn) message(b []byte) error {
	m, err := proto.ParseMessage(b)
	if err != nil {
		return closeWith(proto.CloseProtocolError)
	}
	s := c.session
	s.node.leases.AwaitRunning()
	s.callbackLock.Lock()
	defer s.unlockCallbacks()
	s.mu.Lock()
	if s.conn != c {
		defer s.mu.Unlock()
		return c.lateFrame()
	}
	c.noteActive()
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
	return nil
}

// handled records that the application has handled a message of size bytes. It
// reports whether the acknowledgement is to be written now. The caller holds s.mu.
func (s *Session) handled(size int) (write bool) {
	if s.node.cfg.Checkpoint {
		s.checkpoint.handled += size // the stream counts it after the next checkpoint
		s.queueCheckpoint()
		return false
	}
	s.noteStale()
	s.stream.Handled(size)
	return s.acknowledge()
}

// lateFrame returns what to do about a frame on a connection that no longer carries
// the session. A draining connection ignores it; any other connection is closed. The
// caller holds session.mu.
func (c *conn) lateFrame() error {
	if c.stage == connDraining {
		return nil
	}
	return closeWith(proto.CloseReplaced) // it is being closed already
}

// control acts on one control of the protocol.
func (c *conn) control(b []byte) error {
	ctl, err := proto.ParseControl(b)
	if err != nil {
		return closeWith(proto.CloseProtocolError)
	}
	s := c.session
	s.mu.Lock()
	writeHere, err := c.act(ctl)
	s.mu.Unlock()
	if writeHere {
		c.writeNow()
	}
	return err
}

// act acts on a control. If writeHere is true, the caller must call writeNow after it
// has unlocked session.mu, which it holds.
func (c *conn) act(ctl proto.Control) (writeHere bool, err error) {
	if c.session.conn != c {
		return false, c.lateFrame()
	}
	c.noteActive()
	switch ctl.Type {
	case proto.TypeAck:
		// The client can have received only what was written to this connection, or
		// what it confirmed at the start of the connection.
		if c.out.Ack(ctl.Received) != nil {
			return false, closeWith(proto.CloseProtocolError)
		}
	case proto.TypePing:
		// The reader writes the pong itself, so a burst of pings waits only for a client
		// that does not read.
		if err := c.pushPong(ctl.ID); err != nil {
			return false, err
		}
		return c.becomeWriter(), nil
	case proto.TypePong:
		// Nothing to do: its arrival has been recorded, and the node itself pings
		// with WebSocket frames.
	default:
		return false, closeWith(proto.CloseProtocolError)
	}
	return false, nil
}

// shut closes the connection with the code, before any waiting output. The caller
// holds session.mu, and c is no longer the session's connection.
func (c *conn) shut(code proto.CloseCode) {
	c.end(&closing{closeError: closeError{code: code}})
}

func (c *conn) end(how *closing) {
	if c.closing != nil {
		return
	}
	c.closing = how
	if c.drainTimer != nil {
		c.drainTimer.Stop()
	}
	c.session.node.metrics.closes.WithLabelValues(closeLabel(how.code)).Inc()
	c.wakeWriter()
}

// close sends the close frame and waits a while for the answer of the client.
func (c *conn) close(code proto.CloseCode, reason string) {
	c.ws.Close(uint16(code), reason)
}

// broken closes the connection after a failed write. The reader then ends and
// detaches the session.
func (c *conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) { // nothing can be written, so the client gets no close code
		c.session.node.metrics.closes.WithLabelValues(proto.CloseTooSlow.String()).Inc()
	}
	c.ws.CloseNow()
}
