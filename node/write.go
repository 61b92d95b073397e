package node

import (
	"errors"
	"math"
	"os"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// maxPongs limits the pongs that wait to be written.
const maxPongs = 16

// conn is one connection of a session.
type conn struct {
	ws  *websocket.Conn
	net *timedConn

	session *Session // set once, by attach

	// session.mu protects the following.
	writing          bool   // a goroutine is in write or writeNow
	handling         bool   // the application is handling a message of this connection
	urgent           []byte // written before anything else: the welcome, later a goaway
	goAwaySent       bool   // the client was asked to leave
	draining         bool   // the session has moved, and the client is expected to close
	awaitsCheckpoint uint64 // nothing is written before the checkpoint of this number is stored; 0 for none
	pongs            []uint64
	out              stream.Outbox
	ackAt            instant // when a delayed acknowledgement is due; 0 if there is none
	drainTimer       *time.Timer
	closing          *closing
	pingAt           time.Time
}

// closing says how a connection ends.
type closing struct {
	code   proto.CloseCode
	reason string
	flush  bool // after everything that was sent, instead of before it
}

// wakeWriter makes sure that waiting output is written, in a separate goroutine. The
// caller holds session.mu.
func (c *conn) wakeWriter() {
	if c.becomeWriter() {
		go c.write()
	}
}

// becomeWriter makes the caller the writer of the connection, unless there is one. If
// it returns true, the caller must call write or writeNow. The caller holds
// session.mu.
func (c *conn) becomeWriter() bool {
	if c.writing {
		return false
	}
	c.writing = true
	c.session.node.wg.Add(1)
	return true
}

// startWriting starts writing a message that was just sent. If it returns true, the
// caller must call writeNow, which never waits: while the application handles a
// message, most of what is sent are answers, and a goroutine for each answer costs
// more than the answer. The caller holds session.mu.
func (c *conn) startWriting() (writeHere bool) {
	switch {
	case !c.out.MessageWaits(c.lastWritable()) || !c.becomeWriter():
		return false
	case c.handling:
		return true
	}
	go c.write()
	return false
}

// write writes waiting output and ends when there is none: an idle connection has no
// writer.
func (c *conn) write() {
	defer c.session.node.wg.Done()
	for {
		c.session.node.stallGuard.wait()
		end, _, err := c.writeAll(true)
		switch {
		case err != nil:
			c.broken(err)
			return
		case end != nil:
			c.close(end.code, end.reason)
			return
		case c.stopIfDone():
			return
		}
	}
}

// writeNow is write for callers that must not wait. It leaves what takes longer to a
// goroutine.
func (c *conn) writeNow() {
	for !c.session.node.stallGuard.stalled() {
		end, wrote, err := c.writeAll(false)
		if !wrote || end != nil || err != nil {
			break
		}
		if c.stopIfDone() {
			c.session.node.wg.Done()
			return
		}
	}
	go c.write()
}

// writeAll writes the waiting frames in as few segments as possible. It returns how
// the connection ends, if it does. If wait is false, it reports whether everything
// was written.
func (c *conn) writeAll(wait bool) (end *closing, wrote bool, err error) {
	if !c.net.startBatch(wait) {
		return nil, false, nil
	}
	for {
		typ, frame, end := c.nextFrame()
		if frame == nil {
			wrote, err := c.net.flush(wait)
			return end, wrote, err
		}
		c.net.appendFrame(typ, frame, wait)
	}
}

// stopIfDone reports whether no output waits. Then the caller is no longer the
// writer.
func (c *conn) stopIfDone() bool {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing != nil || c.mayWrite() && (c.urgent != nil || len(c.pongs) > 0 || c.out.Waits(c.lastWritable())) {
		return false
	}
	if len(c.pongs) == 0 {
		c.pongs = nil
	}
	c.writing = false
	return true
}

// mayWrite reports whether anything but the close frame may be written now. It may
// not while the session may belong to another node, and not before its checkpoint is
// stored. The caller holds session.mu.
func (c *conn) mayWrite() bool {
	s := c.session
	return s.phase != moving && !c.draining && (c.awaitsCheckpoint == 0 || c.awaitsCheckpoint <= s.checkpoint.done)
}

// lastWritable returns the number of the last reliable frame that may be written: in a node
// with checkpoints, the last one that is in a stored checkpoint. The caller holds
// session.mu.
func (c *conn) lastWritable() uint64 {
	s := c.session
	if !s.node.cfg.Checkpoint {
		return math.MaxUint64
	}
	return s.checkpoint.released
}

// nextFrame removes and returns the next frame to write, or returns how the
// connection ends, or nothing.
func (c *conn) nextFrame() (websocket.MessageType, []byte, *closing) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing != nil && !c.closing.flush || !c.mayWrite() {
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
	if c.piggybackAck() {
		c.out.WantAck()
	}
	switch item := c.out.Next(c.lastWritable()); item.Kind {
	case stream.Ack:
		c.ackAt = 0
		return websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: item.Received}), nil
	case stream.Message:
		s.node.metrics.sent.Inc()
		return websocket.MessageBinary, item.Frame, nil
	}
	return 0, nil, c.closing
}

// pushPong queues the answer to a ping. It returns the code to close with if the
// client pings faster than it reads the answers, and 0 otherwise. The caller holds
// session.mu.
func (c *conn) pushPong(id uint64) proto.CloseCode {
	if len(c.pongs) >= maxPongs {
		return proto.CloseRateExceeded
	}
	c.pongs = append(c.pongs, id)
	c.wakeWriter()
	return 0
}

// shut closes the connection with the code, before any waiting output. The caller
// holds session.mu, and c is no longer the session's connection.
func (c *conn) shut(code proto.CloseCode) {
	c.end(&closing{code: code, reason: code.String()})
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
	c.net.closing.Store(true)
	_ = c.ws.Close(websocket.StatusCode(code), reason)
}

// broken closes the connection after a failed write. The reader then ends and
// detaches the session.
func (c *conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) { // nothing can be written, so the client gets no close code
		c.session.node.metrics.closes.WithLabelValues(proto.CloseTooSlow.String()).Inc()
	}
	_ = c.ws.CloseNow()
}
