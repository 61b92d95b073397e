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

// charge charges the connection for n of the quantity, and sleeps if that exceeds the
// rate. For each quantity, c.spent is the Unix time in nanoseconds at which all of it
// would have been sent at the allowed rate. The sleep is short, because one read is at
// most one buffer; no lock is held.
func (r *reader) charge(q quantity, n int64) {
	c := r.conn
	rate := c.server.rates[q]
	if rate <= 0 || n == 0 {
		return
	}
	c.spent[q] = max(c.spent[q], r.now) + n*int64(time.Second)/rate
	if c.spent[q]-r.now <= int64(rateBurst) {
		return
	}
	r.now = time.Now().UnixNano() // the handler may have taken a while since the last read
	wait := c.spent[q] - r.now - int64(rateBurst)
	if wait <= 0 {
		return
	}
	c.server.cfg.Slowed(q.String())
	if !c.warned {
		c.warned = true
		c.server.cfg.Logger.Warn("client sends too much; reading it more slowly", "client", c.RemoteAddr().String(), "of", q.String())
	}
	time.Sleep(time.Duration(wait))
	r.now = time.Now().UnixNano()
}

// chargeFrame charges the connection for one frame. What has the lower rate comes
// first: it mostly decides how long the connection waits.
func (r *reader) chargeFrame(h header) {
	switch {
	case h.control():
		r.charge(pingsRead, 1)
	case h.fin:
		r.charge(messagesRead, 1)
	}
	r.charge(framesRead, 1)
}
