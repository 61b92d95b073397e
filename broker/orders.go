package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// orderTimeout bounds how long a command is tried. A node that it does not
	// reach learns the same when it next renews its sessions. That a session is
	// over is tried longer, and also at a node that is not a member yet: its user
	// is to be out at once.
	orderTimeout = time.Second
	endTimeout   = 5 * time.Second
	absentRetry  = 100 * time.Millisecond
	// maxOrders bounds the commands of one kind under way. They are many when a
	// node with many sessions no longer answers; then its sessions move, and
	// those that are to end elsewhere do not wait behind them.
	maxOrders = 2048
)

// orders are the commands to nodes that are under way. Nobody who asks where
// to go waits for them.
type orders struct {
	cluster Cluster
	log     *slog.Logger
	done    func(op string, status CommandStatus)
	ctx     context.Context
	cancel  context.CancelFunc
	slots   map[string]chan struct{} // by operation

	mu     sync.Mutex // guards closed, and that none starts once it is set
	closed bool
	wg     sync.WaitGroup

	missed missed
}

func newOrders(cfg Config) orders {
	ctx, cancel := context.WithCancel(context.Background())
	return orders{
		cluster: cfg.Cluster, log: cfg.Logger, done: cfg.Hooks.Commanded,
		ctx: ctx, cancel: cancel,
		slots: map[string]chan struct{}{
			proto.OpEnd: make(chan struct{}, maxOrders), proto.OpMoved: make(chan struct{}, maxOrders),
			proto.OpShed: make(chan struct{}, maxOrders),
		},
	}
}

// tell has the node carry the command out, if it is a member, and does not wait
// until it has.
func (b *Broker) tell(id string, cmd proto.Command) {
	status := Absent
	_, there := b.find(id)
	if !there {
		b.orders.missed.add(id) // it may be somebody else's member
	}
	if there || cmd.Op == proto.OpEnd {
		if b.orders.start(id, cmd, b.await) {
			return
		}
		status = TooMany
	}
	b.orders.note(id, cmd, status, nil)
}

// await waits until the node is a member.
func (b *Broker) await(ctx context.Context, id string) bool {
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

// start reports whether there was room for the command.
func (o *orders) start(id string, cmd proto.Command, await func(context.Context, string) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	slots := o.slots[cmd.Op]
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	o.wg.Go(func() {
		defer func() { <-slots }()
		timeout := orderTimeout
		if cmd.Op == proto.OpEnd {
			timeout = endTimeout
		}
		ctx, cancel := context.WithTimeout(o.ctx, timeout)
		defer cancel()
		if !await(ctx, id) {
			o.note(id, cmd, Absent, nil)
			return
		}
		result, err := o.cluster.Call(ctx, id, cmd)
		o.note(id, cmd, statusOf(result, err), err)
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

// note logs what is no success at debug level: when a node has died there is
// one for each of its sessions, and the count says it better.
func (o *orders) note(id string, cmd proto.Command, status CommandStatus, err error) {
	o.done(cmd.Op, status)
	if cmd.Op == proto.OpEnd || cmd.Op == proto.OpMoved {
		switch status {
		case Absent, Unanswered, TooMany:
			o.missed.add(id)
		}
	}
	if status != CarriedOut {
		o.log.Debug("command not carried out", "op", cmd.Op, "session", cmd.Session, "node", id, "status", string(status), "error", err)
	}
}

func (o *orders) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.wg.Wait()
}
