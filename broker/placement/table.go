package placement

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Table is what a broker knows of the nodes, and chooses among them by a policy.
// A node's load is what it last reported and what is on its way there.
//
// What this broker has sent is known until it lands or has expired; what the
// others have sent is estimated by it, from this broker's share of all
// landings.
//
// A Table is not safe for concurrent use: its owner holds a lock. Times passed
// to its methods must not run backwards by much; they are compared with one
// another and never with a clock.
type Table struct {
	cfg   Config
	rng   *rand.Rand
	start time.Time

	nodes  map[string]*node
	sorted []*node // by id, so that equal histories give equal picks

	share  share
	perOwn float64 // 1/share, as of the last tick
	ticked time.Duration

	pools   map[string]*group
	regions map[regionKey]*group
	stale   bool // groups do not show the nodes as they are

	policies map[string]Policy // by pool
	among    Candidates        // of the pick under way; here so that it costs no allocation
}

// NewTable returns a table that knows no node yet. It is that of the only broker
// until SetBrokers says otherwise.
func NewTable(cfg Config, rng *rand.Rand, now time.Time) *Table {
	return &Table{
		cfg: cfg.withDefaults(), rng: rng, start: now,
		nodes: map[string]*node{},
		share: share{brokers: 1}, perOwn: 1,
		pools: map[string]*group{}, regions: map[regionKey]*group{},
		policies: map[string]Policy{},
	}
}

func (t *Table) at(now time.Time) time.Duration { return now.Sub(t.start) }

// Update takes in what gossip says of a member: it joined, or its metadata
// changed. Members that are no nodes are passed over. The coarse load of a node
// first seen serves in place of a report for as long as a report would, so that
// a broker that has just started does not send everybody to the first node that
// reports.
func (t *Table) Update(now time.Time, p proto.Peer) {
	if p.Role != proto.RoleNode {
		return
	}
	if p.Pool == "" {
		p.Pool = proto.DefaultPool
	}
	at := t.at(now)
	n := t.nodes[p.ID]
	if n == nil {
		n = &node{hash: hashOf(p.ID)}
		n.began(at, p)
		t.nodes[p.ID] = n
		i, _ := slices.BinarySearchFunc(t.sorted, p.ID, func(n *node, id string) int { return strings.Compare(n.peer.ID, id) })
		t.sorted = slices.Insert(t.sorted, i, n)
		t.stale = true
		return
	}
	again, late := n.supersedes(p.Generation)
	switch {
	case late:
		return
	case again:
		n.began(at, p)
		t.stale = true
		return
	}
	t.stale = t.stale || p.Pool != n.peer.Pool || p.Region != n.peer.Region || p.State != n.peer.State
	n.peer = p
	switch {
	case !n.reported || at-n.heard >= t.cfg.ReportAge:
		// Without the node's own word gossip's is the best there is, but only
		// a report shows that the node can be heard: heard stays.
		n.told(n.heard, p.State, p.Capacity, p.Live)
	case p.State == proto.StateDraining:
		n.state = p.State
	}
}

// Remove forgets a node that left or died.
func (t *Table) Remove(id string) {
	n := t.nodes[id]
	if n == nil {
		return
	}
	delete(t.nodes, id)
	t.sorted = slices.DeleteFunc(t.sorted, func(o *node) bool { return o == n })
	t.stale = true
}

// Report takes in a node's exact load. A report of an unknown node, an older
// one than the last, and one of an earlier start of the node are passed over.
func (t *Table) Report(now time.Time, r proto.Report) {
	n := t.nodes[r.ID]
	if n == nil {
		return
	}
	at := t.at(now)
	again, late := n.supersedes(r.Generation)
	if late || !again && n.reported && r.Seq <= n.report.Seq {
		return
	}
	// The counters of a start of a node begin at 0, but what it counted before
	// this broker first heard of it is no news.
	var mine, all uint64
	switch {
	case again:
		p := n.peer
		p.Generation = r.Generation
		n.began(at, p)
		t.stale = true
		mine, all = r.Arrived, r.ArrivedAll
	case n.reported:
		mine, all = growth(n.report.Arrived, r.Arrived), growth(n.report.ArrivedAll, r.ArrivedAll)
	}
	t.share.landed(mine, all)
	n.pending.advance(at)
	n.pending.remove(mine)
	t.stale = t.stale || !n.reported || r.State != n.state || r.LoadPenalty != n.report.LoadPenalty
	n.report, n.reported = r, true
	n.told(at, r.State, r.Capacity, r.Live)
}

func growth(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// Suspend keeps sessions away from a node that failed, until then; a time that
// has passed ends a suspension. A suspended node is picked when there is no
// other.
func (t *Table) Suspend(id string, until time.Time) {
	if n := t.nodes[id]; n != nil {
		n.suspended = t.at(until)
		t.stale = true
	}
}

// SetReach says whether clients can get in at the node's address; why is the
// reason that they cannot. It is of use only with Config.Probed.
func (t *Table) SetReach(id string, r Reach, why string) {
	n := t.nodes[id]
	if n == nil || n.reach == r && n.unreached == why {
		return
	}
	t.stale = t.stale || n.reach != r
	n.reach, n.unreached = r, why
}

// Doubt has a node get fewer sessions, by the percentage, because of what others
// say of it.
func (t *Table) Doubt(id string, percent int) {
	if n := t.nodes[id]; n != nil && n.doubt != min(max(percent, 0), 100) {
		n.doubt = min(max(percent, 0), 100)
		t.stale = true
	}
}

// SetBrokers says how many members place sessions, this one included.
func (t *Table) SetBrokers(n int) {
	t.share.brokers = n
	t.perOwn = 1 / t.share.value()
}

// Cancel takes back a pick that was not used.
func (t *Table) Cancel(now time.Time, id string) {
	if n := t.nodes[id]; n != nil {
		n.pending.advance(t.at(now))
		n.pending.remove(1)
	}
}

// Nodes returns what is known of every node, by id.
func (t *Table) Nodes(now time.Time) []NodeView {
	at := t.at(now)
	views := make([]NodeView, 0, len(t.sorted))
	for _, n := range t.sorted {
		n.pending.advance(at)
		views = append(views, NodeView{
			Peer: n.peer, Report: n.report, Age: at - n.heard,
			Pending: n.pending.sum, Estimate: n.estimate(t.perOwn),
			Reach: n.reach, Unreached: n.unreached, LoadPenalty: n.penalty(),
			Eligible: t.level(n, at) == eligible, Why: t.why(n, at),
		})
	}
	return views
}
