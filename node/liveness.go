package node

import (
	"context"
	"math"
	"time"

	"github.com/usher-broker/usher/proto"
)

// never is an instant that does not come.
const never instant = math.MaxInt64

// watch checks each session when it is time for that, until ctx ends: it rests and
// closes silent connections, pings those that may be broken, and ends sessions whose
// resume window has closed. One wheel for all sessions costs less than a timer for
// each, and nothing happens while no session is due.
func (n *Node) watch(ctx context.Context) {
	_ = n.timers.Run(ctx, func(now time.Time, due []*Session) {
		for _, s := range due {
			n.checkSession(s, now)
		}
	})
}

// update brings what the node keeps about the session up to date: its timer, its place
// among the sessions that a rebalance may ask, and the queue of a drain. Call it after
// a change of conn, leaving, held or group, when a message makes the snapshot stale,
// when the session is no longer frozen, and when a connection can be asked to leave.
// The caller holds s.mu.
func (s *Session) update(now time.Time) {
	if s.phase == ended {
		return
	}
	s.schedule(now)
	s.node.idle.set(s, s.used, s.mayRebalance())
	s.node.drainQueue.add(s)
}

// removed undoes update for a session that has ended. The caller holds s.mu.
func (s *Session) removed() {
	s.node.timers.Remove(&s.timer)
	s.node.idle.set(s, 0, false)
	if s.leaving != 0 {
		s.node.leaving.Add(-1)
	}
	if s.held {
		s.node.held.Add(-1)
	}
}

// schedule sets the time of the next check. The caller holds s.mu.
func (s *Session) schedule(now time.Time) {
	t, next := at(now), s.snapshotAt()
	if s.conn != nil {
		next = min(next, s.conn.nextCheck(now))
	} else {
		next = min(next, t+instant(s.node.cfg.ResumeWindow-now.Sub(s.detached)))
	}
	// Instants are times of the wall clock, which may be set; the wheel must not
	// depend on that.
	s.node.timers.Set(&s.timer, now.Add(time.Duration(next-t)))
}

// nextCheck returns when the connection needs a check if nothing arrives until then.
// The caller holds session.mu.
func (c *conn) nextCheck(now time.Time) instant {
	ping, t := instant(c.session.node.cfg.PingInterval), at(now)
	read := t - c.silent(now)
	next := min(read+ping*5/2, max(read+ping, t+instant(c.pingAt.Sub(now))))
	if !c.resting {
		next = min(next, read+instant(restAfter))
	}
	return min(next, c.leaveBy())
}

// leaveBy returns when a client that was asked to leave for a rebalance must have left.
// The caller holds session.mu.
func (c *conn) leaveBy() instant {
	s := c.session
	if c.stage == connAsked && s.leaving != 0 && !s.held {
		return s.leaving
	}
	return never
}

// silent returns for how long nothing has arrived, whatever the wall clock was set to
// meanwhile.
func (c *conn) silent(now time.Time) instant { return instant(max(now.Sub(c.ws.LastRead()), 0)) }

// noteActive records that a message arrived. A connection that was put to rest rests
// again when it has been silent for restAfter; one that was not has a timer for that
// already, so a busy connection costs nothing here. The caller holds session.mu.
func (c *conn) noteActive() {
	if c.resting {
		c.resting = false
		c.session.schedule(time.Now())
	}
}

// noteStale records that the stored snapshot lacks a message. The caller holds s.mu.
func (s *Session) noteStale() {
	if s.checkpoint == nil || s.checkpoint.stale {
		return
	}
	s.checkpoint.stale = true
	if s.phase != ended {
		s.schedule(time.Now())
	}
}

// snapshotAt returns when the snapshot of the application is to be stored. It is never
// while nothing has changed, and while the session is in the queue for a checkpoint
// or frozen; thaw calls update. The caller holds s.mu.
func (s *Session) snapshotAt() instant {
	cfg, c := &s.node.cfg, s.checkpoint
	if cfg.Checkpoint || !s.node.checkpoints || cfg.SnapshotInterval < 0 || c == nil || !c.stale || c.queued || s.phase == moving {
		return never
	}
	return at(time.Unix(c.at+int64(cfg.SnapshotInterval/time.Second), 0))
}

// checkSession does what is due for the session at the time now, and sets the time of
// the next check.
func (n *Node) checkSession(s *Session, now time.Time) {
	s.mu.Lock()
	if s.phase == ended {
		s.mu.Unlock()
		return
	}
	if s.snapshotAt() <= at(now) {
		s.queueCheckpoint()
	}
	c := s.conn
	if c != nil {
		n.checkConn(c, now)
		return
	}
	over := now.Sub(s.detached) >= n.cfg.ResumeWindow
	if !over {
		s.schedule(now)
	}
	s.mu.Unlock()
	if over && n.end(s, proto.CloseSessionEnded, "", false) {
		n.leases.End(&s.lease, proto.CloseSessionEnded)
	}
}

// checkConn is checkSession for an attached session. The caller holds s.mu, and
// checkConn unlocks it.
func (n *Node) checkConn(c *conn, now time.Time) {
	s, interval := c.session, instant(n.cfg.PingInterval)
	silent := c.silent(now)
	late := at(now) >= c.leaveBy()
	dead := silent >= interval*5/2
	ping := silent >= interval && !now.Before(c.pingAt)
	if ping {
		c.pingAt = now.Add(n.cfg.PingInterval)
	}
	if ping = ping && !dead && !late; ping {
		n.wg.Add(1) // the reader still counts in wg, so Shutdown has not ended
	}
	rest := silent >= instant(restAfter)
	c.resting = rest
	if !dead && !late { // otherwise detach does it
		s.schedule(now)
	}
	s.mu.Unlock()
	if rest {
		c.ws.Rest()
	}
	switch {
	case dead:
		n.metrics.timeouts.Inc()
		c.detach(proto.CloseTimeout)
	case late: // the client did not leave when asked
		c.detach(proto.CloseGoingAway)
	case ping:
		c.ws.Ping() // the pong counts as activity like every other byte
		n.wg.Done()
	}
}

func (s *Session) setLeaving(until instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != ended {
		s.changeLeaving(until)
		s.update(time.Now())
	}
}

// changeLeaving sets when the session must leave for a rebalance; 0: it may stay. The
// session has not ended. The caller holds s.mu and calls update.
func (s *Session) changeLeaving(until instant) {
	switch {
	case s.leaving == 0 && until != 0:
		s.node.leaving.Add(1)
	case s.leaving != 0 && until == 0:
		s.node.leaving.Add(-1)
	}
	if s.leaving == until {
		return
	}
	s.leaving = until
	s.node.leases.Changed(&s.lease) // a renewal that is under way has the old value
}
