package placement

import (
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// node is what a broker knows of a node. Times are since the policy's start.
type node struct {
	peer     proto.Peer
	report   proto.Report
	reported bool // report is one of this generation

	// What the newest word of the node says, gossip's or its own.
	state    proto.NodeState
	capacity uint32
	live     uint32
	heard    time.Duration // when it was said

	since     time.Duration // when this start of the node was first seen
	previous  *uint64       // generation before, whose late messages are passed over
	suspended time.Duration // until when
	pending   pending

	reach     Reach
	unreached string // why reach is Unreachable, or not Reached yet
	doubt     int    // percent by which others would have it get fewer
	hash      uint64 // of its id
	slot      float64

	tokens    float64 // boosted picks it may be given now
	shedding  bool    // named by Overloaded, until it is down to its target
	underfull [2]bool // whether it is underfull in its pool and in its region
}

// began makes the node a new start of itself: nothing of the one before holds.
func (n *node) began(at time.Duration, p proto.Peer) {
	fresh := node{peer: p, previous: n.previous, hash: n.hash, since: at, pending: pending{head: int64(at / bucketWidth)}}
	if p.URL == n.peer.URL { // whether an address can be reached does not depend on who is there
		fresh.reach, fresh.unreached, fresh.doubt = n.reach, n.unreached, n.doubt
	}
	*n = fresh
	n.told(at, p.State, p.Capacity, p.Live)
}

func (n *node) told(at time.Duration, state proto.NodeState, capacity, live uint32) {
	n.state, n.capacity, n.live, n.heard = state, capacity, live, at
}

// supersedes notes whether a message of the generation is news of another
// start of the node; late is one of the start before.
func (n *node) supersedes(generation uint64) (yes, late bool) {
	switch {
	case generation == n.peer.Generation:
		return false, false
	case n.previous != nil && generation == *n.previous:
		return false, true
	}
	old := n.peer.Generation
	n.previous = &old
	return true, false
}

// estimate is how many sessions the node holds or will, when each session of
// this broker under way stands for perOwn of everybody's.
func (n *node) estimate(perOwn float64) float64 {
	return float64(n.live) + float64(n.pending.sum)*perOwn
}

// strain is the percentage by which the node is to get fewer than its capacity
// would have it: its own word, or that of its clients.
func (n *node) penalty() int { return max(int(min(n.report.LoadPenalty, 100)), n.doubt) }

// weight is the node's capacity as far as it can be used now.
func (n *node) weight() float64 {
	return float64(n.capacity) * max(1-float64(n.penalty())/100, 0.01)
}

// A level says how much must be overlooked to send a session to a node. Those
// before levelFull are given up one after another, when there is no node
// without, rather than refuse a session.
type level uint8

const (
	eligible    level = iota
	strained          // it says that it can take no more
	silent            // its load was told too long ago
	suspended         // it failed lately
	crowded           // the estimate says full; what is known for certain does not
	unreachable       // clients cannot get in, as far as can be seen from here; they could before
	full              // known to be full
	notReady          // it takes no sessions, or was never seen to let anybody in
)

// level must be called with pending advanced to at.
func (t *Table) level(n *node, at time.Duration) level {
	switch {
	case n.state == proto.StateFull:
		return full
	case n.state != proto.StateReady, t.cfg.Probed && (n.reach == Unproven || n.reach == Shut):
		return notReady
	case uint64(n.live)+uint64(n.pending.sum) >= uint64(n.capacity):
		return full
	case t.cfg.Probed && n.reach == Unreachable:
		return unreachable
	case n.estimate(t.perOwn)+1 > float64(n.capacity):
		return crowded
	case at < n.suspended:
		return suspended
	case at-n.heard >= t.cfg.ReportAge:
		return silent
	case n.penalty() >= 100:
		return strained
	}
	return eligible
}

func (t *Table) why(n *node, at time.Duration) string {
	switch t.level(n, at) {
	case silent:
		return fmt.Sprintf("no report for %v", (at - n.heard).Truncate(100*time.Millisecond))
	case suspended:
		return fmt.Sprintf("suspended after failures for another %v", (n.suspended - at).Truncate(100*time.Millisecond))
	case crowded:
		return fmt.Sprintf("full, counting the sessions under way: about %.0f of %d", n.estimate(t.perOwn), n.capacity)
	case full:
		return fmt.Sprintf("full: %d of %d, %d under way", n.live, n.capacity, n.pending.sum)
	case strained:
		return "says that it can take no more"
	case unreachable:
		return "no client can get in: " + n.unreached
	case notReady:
		switch {
		case n.state != proto.StateReady:
			return n.state.String()
		case n.reach == Shut:
			return "no client can get in: " + n.unreached
		}
		return "its address was not tried yet"
	}
	return ""
}
