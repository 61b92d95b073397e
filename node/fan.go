package node

import (
	"sync"

	"github.com/usher-broker/usher/proto"
)

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
