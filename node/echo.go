package node

import "github.com/usher-broker/usher/proto"

// Quiet is an App that does nothing; embed it to write only the methods a game
// needs.
type Quiet struct{}

func (Quiet) Opened(*Session)                  {}
func (Quiet) Message(*Session, Message)        {}
func (Quiet) Detached(*Session)                {}
func (Quiet) Resumed(*Session)                 {}
func (Quiet) Reset(*Session, Reset)            {}
func (Quiet) Closed(*Session, proto.CloseCode) {}

// Echo sends every message back as it came. A client that sends faster than
// it confirms is closed as too slow: an echo has nowhere to put its answer.
type Echo struct{ Quiet }

// Message sends m back.
func (Echo) Message(s *Session, m Message) {
	if err := s.Send(m); err == ErrSlow {
		s.cut(proto.CloseTooSlow)
	}
}
