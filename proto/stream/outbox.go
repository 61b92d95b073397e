package stream

import "fmt"

// Limits of the volatile frames that wait in an Outbox. Bytes are those of the frames,
// with their kind bytes. One frame may be larger if no other waits.
const (
	MaxVolatiles     = 256
	MaxVolatileBytes = 64 << 10
)

// Outbox holds what one side has to send on one connection, and says in which order:
// an acknowledgement first, then the messages as they were sent. Reliable messages
// come from the stream, so that they can be sent again on the next connection;
// volatile ones belong to the connection and end with it.
//
// The zero Outbox has no connection: nothing waits in it, and it drops volatile
// frames. An Outbox is not safe for concurrent use, and shares the lock of its stream.
type Outbox struct {
	stream    *Stream // nil without a connection
	next      uint64  // number of the next reliable frame to write
	ack       AckTime // of the next acknowledgement
	volatiles []volatileFrame
	bytes     int // of volatiles
}

// volatileFrame waits for the reliable frames that were sent before it, so that the
// peer sees messages in the order in which they were sent.
type volatileFrame struct {
	after uint64 // number of the last reliable frame before it
	frame []byte
}

// Begin starts a connection that carries the stream, after the handshake: the peer's
// count has been passed to Stream.Ack, so the frames after it are written first.
func (o *Outbox) Begin(s *Stream) { *o = Outbox{stream: s, next: s.Acked() + 1} }

// End makes o a zero Outbox when its connection ends. It returns the number of
// volatile frames that it drops.
func (o *Outbox) End() (dropped int) {
	dropped = len(o.volatiles)
	*o = Outbox{}
	return dropped
}

// PushVolatile adds a volatile frame, and takes ownership of it. It returns the number
// of frames dropped: if too much waits, it drops the oldest, because for data such as
// positions the newest is the most useful.
func (o *Outbox) PushVolatile(frame []byte) (dropped int) {
	if o.stream == nil {
		return 1
	}
	for len(o.volatiles) > 0 && (len(o.volatiles) >= MaxVolatiles || o.bytes+len(frame) > MaxVolatileBytes) {
		o.popVolatile()
		dropped++
	}
	o.volatiles = append(o.volatiles, volatileFrame{o.stream.Sent(), frame})
	o.bytes += len(frame)
	return dropped
}

// Volatiles returns the number and the bytes of the volatile frames that wait.
func (o *Outbox) Volatiles() (frames, bytes int) { return len(o.volatiles), o.bytes }

// AckTime says when the next acknowledgement goes out.
type AckTime uint8

// The times of an acknowledgement.
const (
	AckNever AckTime = iota // nothing is due
	AckLater                // after a delay
	AckNow                  // with the next write
)

// Acknowledge decides when to acknowledge the messages handled so far, and returns what
// the caller has to do. AckNow: write now, and Next returns the acknowledgement.
// AckLater: call WantAck after a delay, so that one acknowledgement covers more
// messages. It returns AckLater once for each delay, and AckNever if there is nothing to
// do.
func (o *Outbox) Acknowledge() AckTime {
	if o.stream == nil {
		return AckNever
	}
	pending, now := o.stream.AckDue()
	switch {
	case now || o.ack == AckNow:
		o.ack = AckNow
		return AckNow
	case pending && o.ack == AckNever:
		o.ack = AckLater
		return AckLater
	}
	return AckNever
}

// WantAck makes Next return an acknowledgement, without waiting for the end of a delay.
// It reports whether there is anything to acknowledge.
func (o *Outbox) WantAck() bool {
	if o.stream == nil {
		return false
	}
	if pending, _ := o.stream.AckDue(); !pending {
		o.ack = AckNever
		return false
	}
	o.ack = AckNow
	return true
}

// Kind is the kind of an Item.
type Kind uint8

// The kinds of items.
const (
	Nothing Kind = iota
	Ack
	Message
)

// Item is something to write to the connection.
type Item struct {
	Kind     Kind
	Received uint64 // the count of an Ack
	Frame    []byte // of a Message; the caller must not change it
}

// Next removes and returns the next item, or Nothing. It holds back the reliable frames
// with numbers above limit, and the volatile ones that were sent after them. Without a
// limit, pass math.MaxUint64.
func (o *Outbox) Next(limit uint64) Item {
	switch {
	case o.ack == AckNow:
		o.ack = AckNever
		return Item{Kind: Ack, Received: o.stream.TakeAck()}
	case o.volatileWaits():
		return Item{Kind: Message, Frame: o.popVolatile()}
	}
	frame := o.reliable(limit)
	if frame == nil {
		return Item{}
	}
	o.next++
	return Item{Kind: Message, Frame: frame}
}

// Waits reports whether Next would return anything.
func (o *Outbox) Waits(limit uint64) bool { return o.ack == AckNow || o.MessageWaits(limit) }

// MessageWaits reports whether Next would return a message, maybe after an
// acknowledgement.
func (o *Outbox) MessageWaits(limit uint64) bool {
	return o.volatileWaits() || o.reliable(limit) != nil
}

// Written returns the number of the last reliable frame that the peer can have: Next
// returned it, or the peer confirmed it at the start of the connection.
func (o *Outbox) Written() uint64 {
	if o.stream == nil {
		return 0
	}
	return o.next - 1
}

// Ack processes a count that came on this connection, like Stream.Ack. It fails with
// ErrCount and changes nothing if the count is higher than Written.
func (o *Outbox) Ack(n uint64) error {
	if n > o.Written() || o.stream == nil {
		return fmt.Errorf("%w: %d, and %d messages were sent", ErrCount, n, o.Written())
	}
	return o.stream.Ack(n)
}

func (o *Outbox) volatileWaits() bool {
	return len(o.volatiles) > 0 && o.volatiles[0].after < o.next
}

func (o *Outbox) popVolatile() []byte {
	frame := o.volatiles[0].frame
	o.volatiles[0] = volatileFrame{} // otherwise the backing array would keep the frame alive
	o.volatiles = o.volatiles[1:]
	o.bytes -= len(frame)
	if len(o.volatiles) == 0 {
		o.volatiles = nil // an idle connection holds no buffer
	}
	return frame
}

// reliable returns the next reliable frame, or nil if there is none up to limit.
func (o *Outbox) reliable(limit uint64) []byte {
	if o.stream == nil || o.next > limit {
		return nil
	}
	return o.stream.Frame(o.next)
}
