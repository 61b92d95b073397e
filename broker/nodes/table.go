// Package nodes holds what a broker knows of the nodes, in one table: the
// metadata from gossip, the last report, the results of probes, what clients say,
// the outcomes of the sessions that this broker sent, and the verdict that follows
// from all of it.
//
// It is pure: it opens no sockets, reads no clock and starts no goroutines, so that
// the simulation runs the same code as production.
package nodes

import (
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Config configures a Table. The zero value of a field means its default.
type Config struct {
	// Probes configures the periodic probes. Without an Interval every node counts
	// as reachable; otherwise a node gets no sessions before it was reached.
	Probes Probes
	// ReportAge is how long the last report of a node is valid. Default 3.5 s:
	// three reports in a row were lost.
	ReportAge time.Duration
	// ShareMemory is the time constant of the moving average over the arrivals
	// that estimates this broker's share of them. Default 10 s.
	ShareMemory time.Duration
}

func (c Config) withDefaults() Config {
	if c.ReportAge <= 0 {
		c.ReportAge = 3500 * time.Millisecond
	}
	if c.ShareMemory <= 0 {
		c.ShareMemory = 10 * time.Second
	}
	c.Probes = c.Probes.withDefaults()
	return c
}

// Table holds what a broker knows of the nodes. A node's load is what it last
// reported plus the sessions under way to it: those of this broker count until they
// arrive or expire, and those of the other brokers are estimated from this broker's
// share of all arrivals.
//
// A Table is not safe for concurrent use: its owner holds a lock. Times passed to
// its methods must not run backwards by much. They are compared with one another
// only, not with a clock. A Node answers for the time that was last passed.
type Table struct {
	cfg   Config
	start time.Time
	now   time.Duration // since start, as are all times in the table

	byID    map[string]*Node
	sorted  []*Node                 // by id, so that equal histories give equal picks
	left    map[string]proto.Report // last report of nodes that have left, by id
	changes uint64

	share  share
	perOwn float64 // 1/share, as of the last tick
	ticked time.Duration
}

// New returns a table without nodes. It counts this broker as the only one until
// SetBrokers is called.
func New(cfg Config, now time.Time) *Table {
	return &Table{cfg: cfg.withDefaults(), start: now, byID: map[string]*Node{}, left: map[string]proto.Report{}, share: share{brokers: 1}, perOwn: 1}
}

// SetTime sets the time for which the nodes answer.
func (t *Table) SetTime(now time.Time) { t.now = now.Sub(t.start) }

// Update applies the metadata that gossip brings when a member joins or changes
// it. It ignores members that are not nodes. The coarse load of a new node counts
// like a report for as long as a report would. Otherwise a broker that has just
// started would send all sessions to the first node that reports.
func (t *Table) Update(now time.Time, p proto.Peer) {
	if p.Role != proto.RoleNode {
		return
	}
	if p.Pool == "" {
		p.Pool = proto.DefaultPool
	}
	t.SetTime(now)
	n := t.byID[p.ID]
	switch {
	case n == nil:
		t.put(newNode(t, p))
		return
	case n.isLate(p.Generation):
		return
	case p.Generation != n.peer.Generation:
		t.put(n.restarted(p))
		return
	}
	if p.Pool != n.peer.Pool || p.Region != n.peer.Region || p.State != n.peer.State {
		t.changes++
	}
	if p.URL != n.peer.URL { // what is known of the old address says nothing of the new one
		n.probe, n.clients = probe{}, clientReports{}
		n.setPenalty()
		t.changes++
	}
	n.peer = p
	switch {
	case !n.reported || n.silent():
		// Without a recent report, gossip has the best known load. Only a report
		// shows that the node is alive, so the time of the last report stays.
		n.setLoad(n.reportedAt, p.State, p.Capacity, p.Live)
	case p.State == proto.StateDraining: // gossip announces a drain at once
		n.state = p.State
	}
}

// leftKept bounds the reports of nodes that have left.
const leftKept = 1024

// Remove removes a node that left or died.
func (t *Table) Remove(id string) {
	n := t.byID[id]
	if n == nil {
		return
	}
	if len(t.left) >= leftKept {
		clear(t.left)
	}
	t.left[id] = n.report
	delete(t.byID, id)
	t.sorted = slices.DeleteFunc(t.sorted, func(o *Node) bool { return o == n })
	t.changes++
}

// put adds a node, or replaces it by its next start.
func (t *Table) put(n *Node) {
	t.byID[n.peer.ID] = n
	i, found := slices.BinarySearchFunc(t.sorted, n.peer.ID, func(n *Node, id string) int { return strings.Compare(n.peer.ID, id) })
	if found {
		t.sorted[i] = n
	} else {
		t.sorted = slices.Insert(t.sorted, i, n)
	}
	t.changes++
}

// Report applies a node's report of its load, which ends a suspension. It ignores a
// report of an unknown node, one that is not newer than the last, and one of an
// earlier start of the node.
func (t *Table) Report(now time.Time, r proto.Report) {
	t.SetTime(now)
	n := t.byID[r.ID]
	if n == nil || n.isLate(r.Generation) {
		return
	}
	// A node counts arrivals from 0 after each start. What it counted before the
	// first report that this broker receives says nothing of the shares. Of this
	// broker's sessions it has counted those that were sent since the broker started, or
	// since the node left and came back.
	var mine, all uint64
	arrived := r.Arrived
	if before := t.left[r.ID]; before.Generation == r.Generation {
		arrived = growth(before.Arrived, r.Arrived)
	}
	delete(t.left, r.ID)
	switch {
	case r.Generation != n.peer.Generation: // the report is faster than gossip
		p := n.peer
		p.Generation = r.Generation
		n = n.restarted(p)
		t.put(n)
		mine, all = r.Arrived, r.ArrivedAll
	case n.reported && r.Seq <= n.report.Seq:
		return
	case n.reported:
		mine, all = growth(n.report.Arrived, r.Arrived), growth(n.report.ArrivedAll, r.ArrivedAll)
		arrived = mine
	}
	t.share.arrived(mine, all)
	n.advance()
	n.outcomes.Arrived += n.pending.remove(arrived)
	first, before := !n.reported, n.state
	n.report, n.reported = r, true
	n.setLoad(t.now, r.State, r.Capacity, r.Live)
	if n.setPenalty() || first || r.State != before || n.suspended > t.now {
		t.changes++
	}
	n.suspended = min(n.suspended, t.now)
}

func growth(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// Tick updates what changes with time alone. The caller should call it every 100
// ms while it picks nodes, and each second otherwise. It takes time proportional to the number of nodes. It returns the time since
// the last Tick, at most 1 s.
func (t *Table) Tick(now time.Time) time.Duration {
	t.SetTime(now)
	dt := min(max(t.now-t.ticked, 0), time.Second)
	t.ticked = t.now
	t.share.decay(dt, t.cfg.ShareMemory)
	t.perOwn = 1 / t.share.value()
	for _, n := range t.sorted {
		if n.clients.until == nil {
			continue
		}
		n.clients.expire(t.now, n.live)
		if n.setPenalty() {
			t.changes++
		}
	}
	return dt
}

// SetBrokers sets how many members place sessions, this one included.
func (t *Table) SetBrokers(n int) {
	t.share.brokers = n
	t.perOwn = 1 / t.share.value()
}

// Share returns this broker's part of all arrivals, in (0, 1], as of the last Tick.
func (t *Table) Share() float64 { return 1 / t.perOwn }

// Sent counts one session as sent to the node and pending there.
func (t *Table) Sent(n *Node) {
	n.advance()
	n.pending.add()
	n.outcomes.Sent++
}

// Cancel takes back one call of Sent, for a session that was not sent after all. It does
// nothing for a node that has left or restarted since, or for nil.
func (t *Table) Cancel(now time.Time, n *Node) {
	t.SetTime(now)
	if n != nil && t.byID[n.peer.ID] == n {
		n.advance()
		n.outcomes.Sent -= n.pending.remove(1)
	}
}

// Find returns the node with the id, or nil.
func (t *Table) Find(id string) *Node { return t.byID[id] }

// All returns the nodes by id. The caller must not change the list, which is valid
// until the next Update, Remove or Report.
func (t *Table) All() []*Node { return t.sorted }

// Changes returns a number that rises when a node has joined, left or restarted, or
// may have become eligible or not for another reason than time and load.
func (t *Table) Changes() uint64 { return t.changes }

// Views returns what is known of every node, by id.
func (t *Table) Views(now time.Time) []View {
	t.SetTime(now)
	views := make([]View, len(t.sorted))
	for i, n := range t.sorted {
		views[i] = n.View()
	}
	return views
}
