package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// commandTimeout bounds how long a command is tried. A node that the command
	// does not reach learns the same when it next renews its leases. OpEnd is
	// tried for endTimeout, and also if the node is not a member yet, because the
	// user must be disconnected at once.
	commandTimeout = time.Second
	endTimeout     = 5 * time.Second
	absentRetry    = 100 * time.Millisecond
	// maxCommands bounds the concurrent commands of one kind. There are many when a
	// node with many sessions no longer answers. Its sessions then move, and the
	// limit per kind keeps their OpMoved commands from delaying OpEnd commands to
	// other nodes.
	maxCommands = 2048
)

// commands holds the commands to nodes that are under way. No request waits for
// them.
type commands struct {
	cluster Cluster
	log     *slog.Logger
	done    func(op string, status CommandStatus)
	ctx     context.Context
	cancel  context.CancelFunc
	slots   map[string]chan struct{} // by operation

	mu     sync.Mutex // protects closed; no command starts after it is set
	closed bool
	wg     sync.WaitGroup

	missed missed
}

func newCommands(cfg Config, p *pace) commands {
	ctx, cancel := context.WithCancel(context.Background())
	return commands{
		cluster: cfg.Cluster, log: cfg.Logger, done: cfg.Hooks.Commanded,
		ctx: ctx, cancel: cancel, missed: missed{pace: p},
		slots: map[string]chan struct{}{
			proto.OpEnd: make(chan struct{}, maxCommands), proto.OpMoved: make(chan struct{}, maxCommands),
			proto.OpShed: make(chan struct{}, maxCommands),
		},
	}
}

// notify sends the command to the node, if it is a member, and does not wait for
// the result.
func (b *Broker) notify(id string, cmd proto.Command) {
	status := Absent
	_, there := b.find(id)
	if !there {
		b.commands.missed.add(id) // another broker may still know it as a member
	}
	if there || cmd.Op == proto.OpEnd {
		if b.commands.start(id, cmd, b.awaitMember) {
			return
		}
		status = TooMany
	}
	b.commands.note(id, cmd, status, nil)
}

// awaitMember waits until the node is a member. It returns false if ctx ends first.
func (b *Broker) awaitMember(ctx context.Context, id string) bool {
	for {
		if _, ok := b.find(id); ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(absentRetry):
		}
	}
}

// start runs the command in a goroutine. It returns false if the limit for its
// kind is reached or the broker is closed.
func (c *commands) start(id string, cmd proto.Command, awaitMember func(context.Context, string) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	slots := c.slots[cmd.Op]
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	c.wg.Go(func() {
		defer func() { <-slots }()
		timeout := commandTimeout
		if cmd.Op == proto.OpEnd {
			timeout = endTimeout
		}
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		if !awaitMember(ctx, id) {
			c.note(id, cmd, Absent, nil)
			return
		}
		result, err := c.cluster.Call(ctx, id, cmd)
		c.note(id, cmd, statusOf(result, err), err)
	})
	return true
}

func statusOf(r proto.CommandResult, err error) CommandStatus {
	switch {
	case err != nil:
		return Unanswered
	case r.Error != "":
		return Refused
	case !r.Found:
		return NotHeld
	}
	return CarriedOut
}

// note counts the status of a command. A failure is logged at debug level only:
// when a node has died there is one for each of its sessions, and the counter
// shows it better.
func (c *commands) note(id string, cmd proto.Command, status CommandStatus, err error) {
	c.done(cmd.Op, status)
	if cmd.Op == proto.OpEnd || cmd.Op == proto.OpMoved {
		switch status {
		case Absent, Unanswered, TooMany:
			c.missed.add(id)
		}
	}
	if status != CarriedOut {
		c.log.Debug("command not executed", "op", cmd.Op, "session", cmd.Session, "node", id, "status", string(status), "error", err)
	}
}

func (c *commands) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}
