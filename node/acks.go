package node

import (
	"context"
	"sync"
	"time"
)

// ackDelay is how long an acknowledgement waits for more to acknowledge, or for a
// message to travel with; the protocol wants it after 0.2 s at the latest.
const ackDelay = 150 * time.Millisecond

// acks is the connections that owe an acknowledgement. All wait equally long, so
// they come due in the order in which they came: one queue does for a node what a
// timer would have to do for each.
type acks struct {
	mu   sync.Mutex
	due  []ackDue
	wake chan struct{}
}

type ackDue struct {
	conn *conn
	at   instant
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1)} }

func (a *acks) add(c *conn, at instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = append(a.due, ackDue{c, at})
	if len(a.due) == 1 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// run sends what is due, until ctx ends.
func (a *acks) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		late, next := a.take(at(time.Now()))
		for _, d := range late {
			d.conn.ackLate(d.at)
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

// ackTick is how long the queue waits at least: what comes due within it goes at
// once.
const ackTick = 10 * time.Millisecond

// take returns what is due, and how long to wait for the next.
func (a *acks) take(now instant) (late []ackDue, next time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for n < len(a.due) && a.due[n].at <= now {
		n++
	}
	late, a.due = a.due[:n:n], a.due[n:]
	if len(a.due) == 0 {
		a.due = nil // nothing that was in it is kept
		return late, time.Hour
	}
	return late, max(time.Duration(a.due[0].at-now), ackTick)
}

// acknowledge sees to it that the client hears what was handled: at once when it
// is much, which is what it reports, else a little later, so that one
// acknowledgement does for many messages. s.mu is held.
func (s *Session) acknowledge() (now bool) {
	c := s.conn
	if c == nil {
		return false // the next welcome says it
	}
	owed, now := s.stream.AckDue()
	switch {
	case now:
		c.ackOwed = true
	case owed && c.ackAt == 0:
		c.ackAt = at(time.Now().Add(ackDelay))
		s.node.acks.add(c, c.ackAt)
	}
	return now
}

// ackLate has an acknowledgement written that was due at the time, unless it was.
func (c *conn) ackLate(due instant) {
	s := c.session
	s.mu.Lock()
	if s.conn != c || c.ackAt != due {
		s.mu.Unlock()
		return
	}
	c.ackAt = 0
	here := false
	if owed, _ := s.stream.AckDue(); owed {
		c.ackOwed = true
		here = c.begin()
	}
	s.mu.Unlock()
	if here {
		c.writeNow()
	}
}

// ackRides reports whether an acknowledgement that waits is to travel with the
// message that is about to be written: if it is soon due anyway. session.mu is
// held.
func (c *conn) ackRides() bool {
	return c.ackAt != 0 && c.ackAt-at(time.Now()) < instant(ackDelay/2) && c.messageWaits()
}
