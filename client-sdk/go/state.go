package usher

import (
	"crypto"
	"time"

	"github.com/usher-broker/usher/proto"
)

// State is the state of a session. See client-sdk/README.md.
type State uint8

// The states.
const (
	Connecting State = iota // logged in, not attached so far
	Attached                // the session has a connection
	Moving                  // the session has a connection, and its node has asked the client to leave
	Detached                // the session has no connection; messages that are sent wait
	Ended                   // the session has ended for this client; the state is final
)

// String returns the name of the state, for example "attached".
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

// StateChange is the argument of Config.OnState.
type StateChange struct {
	Session *Session
	State   State
	// Node is the id of the session's present or last node.
	Node string
	// Err is the cause: the *CutError that cut the connection (Detached), or an
	// *EndedError (Ended).
	Err error
	// Unconfirmed are the messages that the node never confirmed, in the order in
	// which they were sent, if State is Ended. Some of them may have arrived.
	Unconfirmed []Message
}

// Reset is the argument of Config.OnReset: a stream could not be continued.
type Reset struct {
	Session *Session
	// Reason is the node's reason: proto.ResetExpired, ResetOverflow,
	// ResetNodeLost, ResetUnknown, or one of a later version.
	Reason string
	// Unconfirmed are the messages of the client that were never confirmed, in the
	// order in which they were sent. Some of them may have been handled. The
	// session does not send them again.
	Unconfirmed []Message
	// Received is the number of messages of the node that the client accepted on the
	// stream that ended. Receive returns all of them. Later messages of the node are
	// lost; the node knows how many, the client does not.
	Received uint64
}

// Stats are the counts of a session since Connect.
type Stats struct {
	Sent     uint64 // reliable messages accepted by Send
	Received uint64 // reliable messages accepted from the node
	Attempts uint64 // attempts to attach
	Resumes  uint64 // connections that continued the stream
	Resets   uint64 // streams that could not be continued
	// Lost counts the sent reliable messages that were unconfirmed when their stream
	// or the session ended. Some of them may have been handled.
	Lost uint64
	// VolatileDropped counts the volatile messages that this client dropped, in
	// both directions.
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

// RTT returns the round-trip time of the latest ping. It is 0 before the first
// pong; the session sends its first ping one ping interval after it attaches.
func (s *Session) RTT() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rtt
}

// Assignment returns the node and the token of the session. Another process can
// continue the session with Config.Assignment, and with Config.Key if the session
// has a key. The token is a secret.
func (s *Session) Assignment() proto.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// Key returns the key that the session's tokens are bound to, or nil. Another
// process needs it for Config.Key to continue the session.
func (s *Session) Key() crypto.Signer {
	if s.prover == nil {
		return nil
	}
	return s.prover.key
}

// Node returns the id of the session's present or last node.
func (s *Session) Node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node()
}

// node is Node with s.mu held.
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

// enter changes the state and notifies the application. Only the main goroutine of
// the session calls it.
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
