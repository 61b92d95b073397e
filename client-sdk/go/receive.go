package usher

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Receive returns the next message. It waits until a message arrives, ctx ends, or
// the session ends. After the end of the session it first returns the remaining
// messages, then an *EndedError.
//
// A message counts as handled when Receive is called for the next one, or Close or
// Logout is called. The acknowledgement is sent to the node 0.1 s later, or at once
// when many messages have been handled. If the process dies before a returned
// message counts as handled, the application on the node is notified that the
// message was not confirmed. Call Receive from one goroutine: with several, the
// session cannot know which message has been handled.
//
// A slow application is allowed. The session continues to read, and keeps as many
// messages as the node may send without an acknowledgement; of volatile messages it
// keeps the newest. If that limit is exceeded too, which requires a resume while the
// application is behind, the session stops reading from the network until it has
// capacity again. It still pings, so that the node does not consider it dead.
func (s *Session) Receive(ctx context.Context) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled()
	for waits := 0; ; waits++ {
		if err := ctx.Err(); err != nil {
			return Message{}, fmt.Errorf("usher: receive: %w", err)
		}
		if a, ok := s.inbox.pop(); ok {
			s.readReady.Broadcast()
			s.handling = &a
			return a.Message, nil
		}
		if s.end != nil {
			return Message{}, s.end
		}
		if waits == 0 {
			defer s.wakeAtEnd(ctx, &s.recvReady)()
		}
		s.recvReady.Wait()
	}
}

// handled records that the application is done with the message that it received
// last. s.mu is held.
func (s *Session) handled() {
	a := s.handling
	s.handling = nil
	if a == nil || a.Volatile || a.stream != s.stream {
		return // nothing to count; in the last case the message's stream has ended since
	}
	s.stream.Handled(a.size)
	s.acknowledge()
}

// inbound is a message that was accepted from the node.
type inbound struct {
	Message
	stream *stream.Stream // the stream of the message
	size   int
}

// Limits of the messages that wait for the application, whatever limits the node
// sets.
const (
	maxInboxBytes         = 16 << 20
	messageOverhead       = 64 // approximate memory for the bookkeeping of a message
	maxInboxVolatiles     = 256
	maxInboxVolatileBytes = 1 << 20
)

// inbox holds the messages that the application has not received yet.
type inbox struct {
	list     []inbound
	reliable int // number of reliable messages
	bytes    int // payload bytes of the reliable messages
	volatile int // number of volatile messages
	vbytes   int // payload bytes of the volatile messages
}

// fits reports whether the inbox has capacity for a reliable message.
func (in *inbox) fits(m Message, bounds proto.Welcome) bool {
	size := in.bytes + len(m.Data)
	return in.reliable == 0 ||
		in.reliable < bounds.MaxUnackedMessages && size <= bounds.MaxUnackedBytes &&
			size+in.reliable*messageOverhead <= maxInboxBytes
}

// push adds a message, and returns the number of volatile messages that it dropped
// for it.
func (in *inbox) push(a inbound) (dropped uint64) {
	if !a.Volatile {
		in.reliable++
		in.bytes += a.size
		in.list = append(in.list, a)
		return 0
	}
	for in.volatile > 0 && (in.volatile >= maxInboxVolatiles || in.vbytes+a.size > maxInboxVolatileBytes) {
		i := slices.IndexFunc(in.list, func(a inbound) bool { return a.Volatile })
		in.forget(in.list[i])
		in.list = slices.Delete(in.list, i, i+1)
		dropped++
	}
	in.volatile++
	in.vbytes += a.size
	in.list = append(in.list, a)
	return dropped
}

func (in *inbox) pop() (inbound, bool) {
	if len(in.list) == 0 {
		return inbound{}, false
	}
	a := in.list[0]
	in.list[0] = inbound{} // otherwise the backing array would keep the message alive
	in.list = in.list[1:]
	if len(in.list) == 0 {
		in.list = nil
	}
	in.forget(a)
	return a, true
}

func (in *inbox) forget(a inbound) {
	if a.Volatile {
		in.volatile--
		in.vbytes -= a.size
		return
	}
	in.reliable--
	in.bytes -= a.size
}
