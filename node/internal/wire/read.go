package wire

import (
	"errors"
	"io"
	"os"
	"time"
)

// maxFragments limits the frames of one message. Senders fragment messages that exceed
// their buffer; a message within the limits never needs more.
const maxFragments = 1024

// ErrTooLarge is why reading ends if a message exceeds its limit. The rest of the
// message is not read before that.
var ErrTooLarge = errors.New("wire: message too large")

// errSilent means that nothing arrives on a connection, and that its goroutine can end.
var errSilent = errors.New("wire: the connection is silent")

// cause is why a reader ended, where the error does not say it.
type cause uint8

const (
	broken   cause = iota // the connection is broken, or the client closed it
	violated              // by the client, which gets a close code or none
	rejected              // by Message, or the message is too large: Close follows
)

// reader is what a connection has while a goroutine reads it. That goroutine alone uses
// it.
type reader struct {
	conn     *Conn
	handler  Handler // nil if only Close reads
	fillFunc func(fd uintptr) bool
	fillErr  error
	now      time.Duration // Server.now after the last read
	cause    cause

	// in is what has arrived and pos how much of it was handled. in is nil if all of
	// it was.
	in  *[]byte
	pos int

	// The current frame and message.
	frame     header  // of a message
	left      uint64  // payload of frame that has not arrived
	text      bool    // kind of the message
	within    bool    // a message has begun and not ended
	fragments int     // frames of the message
	message   *[]byte // the payload that has arrived in pieces, unmasked, or nil
	discards  bool    // messages are not collected
	quiet     bool    // nothing but pings and pongs since the last wait
	rests     bool    // the next wait is only for what has arrived
}

// newReader returns a reader that begins between two frames. The caller holds c.readMu.
func newReader(c *Conn) *reader {
	r := &reader{conn: c, handler: c.handler, discards: c.handler == nil}
	r.fillFunc = r.fill
	return r
}

// serve reads until the connection ends or rests.
func (r *reader) serve() {
	err := r.run()
	if !errors.Is(err, errSilent) {
		r.end(err)
		return
	}
	if c := r.conn; !c.rest() {
		// Handling messages needs a deeper stack than waiting, and a stack that has
		// grown stays grown for a while.
		c.readMu.Lock()
		defer c.readMu.Unlock()
		c.startReader()
	}
}

// run reads and handles what arrives until reading ends, or until the connection can
// rest.
func (r *reader) run() error {
	for {
		if err := r.next(); err != nil {
			return err
		}
		if !r.quiet || !r.between() || !canPoll {
			continue
		}
		// It was woken, or would have been, for a ping or a pong.
		switch r.conn.transport {
		case plain:
			return errSilent
		case secure:
			r.rests = true // the next wait finds what the TLS layer has read in advance
		}
	}
}

// next reads once and handles what arrived.
func (r *reader) next() error {
	if r.left > 0 && !r.discards {
		return r.readPayload()
	}
	read := r.readMore
	if r.between() {
		read = r.wait
	}
	if err := read(); err != nil {
		return err
	}
	r.chargeInput()
	r.slow()
	return r.handle()
}

// between reports whether the reader is between two messages and has handled
// everything that arrived.
func (r *reader) between() bool { return r.in == nil && r.left == 0 && !r.within }

// wait waits for the next frame and reads its beginning. Only here the connection can
// be interrupted to rest.
func (r *reader) wait() error {
	r.quiet = true
	r.conn.beginWait(r.rests)
	r.rests = false
	var err error
	if r.conn.transport == plain {
		err = r.waitKernel()
	} else {
		err = r.readInput()
	}
	if r.conn.endWait() && errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	if err == nil && r.conn.transport == plain {
		r.arrived(len(*r.in))
	}
	return err
}

// readMore reads the rest of a header or of a control frame behind what has arrived.
func (r *reader) readMore() error {
	if r.in != nil {
		*r.in = (*r.in)[:copy(*r.in, (*r.in)[r.pos:])]
		r.pos = 0
	}
	return unexpected(r.readInput())
}

// readInput reads once into the free space of the input buffer, which holds at most
// one incomplete header or control frame. It returns io.EOF at the end.
func (r *reader) readInput() error {
	if r.in == nil {
		r.in = r.conn.server.inputs.Get().(*[]byte)
	}
	b := *r.in
	n, err := r.read(b[len(b):cap(b)])
	*r.in = b[:len(b)+n]
	if len(*r.in) == 0 {
		r.releaseInput()
	}
	return err
}

// readPayload reads the payload of a frame of which nothing else has arrived.
func (r *reader) readPayload() error {
	b := r.grown(1)
	n, err := r.read(b[len(b):min(uint64(cap(b)), uint64(len(b))+r.left)])
	r.took(b[len(b) : len(b)+n])
	*r.message = b[:len(b)+n]
	if err != nil {
		return unexpected(err)
	}
	r.slow()
	return r.endFrame()
}

// read reads once, at least one byte, and counts it. It returns an error only if it has
// read nothing.
func (r *reader) read(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.conn.net.Read(p)
	}
	if n == 0 {
		return 0, err
	}
	r.arrived(n)
	return n, nil // the next Read returns the error again
}

// arrived counts n bytes that have been read.
func (r *reader) arrived(n int) {
	r.now = r.conn.server.now()
	r.conn.lastRead.Store(int64(r.now))
	r.charge(bytesRead, int64(n))
}

// unexpected returns the error for the end of the connection within a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// handle handles the input as far as it is complete.
func (r *reader) handle() error {
	for r.in != nil {
		b := (*r.in)[r.pos:]
		if len(b) == 0 {
			r.releaseInput()
			return nil
		}
		if r.left > 0 {
			if err := r.handlePayload(b); err != nil {
				return err
			}
			continue
		}
		h, n := parseHeader(b)
		if n == 0 {
			return nil
		}
		done, err := r.handleFrame(h, b[n:], n)
		if !done || err != nil {
			return err
		}
	}
	return nil
}

// handleFrame handles a frame whose header had n bytes. b is what has arrived after the
// header. If a control frame is not complete, it does nothing and returns false.
func (r *reader) handleFrame(h header, b []byte, n int) (done bool, err error) {
	if err := h.check(r.within); err != nil {
		r.cause = violated
		return false, err
	}
	if h.control() {
		if uint64(len(b)) < h.length {
			return false, nil
		}
		b = b[:h.length]
		unmask(b, h.key)
		r.pos += n + len(b)
		return true, r.handleControl(h.opcode, b)
	}
	r.quiet = false
	r.pos += n
	if err := r.beginFrame(h); err != nil {
		return false, err
	}
	if h.fin && r.message == nil && uint64(len(b)) >= h.length && !r.discards {
		return true, r.handleComplete(b[:h.length])
	}
	return true, r.endFrame()
}

// beginFrame begins a frame of a message.
func (r *reader) beginFrame(h header) error {
	if h.opcode != opContinuation {
		r.text, r.within, r.fragments = h.opcode == opText, true, 0
	}
	r.frame, r.left = h, h.length
	if r.discards {
		return nil
	}
	if r.fragments++; r.fragments > maxFragments {
		r.cause = violated
		r.conn.server.cfg.Fragments()
		return violation(0, "a message of more than %d fragments", maxFragments)
	}
	limit := r.conn.server.cfg.MaxBinary
	if r.text {
		limit = r.conn.server.cfg.MaxText
	}
	if uint64(r.collected())+h.length > uint64(max(limit, 0)) {
		r.cause = rejected
		return ErrTooLarge
	}
	return nil
}

// handleComplete hands over a message that has arrived in one piece, without copying
// it.
func (r *reader) handleComplete(b []byte) error {
	unmask(b, r.frame.key)
	r.pos += len(b)
	r.left, r.within = 0, false
	return r.handOver(b)
}

// handlePayload collects what b, the rest of the input, has of the payload.
func (r *reader) handlePayload(b []byte) error {
	b = b[:min(uint64(len(b)), r.left)]
	r.pos += len(b)
	if r.discards {
		r.left -= uint64(len(b))
		return r.endFrame()
	}
	m := r.grown(len(b))
	r.took(b)
	*r.message = append(m, b...)
	return r.endFrame()
}

// took removes the mask from payload that has arrived.
func (r *reader) took(b []byte) {
	r.frame.key = unmask(b, r.frame.key)
	r.left -= uint64(len(b))
}

// endFrame ends the frame if all of it has arrived, and hands over the message if it
// was its last frame.
func (r *reader) endFrame() error {
	if r.left > 0 || !r.frame.fin {
		return nil
	}
	r.within = false
	if r.discards {
		return nil
	}
	var b []byte
	if r.message != nil {
		b = *r.message
	}
	err := r.handOver(b)
	r.releaseMessage()
	return err
}

func (r *reader) handOver(b []byte) error {
	if !r.conn.is(open) {
		return nil
	}
	err := r.handler.Message(r.text, b)
	if err != nil {
		r.cause = rejected
	}
	return err
}

// handleControl handles a ping, a pong or a close.
func (r *reader) handleControl(opcode byte, b []byte) error {
	switch opcode {
	case opPing:
		if r.discards || !r.conn.is(open) {
			return nil
		}
		if err := r.conn.writeControl(opPong, b); err != nil && r.conn.is(open) {
			return err
		}
	case opClose:
		said, err := parseClose(b)
		if err != nil {
			r.cause = violated
			return err
		}
		if !r.discards && r.conn.is(open) {
			_ = r.conn.writeClose(b)
		}
		return said
	}
	return nil
}
