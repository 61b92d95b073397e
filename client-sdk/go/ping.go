package usher

import "time"

// probeWait is the time limit for a pong after a change of network.
const probeWait = 2 * time.Second

// NetworkChanged notifies the session that it cannot trust its timers and
// connections, because the device was asleep or the network has changed. The
// session checks its connection at once. If there is no pong within 2 s, it opens a
// new connection without waiting for the old one to fail. If the session is waiting
// before its next attempt, it makes the attempt now. NetworkChanged does not block.
func (s *Session) NetworkChanged() {
	select {
	case s.network <- struct{}{}:
	default:
	}
}

// ping makes the writer send a ping, and returns the id of the ping.
func (c *conn) ping() uint64 {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	c.pingID++
	c.wakeWriter()
	return c.pingID
}

// processPong processes the answer to a ping. session.mu is held.
func (c *conn) processPong(id uint64) {
	if id > c.pingSent || id <= c.pongID {
		return // not the answer to an open ping
	}
	c.pongID = id
	if id == c.pingSent {
		c.session.rtt = time.Since(c.pingSentAt)
	}
}

// answered reports whether the ping has been answered.
func (c *conn) answered(id uint64) bool {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.pongID >= id
}

// idleFor returns the time since the last activity of the node. While the reader
// waits for the application it cannot see activity, and idleFor returns 0.
func (c *conn) idleFor() time.Duration {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.stalled {
		return 0
	}
	return time.Since(c.lastActivity)
}
