package cluster

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// maxServing bounds the concurrent commands. More are dropped; their callers
	// send them again.
	maxServing = 256
	// serveTimeout bounds the execution of a command.
	serveTimeout = 10 * time.Second
)

// serve executes a command and answers it. For a repeated one it sends the answer
// again, or does nothing while the first is being executed.
func (c *Cluster) serve(m message) {
	c.mu.Lock()
	caller, known := c.members[m.from]
	c.mu.Unlock()
	if !known || !caller.peer.Role.Places() {
		c.counts.strangers.Add(1)
		c.log.Debug("command dropped: the member is unknown or may not send commands", "from", m.from, "op", m.cmd.Op)
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
		c.execute(m)
	})
	if !ok {
		<-c.slots
	}
}

func (c *Cluster) execute(m message) {
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
	// If the send fails, the caller asks again.
	if done, err := c.send(m.from, answer); err == nil {
		<-done
	}
}

func (c *Cluster) handle(m message) proto.CommandResult {
	c.counts.served.Add(1)
	if c.cfg.Handle == nil {
		return proto.CommandResult{Error: "this member accepts no commands"}
	}
	ctx, cancel := context.WithTimeout(c.ctx, serveTimeout)
	defer cancel()
	return c.cfg.Handle(ctx, m.from, m.cmd)
}
