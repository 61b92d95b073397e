package node

import (
	"sync"

	"github.com/usher-broker/usher/proto"
)

// Fan is an App that sends every message to all sessions of its node that are
// attached: the least that a game with one room does. The zero Fan is ready, and
// serves one node.
type Fan struct {
	Quiet

	mu   sync.RWMutex // protects the following
	here map[*Session]bool
}

// Opened takes the session in.
func (f *Fan) Opened(s *Session) { f.set(s, true) }

// Resumed takes it in again.
func (f *Fan) Resumed(s *Session) { f.set(s, true) }

// Reset takes it in again, when it is back.
func (f *Fan) Reset(s *Session, r Reset) { f.set(s, !r.Away) }

// Detached leaves it out: what it would miss is not kept for it.
func (f *Fan) Detached(s *Session) { f.set(s, false) }

// Closed lets go of it.
func (f *Fan) Closed(s *Session, _ proto.CloseCode) { f.set(s, false) }

func (f *Fan) set(s *Session, here bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here == nil {
		f.here = make(map[*Session]bool)
	}
	if here {
		f.here[s] = true
	} else {
		delete(f.here, s)
	}
}

// Message sends m to everybody. Who has too much unconfirmed misses it; the node
// counts that.
func (f *Fan) Message(_ *Session, m Message) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for s := range f.here {
		_ = s.Send(m)
	}
}
