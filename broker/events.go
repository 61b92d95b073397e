package broker

import (
	"context"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

// Update handles the event that a member joined or changed its metadata. Update,
// Leave and Report receive the events of the cluster.
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
		n = &node{reportedAt: now}
		b.nodes[p.ID] = n
	}
	n.update(now, p)
}

// Leave handles the event that a member left or died.
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

// Report handles a node's report of its load.
func (b *Broker) Report(r proto.Report) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.Report(now, r)
	if n := b.nodes[r.ID]; n != nil && n.report(now, r) {
		b.clear(n, now)
	}
}

// tick is how often the placement table is updated with the time.
const tick = 100 * time.Millisecond

// Run updates the placement table with the time, probes the nodes and, with
// Config.Rebalance, balances them, until ctx ends. It returns the cause of that.
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
		b.fenceMissed()
		b.probeDue()
		b.applyClientReports()
		if b.cfg.Rebalance && n%shedTicks == 0 {
			b.rebalance()
		}
	}
}

// shedTicks is the number of ticks between two rounds of OpShed commands.
const shedTicks = int(time.Second / tick)

// rebalance makes the nodes that hold more than their fair share shed sessions.
func (b *Broker) rebalance() {
	b.mu.Lock()
	list := b.table.Overloaded(b.cfg.Now(), placement.Overload{})
	b.mu.Unlock()
	for _, shed := range list {
		b.notify(shed.Node, proto.Command{Op: proto.OpShed, Target: shed.Target})
	}
}
