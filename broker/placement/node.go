package placement

import (
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// node is what a broker knows of a node. Times are durations since the start of
// the Table.
type node struct {
	peer     proto.Peer
	report   proto.Report
	reported bool // report is of this generation

	// The newest load of the node, from a report or from gossip.
	state      proto.NodeState
	capacity   uint32
	live       uint32
	reportedAt time.Duration // time of the last report, or of the start

	since     time.Duration // when this start of the node was first seen
	previous  *uint64       // the generation before; its late messages are ignored
	suspended time.Duration // end of the suspension
	pending   pending

	reach         Reach
	unreached     string  // error of the last failed probe
	clientPenalty int     // load penalty from client reports, in percent
	hash          uint64  // of its id
	slot          float64 // for the policy; see Candidates.Slot

	tokens    float64 // boosted picks that are left now
	shedding  bool    // returned by Overloaded until it is down to its target
	underfull [2]bool // in its pool and in its region
}

// restart resets the node for a new start: nothing of the old one remains valid.
func (n *node) restart(at time.Duration, p proto.Peer) {
	fresh := node{peer: p, previous: n.previous, hash: n.hash, since: at, pending: pending{head: int64(at / bucketWidth)}}
	if p.URL == n.peer.URL { // the reachability of an address does not depend on the process there
		fresh.reach, fresh.unreached, fresh.clientPenalty = n.reach, n.unreached, n.clientPenalty
	}
	*n = fresh
	n.setLoad(at, p.State, p.Capacity, p.Live)
}

func (n *node) setLoad(at time.Duration, state proto.NodeState, capacity, live uint32) {
	n.state, n.capacity, n.live, n.reportedAt = state, capacity, live, at
}

// supersedes checks the generation of a message. yes means that the node has
// restarted, and records that; late means that the message is of the start
// before.
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

// estimate returns how many sessions the node holds or will hold. Each pending
// session of this broker counts as perOwn sessions, which includes those of the
// other brokers.
func (n *node) estimate(perOwn float64) float64 {
	return float64(n.live) + float64(n.pending.sum)*perOwn
}

// penalty returns the load penalty: the one that the node reports, or the one
// from client reports, whichever is higher.
func (n *node) penalty() int { return max(int(min(n.report.LoadPenalty, 100)), n.clientPenalty) }

// weight returns the part of the node's capacity that can be used now.
func (n *node) weight() float64 {
	return float64(n.capacity) * max(1-float64(n.penalty())/100, 0.01)
}

// A level says which condition a node fails. If no node is eligible, Pick ignores
// the conditions before full one after another, in this order, rather than refuse
// a session.
type level uint8

const (
	eligible      level = iota
	overloaded          // it reports a load penalty of 100 %
	silent              // its last report is too old
	suspended           // it failed a probe recently
	estimatedFull       // full by the estimate, not by what is known for certain
	unreachable         // probes fail; earlier ones succeeded
	full                // known to be full
	notReady            // it takes no sessions, or no probe has succeeded yet
)

// level returns the node's level. The caller has advanced pending to at.
func (t *Table) level(n *node, at time.Duration) level {
	switch {
	case n.state == proto.StateFull:
		return full
	case n.state != proto.StateReady, t.cfg.Probed && (n.reach == Untried || n.reach == NeverReached):
		return notReady
	case uint64(n.live)+uint64(n.pending.sum) >= uint64(n.capacity):
		return full
	case t.cfg.Probed && n.reach == Unreachable:
		return unreachable
	case n.estimate(t.perOwn)+1 > float64(n.capacity):
		return estimatedFull
	case at < n.suspended:
		return suspended
	case at-n.reportedAt >= t.cfg.ReportAge:
		return silent
	case n.penalty() >= 100:
		return overloaded
	}
	return eligible
}

func (t *Table) why(n *node, at time.Duration) string {
	switch t.level(n, at) {
	case silent:
		return fmt.Sprintf("no report for %v", (at - n.reportedAt).Truncate(100*time.Millisecond))
	case suspended:
		return fmt.Sprintf("suspended after a failed probe for another %v", (n.suspended - at).Truncate(100*time.Millisecond))
	case estimatedFull:
		return fmt.Sprintf("full, including the sessions under way: about %.0f of %d", n.estimate(t.perOwn), n.capacity)
	case full:
		return fmt.Sprintf("full: %d of %d, %d under way", n.live, n.capacity, n.pending.sum)
	case overloaded:
		return "it reports a load penalty of 100 %"
	case unreachable:
		return "clients cannot connect: " + n.unreached
	case notReady:
		switch {
		case n.state != proto.StateReady:
			return n.state.String()
		case n.reach == NeverReached:
			return "clients cannot connect: " + n.unreached
		}
		return "its address was not probed yet"
	}
	return ""
}
