package cluster

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// maxServing bounds the commands being carried out at a time. More are
	// dropped; their callers send them again.
	maxServing = 256
	// serveTimeout bounds the carrying out of one.
	serveTimeout = 10 * time.Second
)

// serve carries out a command and answers it. One that was carried out before
// is only answered again, and one that is being carried out is let be.
func (c *Cluster) serve(m message) {
	c.mu.Lock()
	caller, known := c.members[m.from]
	c.mu.Unlock()
	if !known || !caller.peer.Role.Places() {
		c.counts.strangers.Add(1)
		c.log.Debug("command of a member that is unknown or may not give any", "from", m.from, "op", m.cmd.Op)
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		c.counts.overloads.Add(1)
		return
	}
	ok := c.spawn(func() {
		defer func() { <-c.slots }()
		c.carryOut(m)
	})
	if !ok {
		<-c.slots
	}
}

func (c *Cluster) carryOut(m message) {
	c.mu.Lock()
	answer, known := c.recent.begin(m.id)
	c.mu.Unlock()
	if known {
		c.counts.duplicates.Add(1)
		if answer == nil {
			return
		}
	} else {
		answer = appendAnswer(m.id, c.handle(m))
		c.mu.Lock()
		c.recent.finish(m.id, answer)
		c.mu.Unlock()
	}
	// If this fails, the caller asks again.
	if done, err := c.send(m.from, answer); err == nil {
		<-done
	}
}

func (c *Cluster) handle(m message) proto.CommandResult {
	c.counts.served.Add(1)
	if c.cfg.Handle == nil {
		return proto.CommandResult{Error: "this member takes no commands"}
	}
	ctx, cancel := context.WithTimeout(c.ctx, serveTimeout)
	defer cancel()
	return c.cfg.Handle(ctx, m.from, m.cmd)
}
