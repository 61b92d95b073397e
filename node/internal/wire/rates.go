package wire

import "time"

// Rates limit what one connection may send per second, on average over two seconds. What
// exceeds them is not refused. The connection is read more slowly, so that data backs up
// at its client, and other clients do not wait. A rate of 0 or less is no limit.
type Rates struct {
	Bytes    int // bytes of frames, headers included
	Messages int // complete messages
	Frames   int // frames of all kinds, each fragment of a message included
	Pings    int // pings, pongs and closes
}

// rateBurst is how far a connection may be ahead of its rate: after a break a client
// sends what it has kept.
const rateBurst = 2 * time.Second

// maxPause is how long a reader sleeps before it looks whether the connection was closed
// meanwhile. Who closes a connection waits for its reader.
const maxPause = time.Second

// quantity is one of the quantities that have a rate.
type quantity int

const (
	bytesRead quantity = iota
	messagesRead
	framesRead
	pingsRead
	quantities
)

func (q quantity) String() string {
	return [quantities]string{"bytes", "messages", "frames", "pings"}[q]
}

// amounts holds one number for each quantity.
type amounts [quantities]int64

func (r Rates) amounts() amounts {
	return amounts{int64(r.Bytes), int64(r.Messages), int64(r.Frames), int64(r.Pings)}
}

// charge charges the connection for n of the quantity. For each quantity, c.spent is the
// time of Server.now at which all of it would have been sent at the allowed rate.
func (r *reader) charge(q quantity, n int64) {
	if rate := r.conn.server.rates[q]; rate > 0 && n != 0 {
		c := r.conn
		c.spent[q] = max(c.spent[q], int64(r.now)) + n*int64(time.Second)/rate
	}
}

// chargeInput charges the connection for the frames that handle is about to handle.
func (r *reader) chargeInput() {
	if r.in == nil {
		return
	}
	b := (*r.in)[r.pos:]
	b = b[min(uint64(len(b)), r.left):]
	for {
		h, n := parseHeader(b)
		if n == 0 || h.control() && uint64(len(b)-n) < h.length {
			return // handled when the rest has arrived
		}
		r.chargeFrame(h)
		b = b[n:]
		b = b[min(uint64(len(b)), h.length):]
	}
}

// chargeFrame charges the connection for one frame.
func (r *reader) chargeFrame(h header) {
	switch {
	case h.control():
		r.charge(pingsRead, 1)
	case h.fin:
		r.charge(messagesRead, 1)
	}
	r.charge(framesRead, 1)
}

// slow sleeps if what was read exceeds a rate, before it is handled. It sleeps once, for
// the quantity that exceeds its rate the most. No lock is held.
func (r *reader) slow() {
	c := r.conn
	most := bytesRead
	for q := range quantities {
		if c.spent[q] > c.spent[most] {
			most = q
		}
	}
	wait := time.Duration(c.spent[most]) - rateBurst - r.now
	if wait <= 0 {
		return
	}
	c.server.cfg.Slowed(most.String())
	if !c.warned {
		c.warned = true
		c.server.cfg.Logger.Warn("client sends too much; reading it more slowly", "client", c.net.RemoteAddr().String(), "of", most.String())
	}
	c.pause(wait)
}

// pause sleeps for the time, or for the rest of maxPause once the connection is no
// longer open. What a client sends while its connection closes is not read at full speed
// either.
func (c *Conn) pause(d time.Duration) {
	for d > 0 && !c.is(closed) {
		time.Sleep(min(d, maxPause))
		if d -= maxPause; !c.is(open) {
			return
		}
	}
}
