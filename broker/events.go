package broker

import (
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
		b.nodes.SetBrokers(len(b.placers))
	}
	b.nodes.Update(now, p)
	if p.Role == proto.RoleNode {
		b.pace.stir()
	}
}

// Leave handles the event that a member left or died.
func (b *Broker) Leave(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.placers[id] && id != b.cfg.Issuer {
		delete(b.placers, id)
		b.nodes.SetBrokers(len(b.placers))
	}
	b.nodes.Remove(id)
}

// Report handles a node's report of its load.
func (b *Broker) Report(r proto.Report) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes.Report(now, r)
}

// rebalance makes the nodes that hold more than their fair share shed sessions.
func (b *Broker) rebalance() {
	b.mu.Lock()
	list := b.picker.Overloaded(b.cfg.Now(), placement.Overload{})
	b.mu.Unlock()
	for _, shed := range list {
		b.notify(shed.Node, proto.Command{Op: proto.OpShed, Target: shed.Target})
	}
}
