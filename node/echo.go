package node

import "github.com/usher-broker/usher/proto"

// Quiet is an App that does nothing. Embed it to write only the methods that a game
// needs.
type Quiet struct{}

func (Quiet) Opened(*Session)                  {}
func (Quiet) Message(*Session, Message)        {}
func (Quiet) Detached(*Session)                {}
func (Quiet) Resumed(*Session)                 {}
func (Quiet) Reset(*Session, Reset)            {}
func (Quiet) Closed(*Session, proto.CloseCode) {}

// Echo is an App that sends every message back unchanged. It closes a client that
// sends faster than it confirms as too slow, because the node cannot keep more
// answers.
type Echo struct{ Quiet }

// Message sends m back.
func (Echo) Message(s *Session, m Message) {
	if err := s.Send(m); err == ErrSlow {
		s.cut(proto.CloseTooSlow)
	}
}
