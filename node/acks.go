package node

import (
	"context"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"
	"github.com/usher-broker/usher/proto/stream"
)

// ackDelay is how long an acknowledgement waits for more messages to acknowledge, or
// for an outgoing message to travel with. The protocol requires it after at most 0.2
// s.
const ackDelay = 150 * time.Millisecond

// ackQueue holds the connections with a pending acknowledgement. All of them wait for
// the same time, so they come due in the order in which they were added: one queue
// for the node replaces a timer for each connection.
type ackQueue struct {
	mu   lock.Mutex[lock.Leaf]
	due  []ackDue
	wake chan struct{}
}

type ackDue struct {
	conn *conn
	at   instant
}

// waits reports whether the entry is not due yet. An entry that would wait for much longer
// than ackDelay comes from before the wall clock was set back, and is due. It may be a
// little longer: now is taken before the lock.
func (d ackDue) waits(now instant) bool { return d.at > now && d.at-now < instant(2*ackDelay) }

func newAckQueue() *ackQueue { return &ackQueue{wake: make(chan struct{}, 1)} }

func (a *ackQueue) add(c *conn, at instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = append(a.due, ackDue{c, at})
	if len(a.due) == 1 {
		signal(a.wake)
	}
}

// run sends the acknowledgements that are due, until ctx ends.
func (a *ackQueue) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, next := a.takeDue(at(time.Now()))
		for _, d := range due {
			d.conn.sendDelayedAck(d.at)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
	}
}

// ackTick is the shortest wait of the queue. Acknowledgements that come due within it
// are sent together.
const ackTick = 10 * time.Millisecond

// takeDue removes and returns the entries that are due, and returns how long to wait
// for the next one.
func (a *ackQueue) takeDue(now instant) (due []ackDue, next time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for n < len(a.due) && !a.due[n].waits(now) {
		n++
	}
	due, a.due = a.due[:n:n], a.due[n:]
	if len(a.due) == 0 {
		a.due = nil // releases the memory of the old entries
		return due, time.Hour
	}
	return due, max(time.Duration(a.due[0].at-now), ackTick)
}

// acknowledge schedules the acknowledgement of handled messages. It is due at once,
// and now is true, if there is much to acknowledge. Otherwise it is delayed, so that
// one acknowledgement covers many messages. The caller holds s.mu.
func (s *Session) acknowledge() (now bool) {
	c := s.conn
	if c == nil {
		return false // the next welcome acknowledges
	}
	switch c.out.Acknowledge() {
	case stream.AckNow:
		return true
	case stream.AckLater:
		c.ackAt = at(time.Now().Add(ackDelay))
		s.node.acks.add(c, c.ackAt)
	}
	return false
}

// sendDelayedAck writes the acknowledgement that was due at the given time, unless it
// has been written already.
func (c *conn) sendDelayedAck(due instant) {
	s := c.session
	s.mu.Lock()
	if s.conn != c || c.ackAt != due {
		s.mu.Unlock()
		return
	}
	c.ackAt = 0
	writeHere := false
	if c.out.WantAck() {
		writeHere = c.becomeWriter()
	}
	s.mu.Unlock()
	if writeHere {
		c.writeNow()
	}
}

// piggybackAck reports whether a delayed acknowledgement is to go out together with
// the message that is about to be written, because it is due soon anyway. The caller
// holds session.mu.
func (c *conn) piggybackAck() bool {
	return c.ackAt != 0 && c.ackAt-at(time.Now()) < instant(ackDelay/2) && c.out.MessageWaits(c.lastWritable())
}
