package node

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// idleAfter is the silence after which a connection gives up its goroutine, where
// the system lets it. It costs some microseconds to get one again, so that a
// connection that talks keeps it.
const idleAfter = 3 * time.Second

// errIdle is what await returns when a connection has been silent for idleAfter.
var errIdle = errors.New("nothing has come for a while")

// idleState is whether a connection has a goroutine that reads, and what it does.
// Silence is noticed by the node's own rounds and not by a deadline for each wait,
// which would cost every message something.
type idleState struct {
	parked atomic.Pointer[conn] // the connection, while it has no reader

	mu      sync.Mutex // protects the following
	waiting bool       // between frames
	hurried bool       // by a deadline that is over
}

// wait notes that the reader waits.
func (s *idleState) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = true
}

// waited notes that the reader goes on, and reports whether it was hurried.
func (s *idleState) waited(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	hurried := s.hurried
	s.waiting, s.hurried = false, false
	if hurried {
		_ = c.SetReadDeadline(time.Time{})
	}
	return hurried
}

// hurry ends the wait of a reader, if it waits: it is not in the middle of a frame
// then.
func (s *idleState) hurry(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting && !s.hurried && canPark {
		s.hurried = true
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// park leaves the connection without a reader until something comes or it is
// closed. If it cannot, the caller goes on reading.
func (s *idleState) park(c *conn) bool {
	if !c.net.empty() {
		return false
	}
	s.parked.Store(c)
	if c.session.node.idlers.add(c.net) {
		return true
	}
	return s.parked.Swap(nil) == nil // closed meanwhile: somebody else reads
}

// unpark gives the connection a reader, if it has none.
func (s *idleState) unpark() {
	if c := s.parked.Swap(nil); c != nil {
		c.session.node.idlers.forget(c.net)
		go c.serve()
	}
}
