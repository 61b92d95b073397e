package broker

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// node is what the broker itself needs to know of a node: where it is, and
// whether a session may stay there. How full it is, the placement knows.
type node struct {
	peer  proto.Peer
	state proto.NodeState // as the node last said, by report or by gossip
	heard time.Time       // when it last reported, or was first seen
	seq   uint64          // of its last report
	live  uint32          // sessions it holds, roughly

	suspended time.Time // until when, after it failed a probe

	door   doorState
	doubts doubts
}

// reportAge is how long a node is believed to be as it last reported.
const reportAge = 3500 * time.Millisecond

// update takes in what gossip says.
func (n *node) update(now time.Time, p proto.Peer) {
	if p.Generation != n.peer.Generation {
		*n = node{heard: now, door: n.door, doubts: n.doubts}
	}
	if p.URL != n.door.url {
		n.door = doorState{url: p.URL}
	}
	n.peer = p
	if n.seq == 0 {
		n.live = p.Live
	}
	// Gossip is slower than reports: it counts when there are none, and for a
	// drain, which is announced by it at once.
	if n.seq == 0 || now.Sub(n.heard) >= reportAge || p.State == proto.StateDraining {
		n.state = p.State
	}
}

// report takes in a report and says whether it is news.
func (n *node) report(now time.Time, r proto.Report) bool {
	if r.Generation != n.peer.Generation || r.Seq <= n.seq {
		return false
	}
	n.state, n.seq, n.heard, n.live = r.State, r.Seq, now, r.Live
	return true
}

func (n *node) target() target { return target{id: n.peer.ID, url: n.peer.URL} }

// find returns a node that is a member.
func (b *Broker) find(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil {
		return target{}, false
	}
	return n.target(), true
}

// answers reports whether a node is a member and, as far as is known, alive.
func (b *Broker) answers(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, now := b.nodes[id], b.cfg.Now()
	return n != nil && now.Sub(n.heard) < reportAge && !n.suspended.After(now)
}

// takes returns a node if it may be given sessions.
func (b *Broker) takes(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	now := b.cfg.Now()
	if n == nil || n.state != proto.StateReady || now.Sub(n.heard) >= reportAge || n.suspended.After(now) || b.shut(n) {
		return target{}, false
	}
	return n.target(), true
}

// judge says whether a session stays at its node, and otherwise why not. The
// node comes back as long as it is there.
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
		// One that has been there is let in again, and its stream is there.
		return n.target(), Full
	case r.Leaving:
		return n.target(), Rebalance
	}
	return n.target(), Stayed
}
