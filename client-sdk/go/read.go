package usher

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// readPiece is the number of bytes of a message that are read at once.
const readPiece = 4 << 10

// maxPongs limits the pongs that wait to be written.
const maxPongs = 16

// read reads and processes messages until the connection ends or is given up.
func (c *conn) read() {
	for {
		typ, b, l := c.readMessage(context.Background(), c.maxMessage())
		if l == nil {
			l = c.process(typ, b)
		}
		if l != nil {
			if l.local {
				c.shut(l)
			}
			c.ended <- l
			return
		}
	}
}

func (c *conn) maxMessage() int {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.session.bounds.MaxMessageBytes
}

// readMessage reads one WebSocket message. A binary message may have maxMessage
// bytes and a kind byte. readMessage allocates memory only as bytes arrive, whatever
// length the node announces.
func (c *conn) readMessage(ctx context.Context, maxMessage int) (websocket.MessageType, []byte, *loss) {
	typ, r, err := c.ws.Reader(ctx)
	if err != nil {
		return 0, nil, lossOf(err)
	}
	limit := int64(maxMessage) + 1
	if typ == websocket.MessageText {
		limit = proto.MaxControlBytes
	}
	var b []byte
	for {
		if len(b) == cap(b) {
			b = append(b, make([]byte, max(512, len(b)))...)[:len(b)]
		}
		// In pieces, because Read waits until its buffer is full: a large message on
		// a slow network must count as activity.
		end := min(int64(cap(b)), int64(len(b)+readPiece), limit+1)
		n, err := r.Read(b[len(b):end])
		b = b[:len(b)+n]
		c.touch()
		switch {
		case int64(len(b)) > limit:
			return typ, nil, violation(proto.CloseTooLarge, "a message is longer than %d bytes", limit)
		case err == io.EOF:
			return typ, b, nil
		case err != nil:
			return typ, nil, lossOf(err)
		}
	}
}

// errGivenUp ends the reader of a connection that no longer carries the session.
var errGivenUp = errors.New("given up")

// process acts on one WebSocket message.
func (c *conn) process(typ websocket.MessageType, b []byte) *loss {
	if typ == websocket.MessageBinary {
		m, err := proto.ParseMessage(b)
		if err != nil {
			return violation(proto.CloseProtocolError, "%w", err)
		}
		return c.processMessage(m)
	}
	ctl, err := proto.ParseControl(b)
	if err != nil {
		return violation(proto.CloseProtocolError, "%w", err)
	}
	return c.processControl(ctl)
}

func (c *conn) processMessage(m Message) *loss {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	// Volatile messages never wait for the application: the oldest are dropped.
	for s.conn == c && (c.held || !m.Volatile && !s.inbox.fits(m, s.bounds)) {
		if c.failed != nil && !c.held {
			return broken(c.failed)
		}
		c.stalled = !c.held
		s.readReady.Wait()
	}
	if s.conn != c {
		return broken(errGivenUp)
	}
	if c.stalled {
		c.stalled, c.lastActivity = false, time.Now()
	}
	if !m.Volatile {
		s.stream.Receive()
		s.stats.Received++
	}
	s.stats.VolatileDropped += s.inbox.push(inbound{m, s.stream, len(m.Data)})
	s.recvReady.Broadcast()
	return nil
}

func (c *conn) processControl(ctl proto.Control) *loss {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.conn == c && (c.held || ctl.Type == proto.TypePing && len(c.pongs) >= maxPongs) {
		if c.failed != nil && !c.held {
			return broken(c.failed)
		}
		s.readReady.Wait()
	}
	if s.conn != c {
		return broken(errGivenUp)
	}
	switch ctl.Type {
	case proto.TypeAck:
		return c.processAck(ctl.Received)
	case proto.TypePing:
		c.pongs = append(c.pongs, ctl.ID)
		c.wakeWriter()
	case proto.TypePong:
		c.processPong(ctl.ID)
	case proto.TypeGoAway:
		select {
		case c.goaway <- ctl.GoAway:
		default: // the session is leaving already
		}
	case proto.TypeWelcome:
		return violation(proto.CloseProtocolError, "a second welcome came")
	}
	return nil // also for a type of a later version
}

// processAck discards the messages that the node has handled. session.mu is held.
func (c *conn) processAck(received uint64) *loss {
	s := c.session
	if err := c.out.Ack(received); err != nil {
		return violation(proto.CloseProtocolError, "ack: %w", err)
	}
	s.sendReady.Broadcast()
	return nil
}
