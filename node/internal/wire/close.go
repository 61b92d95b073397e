package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
	"unicode/utf8"
)

// Limits of the end of a connection.
const (
	// closeTimeout is how long Close writes the close frame, and how long it waits
	// for that of the client.
	closeTimeout = 5 * time.Second
	// After a protocol error, data from the client is read and discarded for at most
	// drainTime and drainBytes.
	drainTime  = time.Second
	drainBytes = 64 << 10
)

// Close writes a close frame after what is in the batch, waits up to 5 seconds for the
// close frame of the client, and closes the connection. It discards the messages that
// arrive in the meantime. A reason that is longer than 123 bytes is cut. Code 1005
// stands for a close frame without a code. A code that no close frame may have becomes
// 1011. Close may be called repeatedly and concurrently, but not by Handler.Message.
func (c *Conn) Close(code uint16, reason string) {
	if !c.enter(open, closing) && !c.is(closing) {
		return
	}
	readingEnded := c.closingReader()
	payload := closePayload(code, reason)
	if err := c.writeClose(payload); err == nil || errors.Is(err, net.ErrClosed) {
		t := time.NewTimer(closeTimeout)
		defer t.Stop()
		select {
		case <-readingEnded:
		case <-t.C:
		}
	}
	c.CloseNow()
}

// closingReader makes sure that the connection has a reader, which discards messages,
// and returns a channel that is closed when reading has ended.
func (c *Conn) closingReader() <-chan struct{} {
	c.wake()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.ended == nil {
		c.ended = make(chan struct{})
		if c.readState == ended {
			close(c.ended)
		}
	}
	c.startUnserved()
	return c.ended
}

// closePayload returns the payload of a close frame.
func closePayload(code uint16, reason string) []byte {
	if code == codeNone {
		return nil
	}
	if !validCode(code) {
		code = codeInternal
	}
	if n := maxControl - 2; len(reason) > n {
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

// CloseNow closes the connection at once, and ends every wait of the others. After a
// protocol error of the client it does nothing: the reader closes the connection when
// the client has closed it or has had time to read the close code.
func (c *Conn) CloseNow() {
	if c.enter(open, closed) || c.enter(closing, closed) {
		c.closeNet()
	}
}

// closeNet closes the connection below. A connection that rests gets a reader, which
// sees the end.
func (c *Conn) closeNet() {
	_ = c.net.Close()
	c.wake()
}

// end ends the connection after the reader has ended with err.
func (r *reader) end(err error) {
	c := r.conn
	defer c.server.wg.Done()
	switch {
	case r.cause == rejected:
		handler := r.handler
		c.server.wg.Go(r.discard) // Closed may wait for Close, and Close for this
		handler.Closed(err)
		return
	case r.cause == violated && c.enter(open, draining):
		r.endGently(err)
		return
	case c.enter(open, closed):
		c.closeNet()
	}
	r.release(err)
}

// discard discards what arrives until the client closes the connection, or until it is
// closed here.
func (r *reader) discard() {
	r.releaseMessage()
	r.discards = true
	err := r.handle() // what has arrived already
	for err == nil {
		err = r.next()
		if errors.Is(err, errSilent) {
			err = nil
		}
	}
	r.releaseInput()
	r.conn.endReading()
}

// release gives the buffers back and passes err to the handler.
func (r *reader) release(err error) {
	r.releaseInput()
	r.releaseMessage()
	if h := r.conn.endReading(); h != nil {
		h.Closed(err)
	}
}

// endGently closes the connection after the client has closed it or has had time to
// read the close code. The handler comes first, because a client that does not read delays
// the close frame. If a connection is closed while it has unread bytes, the system resets
// it, and the code is lost.
func (r *reader) endGently(err error) {
	c := r.conn
	defer func() {
		c.enter(draining, closed)
		c.closeNet()
	}()
	r.release(err) // a CloseNow of the handler does nothing in this phase
	var violation *ProtocolError
	if errors.As(err, &violation) && violation.Code != 0 {
		payload := closePayload(violation.Code, violation.Reason)
		_ = c.writeClose(payload)
	} else {
		_ = c.endWriting(nil)
	}
	half, ok := c.net.(interface{ CloseWrite() error })
	ok = ok && half.CloseWrite() == nil
	if ok {
		_ = c.net.SetReadDeadline(time.Now().Add(drainTime))
		_, _ = io.CopyN(io.Discard, c.net, drainBytes)
	}
}
