package node

import (
	"sync"

	"github.com/usher-broker/usher/proto"
)

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

// Fan is an App that sends every message to all attached sessions of its node: the
// least that a game with one room does. The zero Fan is ready to use. It serves one
// node.
type Fan struct {
	Quiet

	mu       sync.RWMutex // protects the following
	attached map[*Session]bool
}

// Opened adds the session.
func (f *Fan) Opened(s *Session) { f.set(s, true) }

// Resumed adds the session again.
func (f *Fan) Resumed(s *Session) { f.set(s, true) }

// Reset adds the session again when its client is back.
func (f *Fan) Reset(s *Session, r Reset) { f.set(s, !r.Away) }

// Detached removes the session: messages are not kept for it while it is detached.
func (f *Fan) Detached(s *Session) { f.set(s, false) }

// Closed removes the session.
func (f *Fan) Closed(s *Session, _ proto.CloseCode) { f.set(s, false) }

func (f *Fan) set(s *Session, attached bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attached == nil {
		f.attached = make(map[*Session]bool)
	}
	if attached {
		f.attached[s] = true
	} else {
		delete(f.attached, s)
	}
}

// Message sends m to all attached sessions. A session with too much unconfirmed
// misses it; the node counts that.
func (f *Fan) Message(_ *Session, m Message) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for s := range f.attached {
		_ = s.Send(m)
	}
}
