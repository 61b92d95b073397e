// Package stream numbers, acknowledges and resends the reliable messages of
// one side of a session. It has no clock and no socket: the node and the Go
// client run this same code, each under its own lock.
package stream

import (
	"errors"
	"fmt"
)

// Errors of a Stream.
var (
	// ErrFull says that as much is unacknowledged as the limits allow.
	ErrFull = errors.New("stream: full")
	// ErrCount says that the peer claims a count that cannot be.
	ErrCount = errors.New("stream: impossible count")
)

// Limits bound what one side keeps for sending again.
type Limits struct {
	Messages int
	Bytes    int
}

// An acknowledgement no longer waits for the timer once ackEvery messages, or
// the ackPart-th part of either limit, have been handled since the last.
const (
	ackEvery = 32
	ackPart  = 4
)

// Stream is one side's half of a stream: what it sent and may have to send
// again, and how much it took in. The zero Stream with Limits set is a new one.
// It is not safe for concurrent use.
type Stream struct {
	Limits Limits

	// Sending. kept holds the frames acked+1 … acked+len(kept).
	acked uint64
	kept  [][]byte
	bytes int

	// Receiving: handled ≤ received and acknowledged ≤ received. A resume tells
	// the peer received, so that acknowledged may be ahead of handled for a while.
	received     uint64
	handled      uint64
	acknowledged uint64
	unackedBytes int // of messages handled past acknowledged
}

// Send counts a frame and keeps it until it is acknowledged, and returns its
// number. The stream owns the frame from then on. A frame's cost against the
// limits is its length less the kind byte.
func (s *Stream) Send(frame []byte) (uint64, error) {
	if len(s.kept) >= s.Limits.Messages || s.bytes+cost(frame) > s.Limits.Bytes {
		return 0, ErrFull
	}
	s.kept = append(s.kept, frame)
	s.bytes += cost(frame)
	return s.Sent(), nil
}

func cost(frame []byte) int { return max(len(frame)-1, 0) }

// Sent returns the number of the last frame sent.
func (s *Stream) Sent() uint64 { return s.acked + uint64(len(s.kept)) }

// Acked returns the number of the last frame the peer has acknowledged.
func (s *Stream) Acked() uint64 { return s.acked }

// Kept returns the cost of the frames that are not acknowledged, in bytes.
func (s *Stream) Kept() int { return s.bytes }

// Frame returns the kept frame with the number, or nil when it is
// acknowledged or not yet sent.
func (s *Stream) Frame(n uint64) []byte {
	if n <= s.acked || n > s.Sent() {
		return nil
	}
	return s.kept[n-s.acked-1]
}

// Unacked returns the frames that are not acknowledged, oldest first. They
// belong to the stream.
func (s *Stream) Unacked() [][]byte { return s.kept }

// Ack takes in the peer's count of messages of ours: everything up to it is
// dropped. A count below an earlier one or above Sent is ErrCount and changes
// nothing.
func (s *Stream) Ack(n uint64) error {
	if n < s.acked || n > s.Sent() {
		return fmt.Errorf("%w: %d, have %d to %d", ErrCount, n, s.acked, s.Sent())
	}
	drop := int(n - s.acked)
	for i, frame := range s.kept[:drop] {
		s.bytes -= cost(frame)
		s.kept[i] = nil // or the backing array would keep it alive
	}
	s.kept = s.kept[drop:]
	s.acked = n
	if len(s.kept) == 0 {
		s.kept = nil // an idle session holds no buffer
	}
	return nil
}

// Receive counts a message taken in from the peer.
func (s *Stream) Receive() { s.received++ }

// Received returns how many messages were taken in.
func (s *Stream) Received() uint64 { return s.received }

// Handled notes that the application is done with the oldest message that was
// taken in and not handled, of the given payload length.
func (s *Stream) Handled(size int) {
	s.handled++
	if s.handled > s.acknowledged {
		s.unackedBytes += size
	}
}

// HandledCount returns how many messages the application has handled.
func (s *Stream) HandledCount() uint64 { return s.handled }

// AckDue says whether an acknowledgement is owed to the peer, and whether it
// must go at once instead of with the timer.
func (s *Stream) AckDue() (owed, now bool) {
	if s.handled <= s.acknowledged {
		return false, false
	}
	n := int(s.handled - s.acknowledged)
	return true, n >= ackEvery || ackPart*n >= s.Limits.Messages || ackPart*s.unackedBytes >= s.Limits.Bytes
}

// TakeAck returns the count to acknowledge and notes that it is on its way. It
// is never less than what the peer has been told before.
func (s *Stream) TakeAck() uint64 {
	s.acknowledged = max(s.acknowledged, s.handled)
	s.unackedBytes = 0
	return s.acknowledged
}

// Resumed notes that the handshake of a new connection has told the peer
// Received. The peer has let go of all of that, handled or not, so that no
// acknowledgement may go back behind it.
func (s *Stream) Resumed() {
	s.acknowledged = s.received
	s.unackedBytes = 0
}
