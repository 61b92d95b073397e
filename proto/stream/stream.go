// Package stream numbers, acknowledges and sends again the reliable messages of
// one side of a session: a Stream lasts as long as the messages can be sent again, over
// many connections, and an Outbox says in which order one connection writes. It uses no
// clock and no socket. The node and the Go client both use it, each under its own lock.
package stream

import (
	"errors"
	"fmt"
)

// Errors of a Stream.
var (
	// ErrFull means that as many messages or bytes are unacknowledged as the limits
	// allow.
	ErrFull = errors.New("stream: full")
	// ErrCount means that a count of the peer is impossible.
	ErrCount = errors.New("stream: impossible count")
)

// Limits bound the messages that one side keeps to send again.
type Limits struct {
	Messages int
	Bytes    int // of payload
}

// An acknowledgement is due at once, and not only by the timer, when ackEvery
// messages or 1/ackPart of either limit have been handled since the last one.
const (
	ackEvery = 32
	ackPart  = 4
)

// Stream is the state of one side of a stream: the messages that it sent and may
// have to send again, and the number of messages that it accepted. The zero Stream
// with Limits set is a new stream. It is not safe for concurrent use.
type Stream struct {
	Limits Limits

	// Sending. kept holds the frames acked+1 … acked+len(kept).
	acked uint64
	kept  [][]byte
	bytes int

	// Receiving: handled ≤ received and acknowledged ≤ received. A resume sends
	// received to the peer, after which acknowledged may be ahead of handled.
	received     uint64 // accepted from the peer
	handled      uint64
	acknowledged uint64
	unackedBytes int // payload of the messages handled after acknowledged
}

// Send counts a frame, keeps it until it is acknowledged, and returns its number.
// The stream takes ownership of the frame. The frame counts against the limits
// with its length without the kind byte. Send fails with ErrFull.
func (s *Stream) Send(frame []byte) (uint64, error) {
	if len(s.kept) >= s.Limits.Messages || s.bytes+cost(frame) > s.Limits.Bytes {
		return 0, ErrFull
	}
	s.kept = append(s.kept, frame)
	s.bytes += cost(frame)
	return s.Sent(), nil
}

// cost returns the payload length of the frame.
func cost(frame []byte) int { return max(len(frame)-1, 0) }

// Sent returns the number of the last frame sent.
func (s *Stream) Sent() uint64 { return s.acked + uint64(len(s.kept)) }

// Acked returns the number of the last frame that the peer has acknowledged.
func (s *Stream) Acked() uint64 { return s.acked }

// Kept returns the payload bytes of the frames that are not acknowledged.
func (s *Stream) Kept() int { return s.bytes }

// Frame returns the kept frame with number n, or nil if that frame is acknowledged
// or not yet sent.
func (s *Stream) Frame(n uint64) []byte {
	if n <= s.acked || n > s.Sent() {
		return nil
	}
	return s.kept[n-s.acked-1]
}

// Unacked returns the frames that are not acknowledged, oldest first. The caller
// must not change them.
func (s *Stream) Unacked() [][]byte { return s.kept }

// Ack processes the peer's count n of our messages: it drops the frames up to n. If
// n is lower than an earlier count or higher than Sent, it fails with ErrCount and
// changes nothing.
func (s *Stream) Ack(n uint64) error {
	if n < s.acked || n > s.Sent() {
		return fmt.Errorf("%w: %d, must be %d to %d", ErrCount, n, s.acked, s.Sent())
	}
	drop := int(n - s.acked)
	for i, frame := range s.kept[:drop] {
		s.bytes -= cost(frame)
		s.kept[i] = nil // otherwise the backing array would keep the frame alive
	}
	s.kept = s.kept[drop:]
	s.acked = n
	if len(s.kept) == 0 {
		s.kept = nil // an idle session holds no buffer
	}
	return nil
}

// Receive counts a message that was accepted from the peer.
func (s *Stream) Receive() { s.received++ }

// Received returns the number of accepted messages.
func (s *Stream) Received() uint64 { return s.received }

// Handled records that the application is done with its oldest unhandled message,
// which has size bytes of payload.
func (s *Stream) Handled(size int) {
	s.handled++
	if s.handled > s.acknowledged {
		s.unackedBytes += size
	}
}

// HandledCount returns the number of messages that the application has handled.
func (s *Stream) HandledCount() uint64 { return s.handled }

// AckDue reports whether an acknowledgement is pending, and whether it must be sent
// now instead of with the timer.
func (s *Stream) AckDue() (pending, now bool) {
	if s.handled <= s.acknowledged {
		return false, false
	}
	n := int(s.handled - s.acknowledged)
	return true, n >= ackEvery || ackPart*n >= s.Limits.Messages || ackPart*s.unackedBytes >= s.Limits.Bytes
}

// TakeAck returns the count to acknowledge, and records that it is being sent. The
// count is never lower than an earlier one.
func (s *Stream) TakeAck() uint64 {
	s.acknowledged = max(s.acknowledged, s.handled)
	s.unackedBytes = 0
	return s.acknowledged
}

// Resumed records that the handshake of a new connection sent Received to the peer.
// The peer has discarded the messages up to that count, handled or not: no later
// acknowledgement may be lower.
func (s *Stream) Resumed() {
	s.acknowledged = s.received
	s.unackedBytes = 0
}
