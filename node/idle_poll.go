package node

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// idleAfter is how long a connection must be silent before it gives up its goroutine,
// on systems that allow it. Starting a goroutine again takes a few microseconds, so
// an active connection keeps its own.
const idleAfter = 3 * time.Second

// errIdle is returned by await when a connection has been silent for idleAfter.
var errIdle = errors.New("the connection is idle")

// idleState says whether a connection has a goroutine that reads, and whether that
// goroutine waits. The periodic check of the node detects silence: a deadline for
// each wait would add a cost to every message.
type idleState struct {
	polled atomic.Pointer[conn] // the connection, while it has no reader

	mu          sync.Mutex // protects the following
	waiting     bool       // the reader waits between two frames
	interrupted bool       // interrupt ended the wait
}

// beginWait records that the reader waits.
func (s *idleState) beginWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = true
}

// endWait records that the reader no longer waits, and reports whether it was
// interrupted.
func (s *idleState) endWait(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	interrupted := s.interrupted
	s.waiting, s.interrupted = false, false
	if interrupted {
		_ = c.SetReadDeadline(time.Time{})
	}
	return interrupted
}

// interrupt ends the wait of a reader that waits between two frames. It does nothing
// while the reader is inside a frame.
func (s *idleState) interrupt(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting && !s.interrupted && canIdlePoll {
		s.interrupted = true
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// startPolling leaves the connection without a reader until data arrives or it is
// closed. If it returns false, the caller must continue to read.
func (s *idleState) startPolling(c *conn) bool {
	if !c.net.empty() {
		return false
	}
	s.polled.Store(c)
	if c.session.node.idlePoller.add(c.net) {
		return true
	}
	return s.polled.Swap(nil) == nil // closed in the meantime: another goroutine reads
}

// stopPolling starts a reader for the connection if it has none.
func (s *idleState) stopPolling() {
	if c := s.polled.Swap(nil); c != nil {
		c.session.node.idlePoller.remove(c.net)
		go c.serve()
	}
}
