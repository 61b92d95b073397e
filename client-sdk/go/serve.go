package usher

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// serve watches the connection that carries the session, and those that the session
// moves to, until one is lost. It returns the wait and the next step, or the end of
// the session.
func (s *Session) serve(c *conn) (time.Duration, step, *EndedError) {
	for {
		next, l := s.watch(c)
		if l == nil {
			c = next
			continue
		}
		c.giveUp()
		if end := s.leaveReason(); end != nil {
			c.close(1000, "")
			return 0, stepStop, end
		}
		if !l.local { // if local, the reader closes it
			c.shut(l)
		}
		return s.lost(c, l)
	}
}

// lost decides what to do after the loss of the connection that carried the session.
func (s *Session) lost(c *conn, l *loss) (time.Duration, step, *EndedError) {
	now := time.Now()
	wait, next := s.retry.ended(now, l.Code, now.Sub(c.since))
	if next == stepStop {
		return 0, next, l.ended()
	}
	s.enter(StateChange{State: Detached, Err: &l.CutError})
	if l.atOnce {
		wait = 0
	}
	return wait, next, nil
}

var (
	errNoActivity = errors.New("no activity of the node for 2.5 ping intervals")
	errNetwork    = errors.New("no pong within 2 s after a change of network")
)

// watch returns when the connection is lost, or when the session has moved to the
// connection that it returns.
func (s *Session) watch(c *conn) (*conn, *loss) {
	m := newMove(s, c)
	defer m.stop()
	interval := s.pingInterval()
	ping := time.NewTicker(interval)
	defer ping.Stop()
	dead := time.NewTimer(deadAfter(interval))
	defer dead.Stop()
	probe, probeID := time.NewTimer(0), uint64(0)
	probe.Stop()
	defer probe.Stop()
	for {
		end, network := c.ended, s.network
		if m.phase == moveAttaches {
			end, network = nil, nil // the old connection matters only if the new one fails
		}
		select {
		case <-s.ctx.Done():
			return nil, broken(s.ctx.Err())
		case l := <-end:
			return nil, m.interpret(l)
		case <-ping.C:
			c.ping()
		case <-dead.C:
			wait := m.checkActivity(interval)
			if wait == 0 {
				return nil, broken(errNoActivity)
			}
			dead.Reset(wait)
		case <-network:
			if probeID == 0 {
				probeID = c.ping()
				probe.Reset(probeWait)
			}
		case <-probe.C:
			if l := m.checkProbe(probeID); l != nil {
				return nil, l
			}
			probeID = 0
		case g := <-c.goaway:
			m.schedule(g)
		case <-m.timer.C:
			if probeID != 0 {
				m.timer.Reset(probeWait) // the probe needs the old connection, which an attempt would hold
				continue
			}
			m.start()
		case r := <-m.results:
			if next, l := m.result(r); next != nil || l != nil {
				return next, l
			}
		}
	}
}

// checkActivity returns the time until the activity of the node is to be checked again,
// or 0 if the old connection is to be given up.
func (m *move) checkActivity(interval time.Duration) time.Duration {
	left := deadAfter(interval) - m.old.idleFor()
	switch {
	case left > 0:
		return left
	case m.phase == moveAttaches:
		return interval
	}
	return 0
}

// checkProbe returns the loss of the old connection if the probe after a change of
// network has not been answered.
func (m *move) checkProbe(id uint64) *loss {
	switch {
	case m.phase == moveAttaches:
		m.session.NetworkChanged() // the pong may wait on the held connection: probe again later
	case !m.old.answered(id):
		l := broken(errNetwork)
		l.atOnce = true
		return l
	}
	return nil
}

func (s *Session) pingInterval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.bounds.PingIntervalMS) * time.Millisecond
}

// deadAfter returns the time without activity after which a connection is given up.
func deadAfter(interval time.Duration) time.Duration { return interval * 5 / 2 }

// interpret returns the loss of the old connection in view of the attempts to move.
// A 4003 may be caused by this client: the node may have given the session to a
// connection whose welcome was lost. Then the session is not over.
func (m *move) interpret(l *loss) *loss {
	if m.outcomeUnknown && l.Code == proto.CloseReplaced {
		return broken(&l.CutError)
	}
	return l
}
