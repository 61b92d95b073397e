package usher

import "time"

// probeWait is how long a pong may take after a change of network.
const probeWait = 2 * time.Second

// NetworkChanged tells the session that timers and connections are not to be
// trusted: the device was asleep, or the network is another one. The session
// makes sure of its connection at once, and if it is dead opens a new one
// without waiting for it to fail; a session that waits before its next attempt
// makes it now. It returns at once.
func (s *Session) NetworkChanged() {
	select {
	case s.network <- struct{}{}:
	default:
	}
}

// ping makes the writer send a ping, and returns its id.
func (c *conn) ping() uint64 {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	c.pingID++
	c.pingOwed = true
	c.kick()
	return c.pingID
}

// takePong takes in the answer to a ping. session.mu is held.
func (c *conn) takePong(id uint64) {
	if id > c.pingID || id <= c.pongID || id == c.pingID && c.pingOwed {
		return // it was not asked for
	}
	c.pongID = id
	if id == c.pingID {
		c.session.rtt = time.Since(c.pingSent)
	}
}

// answered reports whether the ping has been answered.
func (c *conn) answered(id uint64) bool {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.pongID >= id
}

// silence returns how long nothing has been heard of the node. While the
// reader waits for the application there is nobody to hear anything, and
// silence means nothing.
func (c *conn) silence() time.Duration {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.stalled {
		return 0
	}
	return time.Since(c.heard)
}
