package node

import (
	"math"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// maxPongs limits the pongs that wait to be written.
const maxPongs = 16

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
		c.session.node.leases.AwaitRunning()
		end, _, err := c.writeAll(true)
		switch {
		case err != nil:
			c.broken(err)
			return
		case end != nil:
			c.close(end.code, end.text())
			return
		case c.stopIfDone():
			return
		}
	}
}

// writeNow is write for callers that must not wait. It leaves what takes longer to a
// goroutine.
func (c *conn) writeNow() {
	for !c.session.node.leases.Stalled() {
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
	if !c.ws.Begin(wait) {
		return nil, false, nil
	}
	for {
		text, frame, end := c.nextFrame()
		if frame == nil {
			wrote, err := c.ws.Flush(wait)
			return end, wrote, err
		}
		c.ws.Append(text, frame, wait)
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
	return s.phase != moving && c.stage != connDraining && (c.awaitsCheckpoint == 0 || c.awaitsCheckpoint <= s.checkpoint.done)
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
func (c *conn) nextFrame() (text bool, frame []byte, end *closing) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing != nil && !c.closing.flush || !c.mayWrite() {
		return false, nil, c.closing
	}
	if c.urgent != nil {
		b := c.urgent
		c.urgent = nil
		s.node.drainQueue.add(s) // the client can be asked to leave now
		return true, b, nil
	}
	if n := len(c.pongs); n > 0 {
		id := c.pongs[0]
		c.pongs = c.pongs[1:]
		return true, proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: id}), nil
	}
	if c.piggybackAck() {
		c.out.WantAck()
	}
	switch item := c.out.Next(c.lastWritable()); item.Kind {
	case stream.Ack:
		c.ackAt = 0
		return true, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: item.Received}), nil
	case stream.Message:
		s.node.metrics.sent.Inc()
		return false, item.Frame, nil
	}
	return false, nil, c.closing
}

// pushPong queues the answer to a ping. It returns a closeError if the client pings
// faster than it reads the answers. The caller holds session.mu.
func (c *conn) pushPong(id uint64) error {
	if len(c.pongs) >= maxPongs {
		return closeWith(proto.CloseRateExceeded)
	}
	c.pongs = append(c.pongs, id)
	return nil
}
