package node

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// watch checks every session once per tick. It closes silent connections, pings those
// that may be broken, and ends sessions whose resume window has closed. One loop for
// all sessions costs less than a timer for each.
func (n *Node) watch(ctx context.Context) {
	t := time.NewTicker(n.cfg.tick())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, s := range n.all() {
				n.checkSession(s, now)
			}
		}
	}
}

func (n *Node) checkSession(s *Session, now time.Time) {
	s.mu.Lock()
	if s.snapshotDue(now) {
		n.checkpointer.add(s)
	}
	c := s.conn
	if c == nil {
		over := s.phase != ended && now.Sub(s.detached) >= n.cfg.ResumeWindow
		s.mu.Unlock()
		if over && n.end(s, proto.CloseSessionEnded, "", false) {
			n.renewer.end(s, proto.CloseSessionEnded)
		}
		return
	}
	silent := now.Sub(time.Unix(0, c.net.lastRead.Load()))
	late := c.goAwaySent && s.leaving != 0 && at(now) >= s.leaving && !s.held
	ping := silent >= n.cfg.PingInterval && !now.Before(c.pingAt)
	if ping {
		c.pingAt = now.Add(n.cfg.PingInterval)
	}
	if ping = ping && silent < n.cfg.PingInterval*5/2 && !late; ping {
		n.wg.Add(1) // the reader still counts in wg, so Shutdown has not ended
	}
	s.mu.Unlock()
	if silent >= idleAfter {
		c.net.idle.interrupt(c.net.Conn)
	}
	switch {
	case silent >= n.cfg.PingInterval*5/2:
		n.metrics.timeouts.Inc()
		c.detach(proto.CloseTimeout)
	case late: // the client did not leave when asked
		c.detach(proto.CloseGoingAway)
	case ping:
		go func() {
			defer n.wg.Done()
			c.ping()
		}()
	}
}

// ping sends a ping frame. The pong counts as activity like every other byte; the
// library offers no way to send a ping without waiting for the pong.
func (c *conn) ping() {
	ctx, cancel := context.WithTimeout(context.Background(), c.session.node.cfg.PingInterval)
	defer cancel()
	_ = c.ws.Ping(ctx)
}
