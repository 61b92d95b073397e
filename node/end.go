package node

import (
	"math"
	"time"

	"github.com/usher-broker/usher/proto"
)

// detach ends the connection and leaves the session detached. It closes the
// connection with the code; code 0 means that the connection is already broken. If
// the connection carries no session any more, detach only closes it.
func (c *conn) detach(code proto.CloseCode) {
	s := c.session
	s.mu.Lock()
	carried := s.conn == c
	if carried {
		s.node.wg.Add(1) // for the call below; the reader still counts in wg, so Shutdown has not ended
		s.conn = nil
		s.lostConnection()
		s.recount()
		s.detached = time.Now()
		s.node.leases.Changed(&s.lease)
		s.update(s.detached)
		s.node.attached.Add(-1)
		if code != 0 {
			c.shut(code)
		}
	}
	if _, was := s.node.drainingConns.LoadAndDelete(c); was { // detach may be called twice
		c.drainTimer.Stop()
		s.node.departed()
	}
	ending := c.closing != nil
	s.mu.Unlock()
	if !ending {
		c.ws.CloseNow()
	}
	if !carried {
		return
	}
	if s.node.logsInfo() {
		s.node.log.Info("detached", "session", s.ID, "user", s.User, "code", int(code), "reason", code.String())
	}
	go func() { // the caller may hold s.callbackLock
		defer s.node.wg.Done()
		s.callbackLock.Lock()
		defer s.unlockCallbacks()
		if s.app == appAttached && s.owns(nil) {
			s.notifyDetached()
		}
	}()
}

// end ends the session on this node: it closes the connection with the code, notifies
// the App and removes the session. reason is the close reason, or "" for the default
// one of the code. With flush, everything that was sent goes out first. end reports
// whether the session was still there. It does not change the store; the caller does.
func (n *Node) end(s *Session, code proto.CloseCode, reason string, flush bool) bool {
	how := &closing{closeError{code, reason}, flush}
	return n.endWith(s, code, reason, func(c *conn) {
		if flush { // everything that was sent goes out, persisted or not: no message follows it
			c.awaitsCheckpoint = 0
			if s.checkpoint != nil {
				s.checkpoint.released = math.MaxUint64
			}
		}
		c.end(how)
	})
}

// endWith ends the session like end, but calls closeConn for its connection, with
// s.mu held.
func (n *Node) endWith(s *Session, code proto.CloseCode, reason string, closeConn func(*conn)) bool {
	n.mu.Lock()
	if n.sessions[s.ID] == s {
		delete(n.sessions, s.ID)
		n.noteLoad()
		n.noteLast()
	}
	counted := !n.ended // afterwards Shutdown may be waiting for n.wg already
	if counted {
		n.wg.Add(1)
	}
	n.mu.Unlock()
	notify := func() {
		if counted {
			defer n.wg.Done()
		}
		s.callbackLock.Lock()
		defer s.unlockCallbacks()
		s.notifyPendingReset()
		if s.app != appUnaware {
			s.notifyClosed(code)
		}
	}

	s.mu.Lock()
	if s.enter(ended) != nil { // it has ended already
		s.mu.Unlock()
		if counted {
			n.wg.Done()
		}
		return false
	}
	s.how = &closeError{code, reason}
	s.removed()
	c := s.conn
	if c != nil {
		s.conn = nil
		n.attached.Add(-1)
		closeConn(c)
	}
	if c == nil || c.closing == nil || !c.closing.flush {
		s.stream = nil
	}
	s.signalCheckpoint()
	s.recount()
	n.leases.Remove(&s.lease)
	s.mu.Unlock()

	n.metrics.ended.WithLabelValues(closeLabel(code)).Inc()
	n.log.Info("ended", "session", s.ID, "user", s.User, "code", int(code), "reason", reason)
	go notify() // the caller may hold s.callbackLock
	return true
}
