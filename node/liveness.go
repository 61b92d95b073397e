package node

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// watch looks at every session once a tick: it gives up connections that have
// gone silent, pings those that may have, and ends sessions whose window has
// closed. One loop for all costs less than a timer for each.
func (n *Node) watch(ctx context.Context) {
	t := time.NewTicker(n.cfg.tick())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, s := range n.all() {
				n.look(s, now)
			}
		}
	}
}

func (n *Node) look(s *Session, now time.Time) {
	s.mu.Lock()
	if s.saveDue(now) {
		n.saver.add(s)
	}
	c := s.conn
	if c == nil {
		over := s.endCode == 0 && now.Sub(s.detached) >= n.cfg.ResumeWindow
		s.mu.Unlock()
		if over && n.end(s, proto.CloseSessionEnded, "", false) {
			n.ledger.end(s, proto.CloseSessionEnded)
		}
		return
	}
	silent := now.Sub(time.Unix(0, c.net.heard.Load()))
	late := c.asked && s.leaving != 0 && at(now) >= s.leaving && !s.held
	ping := silent >= n.cfg.PingInterval && !now.Before(c.pingAt)
	if ping {
		c.pingAt = now.Add(n.cfg.PingInterval)
	}
	if ping = ping && silent < n.cfg.PingInterval*5/2 && !late; ping {
		n.goes.Add(1) // while the reader's own keeps Shutdown from having ended
	}
	s.mu.Unlock()
	if silent >= idleAfter {
		c.net.idle.hurry(c.net.Conn)
	}
	switch {
	case silent >= n.cfg.PingInterval*5/2:
		n.metrics.timeouts.Inc()
		c.detach(proto.CloseTimeout)
	case late: // it does not do what it is asked: then so
		c.detach(proto.CloseGoingAway)
	case ping:
		go func() {
			defer n.goes.Done()
			c.ping()
		}()
	}
}

// ping sends a ping frame. The pong is heard as every other byte is; waiting
// for it is only how the library sends a ping.
func (c *conn) ping() {
	ctx, cancel := context.WithTimeout(context.Background(), c.session.node.cfg.PingInterval)
	defer cancel()
	_ = c.ws.Ping(ctx)
}
