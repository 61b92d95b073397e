package broker

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// node is what the broker itself knows of a node: its address, and whether a
// session may stay there. The placement table knows its load.
type node struct {
	peer       proto.Peer
	state      proto.NodeState // from the node's last report, or from gossip
	reportedAt time.Time       // time of its last report, or when it was first seen
	seq        uint64          // number of its last report
	live       uint32          // sessions it holds, roughly

	suspended time.Time // end of the suspension after a failed probe

	reach         reachability
	clientReports clientReports
}

// reportAge is how long the last report of a node is valid.
const reportAge = 3500 * time.Millisecond

// update applies the node's gossip metadata.
func (n *node) update(now time.Time, p proto.Peer) {
	if p.Generation != n.peer.Generation {
		*n = node{reportedAt: now, reach: n.reach, clientReports: n.clientReports}
	}
	if p.URL != n.reach.url {
		n.reach = reachability{url: p.URL}
	}
	n.peer = p
	if n.seq == 0 {
		n.live = p.Live
	}
	// Gossip is slower than reports. Its state counts if there is no recent
	// report, and for a drain, which gossip announces at once.
	if n.seq == 0 || now.Sub(n.reportedAt) >= reportAge || p.State == proto.StateDraining {
		n.state = p.State
	}
}

// report applies a report. It returns false for one that is old or of another
// start of the node.
func (n *node) report(now time.Time, r proto.Report) bool {
	if r.Generation != n.peer.Generation || r.Seq <= n.seq {
		return false
	}
	n.state, n.seq, n.reportedAt, n.live = r.State, r.Seq, now, r.Live
	return true
}

func (n *node) target() target { return target{id: n.peer.ID, url: n.peer.URL} }

// find returns the node with the id, if it is a member.
func (b *Broker) find(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil {
		return target{}, false
	}
	return n.target(), true
}

// alive reports whether a node is a member and, as far as is known, alive.
func (b *Broker) alive(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, now := b.nodes[id], b.cfg.Now()
	return n != nil && now.Sub(n.reportedAt) < reportAge && !n.suspended.After(now)
}

// accepting returns a node if sessions may be assigned to it.
func (b *Broker) accepting(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	now := b.cfg.Now()
	if n == nil || n.state != proto.StateReady || now.Sub(n.reportedAt) >= reportAge || n.suspended.After(now) || b.unreachable(n) {
		return target{}, false
	}
	return n.target(), true
}

// judge decides whether a session stays at its node, and otherwise returns why
// not. The target is the node as long as it is a member.
func (b *Broker) judge(r session.Record, unreachable string) (target, Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[r.Node]
	switch {
	case n == nil:
		return target{}, Gone
	case r.Node == unreachable:
		return n.target(), Unreachable
	case n.state == proto.StateDraining:
		return n.target(), Draining
	case n.state == proto.StateFull && r.State == session.Assigned:
		// A full node accepts a session that has attached there before, and has
		// its stream.
		return n.target(), Full
	case r.Leaving:
		return n.target(), Rebalance
	}
	return n.target(), Stayed
}
