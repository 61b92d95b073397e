package placement

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Table holds what a broker knows of the nodes, and picks among them by a policy.
// A node's load is what it last reported plus the sessions under way to it.
//
// The sessions of this broker count as pending until they arrive or expire. Those
// of the other brokers are estimated from this broker's share of all arrivals.
//
// A Table is not safe for concurrent use: its owner holds a lock. Times passed to
// its methods must not run backwards by much. They are compared with one another
// only, not with a clock.
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
	stale   bool // the groups must be refreshed

	policies map[string]Policy // by pool
	current  Candidates        // of the current pick; kept here to avoid an allocation
}

// NewTable returns a table without nodes. It counts this broker as the only one
// until SetBrokers is called.
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
	at := t.at(now)
	n := t.nodes[p.ID]
	if n == nil {
		n = &node{hash: hashOf(p.ID)}
		n.restart(at, p)
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
		n.restart(at, p)
		t.stale = true
		return
	}
	t.stale = t.stale || p.Pool != n.peer.Pool || p.Region != n.peer.Region || p.State != n.peer.State
	n.peer = p
	switch {
	case !n.reported || at-n.reportedAt >= t.cfg.ReportAge:
		// Without a recent report, gossip has the best known load. Only a report
		// shows that the node is alive, so the time of the last report stays.
		n.setLoad(n.reportedAt, p.State, p.Capacity, p.Live)
	case p.State == proto.StateDraining:
		n.state = p.State
	}
}

// Remove removes a node that left or died.
func (t *Table) Remove(id string) {
	n := t.nodes[id]
	if n == nil {
		return
	}
	delete(t.nodes, id)
	t.sorted = slices.DeleteFunc(t.sorted, func(o *node) bool { return o == n })
	t.stale = true
}

// Report applies a node's report of its load. It ignores a report of an unknown
// node, one that is not newer than the last, and one of an earlier start of the
// node.
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
	// A node counts arrivals from 0 after each start. What it counted before the
	// first report that this broker receives is not news.
	var mine, all uint64
	switch {
	case again:
		p := n.peer
		p.Generation = r.Generation
		n.restart(at, p)
		t.stale = true
		mine, all = r.Arrived, r.ArrivedAll
	case n.reported:
		mine, all = growth(n.report.Arrived, r.Arrived), growth(n.report.ArrivedAll, r.ArrivedAll)
	}
	t.share.arrived(mine, all)
	n.pending.advance(at)
	n.pending.remove(mine)
	t.stale = t.stale || !n.reported || r.State != n.state || r.LoadPenalty != n.report.LoadPenalty
	n.report, n.reported = r, true
	n.setLoad(at, r.State, r.Capacity, r.Live)
}

func growth(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// Suspend suspends a node that failed until that time; a time in the past ends
// the suspension. A suspended node is picked only if no other is available.
func (t *Table) Suspend(id string, until time.Time) {
	if n := t.nodes[id]; n != nil {
		n.suspended = t.at(until)
		t.stale = true
	}
}

// SetReach sets whether clients can connect to the node's address; why is the
// error if they cannot. It has an effect only with Config.Probed.
func (t *Table) SetReach(id string, r Reach, why string) {
	n := t.nodes[id]
	if n == nil || n.reach == r && n.unreached == why {
		return
	}
	t.stale = t.stale || n.reach != r
	n.reach, n.unreached = r, why
}

// SetClientPenalty sets the load penalty from client reports: the percentage by
// which the node gets fewer sessions, 0 to 100.
func (t *Table) SetClientPenalty(id string, percent int) {
	if n := t.nodes[id]; n != nil && n.clientPenalty != min(max(percent, 0), 100) {
		n.clientPenalty = min(max(percent, 0), 100)
		t.stale = true
	}
}

// SetBrokers sets how many members place sessions, this one included.
func (t *Table) SetBrokers(n int) {
	t.share.brokers = n
	t.perOwn = 1 / t.share.value()
}

// Cancel removes one pending session from the node, for a pick that was not used.
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
			Peer: n.peer, Report: n.report, Age: at - n.reportedAt,
			Pending: n.pending.sum, Estimate: n.estimate(t.perOwn),
			Reach: n.reach, Unreached: n.unreached, LoadPenalty: n.penalty(),
			Eligible: t.level(n, at) == eligible, Why: t.why(n, at),
		})
	}
	return views
}
