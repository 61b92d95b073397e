package node

import (
	"math"
	"time"

	"github.com/usher-broker/usher/proto"
)

// detach ends the connection and leaves the session waiting for another one.
// With a code, the client is told it; with 0 the connection is gone already.
// It does nothing but close when the connection carries no session any more.
func (c *conn) detach(code proto.CloseCode) {
	s := c.session
	s.mu.Lock()
	carried := s.conn == c
	if carried {
		s.node.goes.Add(1) // of the call below; the reader's own keeps Shutdown from having ended
		s.conn = nil
		s.recount()
		s.detached = time.Now()
		s.renewAt = time.Time{}
		s.node.attached.Add(-1)
		if code != 0 {
			c.shut(code)
		}
	}
	if c.mute {
		c.lingers.Stop()
		s.node.lingering.Delete(c)
	}
	ending := c.closing != nil
	s.mu.Unlock()
	if !ending {
		_ = c.ws.CloseNow()
	}
	if !carried {
		return
	}
	if s.node.logs() {
		s.node.log.Info("detached", "session", s.ID, "user", s.User, "code", int(code), "reason", code.String())
	}
	go func() { // the caller may hold s.app
		defer s.node.goes.Done()
		s.app.Lock()
		defer s.app.Unlock()
		if s.told && s.owns(nil) {
			s.tellDetached()
		}
	}()
}

// end ends the session on this node: the connection is closed with the code,
// the App is told, the session is forgotten. word is the reason, if it is not
// the code's own. It reports whether the session was still there. The store is
// the caller's business.
func (n *Node) end(s *Session, code proto.CloseCode, word string, flush bool) bool {
	how := &closing{code: code, reason: word, flush: flush}
	if word == "" {
		how.reason = code.String()
	}
	return n.forget(s, code, word, func(c *conn) {
		if flush { // what was sent, saved or not: nothing comes after it
			s.frozen, c.awaits = false, 0
			if s.saves != nil {
				s.saves.released = math.MaxUint64
			}
		}
		c.end(how)
	})
}

// forget is end, but for the connection, which it hands to part, with s.mu
// held.
func (n *Node) forget(s *Session, code proto.CloseCode, word string, part func(*conn)) bool {
	n.mu.Lock()
	if n.sessions[s.ID] == s {
		delete(n.sessions, s.ID)
	}
	counted := !n.ended
	if counted {
		n.goes.Add(1)
	}
	n.mu.Unlock()
	tell := func() {
		if counted {
			defer n.goes.Done()
		}
		s.app.Lock()
		defer s.app.Unlock()
		s.tellOwed()
		if s.opened {
			s.tellClosed(code)
		}
	}

	s.mu.Lock()
	if s.endCode != 0 {
		s.mu.Unlock()
		if counted {
			n.goes.Done()
		}
		return false
	}
	s.endCode, s.endWord = code, word
	c := s.conn
	if c != nil {
		s.conn = nil
		n.attached.Add(-1)
		part(c)
	}
	if c == nil || c.closing == nil || !c.closing.flush {
		s.stream = nil
	}
	s.recount()
	s.mu.Unlock()

	n.metrics.ended.WithLabelValues(closeLabel(code)).Inc()
	n.log.Info("ended", "session", s.ID, "user", s.User, "code", int(code), "reason", word)
	go tell() // the caller may hold s.app
	return true
}
