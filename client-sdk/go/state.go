package usher

import (
	"crypto"
	"time"

	"github.com/usher-broker/usher/proto"
)

// State is where a session is in its life. See client-sdk/README.md.
type State uint8

// The states.
const (
	Connecting State = iota // logged in, never attached so far
	Attached                // there is a connection
	Moving                  // there is a connection, and its node has asked to leave
	Detached                // there is none; what is sent waits
	Ended                   // it is over for this client, and does not come back
)

func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Attached:
		return "attached"
	case Moving:
		return "moving"
	case Detached:
		return "detached"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// StateChange is what Config.OnState is told.
type StateChange struct {
	Session *Session
	State   State
	// Node is the id of the node that the session is at, or was at last.
	Node string
	// Err is why: the *CutError that cut the connection (Detached), or an *EndedError.
	Err error
	// Unconfirmed are, when the session has ended, the messages that the node
	// never confirmed, in the order they were sent. Some may have arrived.
	Unconfirmed []Message
}

// Reset is what Config.OnReset is told when a stream could not be continued.
type Reset struct {
	Session *Session
	// Reason is the node's word: proto.ResetExpired, ResetOverflow,
	// ResetNodeLost, ResetUnknown, or one of a later version.
	Reason string
	// Unconfirmed are the messages of the client that were never confirmed, in
	// the order they were sent. Some may have been handled. They are not sent
	// again.
	Unconfirmed []Message
	// Received is how many messages of the node were taken in on the stream
	// that ended. All of them are handed over. What the node sent after them is
	// lost; the client cannot know how much that was, and the node does.
	Received uint64
}

// Stats counts what a session has done since Connect.
type Stats struct {
	Sent     uint64 // reliable messages accepted by Send
	Received uint64 // reliable messages taken in from the node
	Attempts uint64 // to attach
	Resumes  uint64 // connections that continued the stream
	Resets   uint64 // streams that could not be continued
	// Lost counts the reliable messages sent that were unconfirmed when their
	// stream or the session ended. Some of them may have been handled.
	Lost uint64
	// VolatileDropped counts volatile messages dropped by this client, of
	// either direction.
	VolatileDropped uint64
}

// State returns the state.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Stats returns the counts so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// RTT returns the time that the latest ping took, there and back. It is 0
// before the first, which is sent one ping interval after attaching.
func (s *Session) RTT() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rtt
}

// Assignment returns where the session is and the token that opens it, for
// another process to take it up with Config.Assignment, and Config.Key if there is
// one. The token is a secret.
func (s *Session) Assignment() proto.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// Key returns the key that the session's tokens are bound to, for another process
// to take it up with Config.Assignment and Config.Key; nil if there is none.
func (s *Session) Key() crypto.Signer {
	if s.prover == nil {
		return nil
	}
	return s.prover.key
}

// Node returns the id of the node that the session is at, or was at last.
func (s *Session) Node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node()
}

// node is Node. s.mu is held.
func (s *Session) node() string {
	if s.bounds.Node != "" {
		return s.bounds.Node
	}
	return s.at.Node.ID
}

// SessionID returns the id of the session.
func (s *Session) SessionID() string { return s.Assignment().Session }

// Token returns the current token. It is a secret.
func (s *Session) Token() string { return s.Assignment().Token }

// enter changes the state and tells the application. It is called by the
// session's main goroutine alone.
func (s *Session) enter(c StateChange) {
	s.mu.Lock()
	changed := s.state != c.State
	s.state = c.State
	c.Session, c.Node = s, s.node()
	s.mu.Unlock()
	if !changed {
		return
	}
	s.cfg.Logger.Info("session "+c.State.String(), "node", c.Node, "error", c.Err)
	if s.cfg.OnState != nil {
		s.cfg.OnState(c)
	}
}
