package usher

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// serve watches over the connection that carries the session, and over those
// it moves to, until one is lost. It returns what comes then.
func (s *Session) serve(c *conn) (time.Duration, door, *EndedError) {
	for {
		next, l := s.watch(c)
		if l == nil {
			c = next
			continue
		}
		c.giveUp()
		if end := s.left(); end != nil {
			c.close(1000, "")
			return 0, doorStop, end
		}
		if !l.local { // the reader closes it then
			c.shut(l)
		}
		return s.lost(c, l)
	}
}

// lost decides what comes after a connection that carried the session.
func (s *Session) lost(c *conn, l *loss) (time.Duration, door, *EndedError) {
	now := time.Now()
	wait, next := s.retry.ended(now, l.Code, now.Sub(c.since))
	if next == doorStop {
		return 0, next, l.ended()
	}
	s.enter(StateChange{State: Detached, Err: &l.CutError})
	if l.atOnce {
		wait = 0
	}
	return wait, next, nil
}

var (
	errSilent  = errors.New("nothing was heard of the node")
	errNetwork = errors.New("no pong after a change of network")
)

// watch returns when the connection is lost, or the session has moved to the
// one it returns.
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
		if m.attaching {
			end, network = nil, nil // the old connection counts only if the new one fails
		}
		select {
		case <-s.ctx.Done():
			return nil, broken(s.ctx.Err())
		case l := <-end:
			return nil, m.judge(l)
		case <-ping.C:
			c.ping()
		case <-dead.C:
			left := deadAfter(interval) - c.silence()
			switch {
			case left > 0:
				dead.Reset(left)
			case m.attaching:
				dead.Reset(interval)
			default:
				return nil, broken(errSilent)
			}
		case <-network:
			if probeID == 0 {
				probeID = c.ping()
				probe.Reset(probeWait)
			}
		case <-probe.C:
			if m.attaching {
				s.NetworkChanged() // the pong may be held back with the rest: ask again then
			} else if !c.answered(probeID) {
				l := broken(errNetwork)
				l.atOnce = true
				return nil, l
			}
			probeID = 0
		case g := <-c.goaway:
			m.ask(g)
		case <-m.timer.C:
			if probeID != 0 {
				m.timer.Reset(probeWait) // it needs the old connection, which an attempt would hold
				continue
			}
			m.begin()
		case r := <-m.results:
			if next, l := m.result(r); next != nil || l != nil {
				return next, l
			}
		}
	}
}

func (s *Session) pingInterval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.bounds.PingIntervalMS) * time.Millisecond
}

// deadAfter is the silence after which a connection is given up.
func deadAfter(interval time.Duration) time.Duration { return interval * 5 / 2 }

// judge reads how the connection ended in the light of an attempt to move away
// from it. A 4003 may then be this client's own doing: the node may have given
// the session to a connection whose welcome was lost.
func (m *move) judge(l *loss) *loss {
	if m.unclear && l.Code == proto.CloseReplaced {
		return broken(&l.CutError)
	}
	return l
}
