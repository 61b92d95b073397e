package usher

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Receive returns the next message. It waits for one until ctx ends, or the
// session: then what is left is returned first, and an *EndedError after it.
//
// A message counts as handled, and is acknowledged to the node, when Receive
// is called for the next one, or Close or Logout is: the acknowledgement is
// sent 0.1 s later, or at once when much has been handled. A message that was
// returned and not handled by the time the process dies is one that the
// application on the node is told was not confirmed. Call Receive from one
// goroutine; among several it cannot be known which has handled what.
//
// An application may take its time. The session goes on reading, and keeps
// what the node may send without an acknowledgement; of volatile messages it
// keeps the newest. Only when that is used up too, which takes a resume while
// the application is behind, it stops reading from the network until there is
// room; it still pings, so that the node does not think it dead.
func (s *Session) Receive(ctx context.Context) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled()
	for waits := 0; ; waits++ {
		if err := ctx.Err(); err != nil {
			return Message{}, fmt.Errorf("usher: receive: %w", err)
		}
		if a, ok := s.inbox.pop(); ok {
			s.space.Broadcast()
			s.handling = &a
			return a.Message, nil
		}
		if s.end != nil {
			return Message{}, s.end
		}
		if waits == 0 {
			defer s.wakeAtEnd(ctx, &s.arrived)()
		}
		s.arrived.Wait()
	}
}

// handled notes that the application is done with the message it received
// last. s.mu is held.
func (s *Session) handled() {
	a := s.handling
	s.handling = nil
	if a == nil || a.Volatile || a.stream != s.stream {
		return // the last: it is of a stream that has ended since
	}
	s.stream.Handled(a.size)
	s.acknowledge(ackDelay)
}

// arrival is a message that was taken in.
type arrival struct {
	Message
	stream *stream.Stream // on which
	size   int
}

// Bounds of what waits for the application, whatever the node allows itself.
const (
	maxInboxBytes         = 16 << 20
	arrivalBytes          = 64 // of bookkeeping for a message, roughly
	maxInboxVolatiles     = 256
	maxInboxVolatileBytes = 1 << 20
)

// inbox keeps the messages that the application has not received.
type inbox struct {
	list     []arrival
	reliable int // how many
	bytes    int // their payloads
	volatile int
	vbytes   int
}

// fits reports whether a reliable message may be taken in.
func (in *inbox) fits(m Message, bounds proto.Welcome) bool {
	size := in.bytes + len(m.Data)
	return in.reliable == 0 ||
		in.reliable < bounds.MaxUnackedMessages && size <= bounds.MaxUnackedBytes &&
			size+in.reliable*arrivalBytes <= maxInboxBytes
}

// push adds a message, and returns how many volatile ones had to give way.
func (in *inbox) push(a arrival) (dropped uint64) {
	if !a.Volatile {
		in.reliable++
		in.bytes += a.size
		in.list = append(in.list, a)
		return 0
	}
	for in.volatile > 0 && (in.volatile >= maxInboxVolatiles || in.vbytes+a.size > maxInboxVolatileBytes) {
		i := slices.IndexFunc(in.list, func(a arrival) bool { return a.Volatile })
		in.forget(in.list[i])
		in.list = slices.Delete(in.list, i, i+1)
		dropped++
	}
	in.volatile++
	in.vbytes += a.size
	in.list = append(in.list, a)
	return dropped
}

func (in *inbox) pop() (arrival, bool) {
	if len(in.list) == 0 {
		return arrival{}, false
	}
	a := in.list[0]
	in.list[0] = arrival{} // or the backing array would keep it alive
	in.list = in.list[1:]
	if len(in.list) == 0 {
		in.list = nil
	}
	in.forget(a)
	return a, true
}

func (in *inbox) forget(a arrival) {
	if a.Volatile {
		in.volatile--
		in.vbytes -= a.size
		return
	}
	in.reliable--
	in.bytes -= a.size
}
