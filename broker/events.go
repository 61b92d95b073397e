package broker

import (
	"context"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

// Update takes in that a member joined or changed what it says of itself. It,
// Leave and Report are events of the cluster.
func (b *Broker) Update(p proto.Peer) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Role.Places() {
		b.placers[p.ID] = true
		b.table.SetBrokers(len(b.placers))
	}
	if p.Role != proto.RoleNode {
		return
	}
	b.table.Update(now, p)
	n := b.nodes[p.ID]
	if n == nil {
		n = &node{heard: now}
		b.nodes[p.ID] = n
	}
	n.update(now, p)
}

// Leave takes in that a member left or died.
func (b *Broker) Leave(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.placers[id] && id != b.cfg.Issuer {
		delete(b.placers, id)
		b.table.SetBrokers(len(b.placers))
	}
	b.table.Remove(id)
	delete(b.nodes, id)
}

// Report takes in a node's exact load.
func (b *Broker) Report(r proto.Report) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.Report(now, r)
	if n := b.nodes[r.ID]; n != nil && n.report(now, r) {
		b.clear(n, now)
	}
}

// tick is how often the placement is told the time.
const tick = 100 * time.Millisecond

// Run keeps the placement up to date with the time, and the nodes even if that
// is wanted, until ctx ends, and returns why it did.
func (b *Broker) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		b.mu.Lock()
		b.table.Tick(b.cfg.Now())
		b.mu.Unlock()
		b.fence()
		b.watch()
		b.weighDoubts()
		if b.cfg.Rebalance && n%shedTicks == 0 {
			b.rebalance()
		}
	}
}

// shedTicks is how many ticks there are between two orders to shed.
const shedTicks = int(time.Second / tick)

// rebalance has the nodes that hold too many sessions ask some to leave.
func (b *Broker) rebalance() {
	b.mu.Lock()
	list := b.table.Overloaded(b.cfg.Now(), placement.Overload{})
	b.mu.Unlock()
	for _, shed := range list {
		b.tell(shed.Node, proto.Command{Op: proto.OpShed, Target: shed.Target})
	}
}
