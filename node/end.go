package node

import (
	"context"
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
		s.conn = nil
		s.detached = time.Now()
		s.renewAt = time.Time{}
		s.node.attached.Add(-1)
		if code != 0 {
			c.shut(code)
		}
	}
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	ending := c.closing != nil
	s.mu.Unlock()
	if !ending {
		_ = c.ws.CloseNow()
	}
	if !carried {
		return
	}
	s.node.log.Info("detached", "session", s.ID, "user", s.User, "code", int(code), "reason", code.String())
	s.node.goes.Go(func() { // the caller may hold s.app
		s.app.Lock()
		defer s.app.Unlock()
		if s.told && s.owns(nil) {
			s.tellDetached()
		}
	})
}

// end ends the session on this node: the connection is closed with the code,
// the App is told, the session is forgotten. It reports whether the session
// was still there. The store is the caller's business.
func (n *Node) end(s *Session, code proto.CloseCode, reason string, flush bool) bool {
	n.mu.Lock()
	if n.sessions[s.ID] == s {
		delete(n.sessions, s.ID)
	}
	n.mu.Unlock()

	s.mu.Lock()
	if s.endCode != 0 {
		s.mu.Unlock()
		return false
	}
	s.endCode = code
	if c := s.conn; c != nil {
		s.conn = nil
		n.attached.Add(-1)
		if reason == "" {
			reason = code.String()
		}
		c.end(&closing{code: code, reason: reason, flush: flush})
	}
	if !(flush && s.stream != nil) {
		s.stream = nil
	}
	s.mu.Unlock()

	n.metrics.ended.WithLabelValues(closeLabel(code)).Inc()
	n.log.Info("ended", "session", s.ID, "user", s.User, "code", int(code), "reason", reason)
	n.goes.Go(func() {
		s.app.Lock()
		defer s.app.Unlock()
		if s.opened {
			s.tellClosed(code)
		}
	})
	return true
}

// Command carries out an order from a member that places. It can be given to
// cluster.Config.Handle.
func (n *Node) Command(_ context.Context, _ string, cmd proto.Command) proto.CommandResult {
	s := n.session(cmd.Session)
	switch cmd.Op {
	case proto.OpEnd:
		if s != nil {
			n.end(s, cmpOr(cmd.Code, proto.CloseSessionEnded), "", false)
		}
	case proto.OpMoved:
		if s != nil && cmd.Epoch > s.epoch {
			n.end(s, proto.CloseMoved, "", false)
		}
	default:
		return proto.CommandResult{Error: "unknown command " + cmd.Op}
	}
	return proto.CommandResult{Found: s != nil}
}
