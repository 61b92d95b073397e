package nodes

import (
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Node is what the broker knows of one start of a node. Only its Table changes it;
// the lock of the Table also protects the methods of Node. A restart of the node is
// another Node.
type Node struct {
	table *Table

	// The newest load of the node, from a report or from gossip.
	state      proto.NodeState
	capacity   uint32
	live       uint32
	reportedAt time.Duration // time of the last report, or of the start

	suspended time.Duration // end of the suspension
	penalty   int           // load penalty in percent, from reports and clients; see setPenalty
	probe     probe
	pending   pending
	outcomes  Outcomes
	clients   clientReports

	peer     proto.Peer
	report   proto.Report
	reported bool          // report is of this start
	since    time.Duration // when this start of the node was first seen
	ended    []uint64      // the generations before; their late messages are ignored
	hash     uint64        // of its id
}

// Outcomes counts what became of the sessions that this broker sent to a start of a
// node. Sent is the sum of Arrived, Missed and the sessions that are pending.
type Outcomes struct {
	Sent    uint64
	Arrived uint64 // the node counted their arrival in time
	Missed  uint64 // they did not arrive within 8 s
	// Failed counts the reports of clients that they could not reach the node. A client
	// may report more than once, and also after its session has arrived.
	Failed uint64
}

func newNode(t *Table, p proto.Peer) *Node {
	n := &Node{table: t, peer: p, hash: HashOf(p.ID), since: t.now, pending: newPending(t.now)}
	n.setLoad(t.now, p.State, p.Capacity, p.Live)
	return n
}

// endedKept bounds the generations that are remembered. Late messages are at most
// some seconds late.
const endedKept = 8

// restarted returns the next start of the node: nothing of the old one remains
// valid, except the reachability of an address, which does not depend on the process
// there.
func (n *Node) restarted(p proto.Peer) *Node {
	next := newNode(n.table, p)
	next.ended = append(slices.Clone(n.ended[max(0, len(n.ended)+1-endedKept):]), n.peer.Generation)
	if p.URL == n.peer.URL {
		next.probe, next.clients = n.probe, n.clients
		next.setPenalty()
	}
	return next
}

// isLate reports whether a message of the generation is of an earlier start. A start
// is recognised by its number, whether higher or lower: generations are times, and
// clocks go back.
func (n *Node) isLate(generation uint64) bool { return slices.Contains(n.ended, generation) }

func (n *Node) setLoad(at time.Duration, state proto.NodeState, capacity, live uint32) {
	n.state, n.capacity, n.live, n.reportedAt = state, capacity, live, at
}

// advance removes the pending sessions that have expired.
func (n *Node) advance() {
	if expired := n.pending.advance(n.table.now); expired > 0 {
		n.outcomes.Missed += expired
	}
}

// ID returns the id of the node.
func (n *Node) ID() string { return n.peer.ID }

// URL returns the address that clients attach to.
func (n *Node) URL() string { return n.peer.URL }

// Pool returns the pool of the node, which is never "".
func (n *Node) Pool() string { return n.peer.Pool }

// Region returns the region of the node, or "".
func (n *Node) Region() string { return n.peer.Region }

// Hash returns a hash of the node's id, which is the same for every broker.
func (n *Node) Hash() uint64 { return n.hash }

// State returns the state of the node by its last report, or by gossip.
func (n *Node) State() proto.NodeState { return n.state }

// Capacity returns how many sessions the node may hold.
func (n *Node) Capacity() uint32 { return n.capacity }

// Live returns how many sessions the node holds, as it said last.
func (n *Node) Live() uint32 { return n.live }

// Load returns how many sessions the node is estimated to hold, with those under
// way. Each pending session of this broker stands for 1/share sessions, which
// includes those of the other brokers.
func (n *Node) Load() float64 { return float64(n.live) + float64(n.pending.sum)*n.table.perOwn }

// Weight returns the part of the node's capacity that can be used now: at a load
// penalty of 100 % it is a hundredth.
func (n *Node) Weight() float64 {
	return float64(n.capacity) * max(1-float64(n.penalty)/100, 0.01)
}

// setPenalty sets the load penalty to the one that the node reports, or the one from
// client reports, whichever is higher. It returns whether it has changed.
func (n *Node) setPenalty() bool {
	before := n.penalty
	n.penalty = max(int(min(n.report.LoadPenalty, 100)), n.clients.penalty)
	return n.penalty != before
}

// Up returns the time since this start of the node was first seen.
func (n *Node) Up() time.Duration { return n.table.now - n.since }

// Reported reports whether a report of this start of the node has come.
func (n *Node) Reported() bool { return n.reported }

// Alive reports whether the node is alive as far as is known: it has reported
// recently, and no probe that followed a client's report has failed since.
func (n *Node) Alive() bool { return !n.silent() && n.table.now >= n.suspended }

// Accepts reports whether a session may be sent to the node because the sessions of
// its group are there. Capacity does not count: the node itself refuses what it
// cannot take.
func (n *Node) Accepts() bool {
	return n.state == proto.StateReady && n.Alive() && (!n.table.cfg.Probes.enabled() || n.probe.reach == Reached)
}

func (n *Node) silent() bool { return n.table.now-n.reportedAt >= n.table.cfg.ReportAge }

// ReportID identifies a report. It differs between two reports of one node.
type ReportID struct{ Generation, Seq uint64 }

// LastReport identifies the last report of the node.
func (n *Node) LastReport() ReportID { return ReportID{n.peer.Generation, n.report.Seq} }

// HashOf is FNV-1a with a final mix. It must be the same in every process and
// version; otherwise brokers would send a key to different nodes.
func HashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return Mix(h)
}

// Mix is the finalizer of SplitMix64.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
