package node

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// phase is what a session does on this node. Session.mu protects it. Two more states
// stand beside it: connStage, what its connection may still do, and appState, what the
// App knows of it.
//
//	            Send              a message arrives   a client attaches
//	attaching   kept              -                   resumes or begins a stream
//	attached    written           handled             takes over from the other connection
//	detached    kept              -                   resumes or begins a stream
//	moving      ErrMoving         waits, see below    waits until the move is over
//	ended       ErrClosed         ignored             is closed with the code of the end
//
// A message that arrives during a move waits for it. If the session leaves, the message is
// ignored, and the client sends it again to the next node. Controls are acted on.
type phase uint8

const (
	attaching phase = iota // known here, and no client has attached yet
	attached               // a connection carries it
	detached               // waits for its client, until the resume window closes
	moving                 // frozen, until the store says who owns it
	ended                  // over on this node
	phases                 // the number of phases
)

func (p phase) String() string {
	return [...]string{"attaching", "attached", "detached", "moving", "ended"}[p]
}

// transitions has the reason of each transition from one phase to another. A
// transition without a reason is not allowed.
var transitions = [phases][phases]string{
	attaching: {
		attached: "its client attaches",
		moving:   "a drain persists it, or it moves on, before its client has come",
		ended:    "its client did not come within the resume window, or the store says that it ended or moved",
	},
	attached: {
		attached: "another connection of its client takes over",
		detached: "the connection ended",
		moving:   "a drain persists it, or it moves to another node",
		ended:    "the application, an operator or another login ends it, or the store says that it moved",
	},
	detached: {
		attached: "its client is back",
		moving:   "a drain persists it, or it moves to another node",
		ended:    "the resume window closed, or as when attached",
	},
	moving: {
		attaching: "it stays here, and its client has not come yet",
		attached:  "it stays here with its connection",
		detached:  "it stays here, and its connection ended meanwhile",
		ended:     "it belongs to another node, or is persisted for the next one",
	},
}

// transitionError reports a transition that is not allowed.
type transitionError struct{ from, to phase }

func (e *transitionError) Error() string {
	return fmt.Sprintf("node: a session that is %v cannot become %v", e.from, e.to)
}

// enter changes the phase. It returns a *transitionError, and changes nothing, if the
// transition is not allowed. The caller holds s.mu.
func (s *Session) enter(to phase) error {
	if transitions[s.phase][to] == "" {
		return &transitionError{s.phase, to}
	}
	s.phase = to
	return nil
}

// sendError returns why a session in this phase cannot send, or nil if it can.
func (p phase) sendError() error {
	switch p {
	case moving:
		return ErrMoving
	case ended:
		return ErrClosed
	}
	return nil
}

// lossOf returns how the client of a session is closed that has ended or belongs to
// another node according to the store: err is the error of the store, and rec the record
// that came with it. It returns nil if the error says neither.
func lossOf(rec session.Record, err error) *closeError {
	switch {
	case errors.Is(err, session.ErrMoved):
		return &closeError{code: proto.CloseMoved}
	case errors.Is(err, session.ErrEnded):
		return &closeError{cmp.Or(rec.Reason, proto.CloseSessionEnded), rec.CloseReason}
	}
	return nil
}

// endError returns how clients of an ended session are closed, or nil if the session
// has not ended here.
func (s *Session) endError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endErrorLocked()
}

// endErrorLocked is endError for a caller that holds s.mu.
func (s *Session) endErrorLocked() error {
	if s.phase != ended {
		return nil
	}
	return s.how
}

// freeze stops sending and receiving until thaw. It returns an error if the session has
// ended or is frozen already. The caller holds s.callbackLock, so every message that was
// accepted has been handled.
func (s *Session) freeze() error {
	s.notifyPendingReset() // the App of the next node does not know of it
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.phase
	if err := s.enter(moving); err != nil {
		return err
	}
	s.thawTo = before
	return nil
}

// thaw lets a frozen session continue that stays here after all.
func (s *Session) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == ended {
		return
	}
	if err := s.enter(s.thawTo); err != nil {
		s.node.log.Error("bug: the session stays frozen", "session", s.ID, "error", err)
		return
	}
	s.update(time.Now())
	if s.conn != nil {
		s.conn.wakeWriter()
	}
}

// lostConnection records that the connection of the session has ended. The caller
// holds s.mu.
func (s *Session) lostConnection() {
	if s.phase == moving {
		s.thawTo = detached
		return
	}
	if err := s.enter(detached); err != nil { // a session with a connection is attached or moving
		s.node.log.Error("bug: the session lost a connection that it did not have", "session", s.ID, "error", err)
	}
}

// closeError is an error that ends a connection: the client is to be closed with the
// code.
type closeError struct {
	code   proto.CloseCode
	reason string // "" for the default reason of the code
}

func (e *closeError) Error() string { return "close with " + e.text() }

// text returns the close reason.
func (e *closeError) text() string { return cmp.Or(e.reason, e.code.String()) }

// closeWith returns an error that closes the client with the code and its default
// reason.
func closeWith(code proto.CloseCode) error { return &closeError{code: code} }

// closeOf returns how to close the client after err. An error that says nothing about
// it is internal.
func closeOf(err error) *closeError {
	var c *closeError
	if errors.As(err, &c) {
		return c
	}
	return &closeError{code: proto.CloseInternal}
}

func closeLabel(code proto.CloseCode) string {
	if code.Action() == proto.ActionApp {
		return "application" // the codes of applications are unbounded, metric labels must not be
	}
	if s := code.String(); s != "" {
		return s
	}
	return "other"
}
