package placement

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Least sends each session to the least loaded of a few nodes, where load is
// what a node last reported and what is on its way there.
//
// What this broker has sent is known until it lands or has expired; what the
// others have sent is estimated by it, from this broker's share of all
// landings. A node far under the mean is filled faster than by chance, at a
// bounded rate.
//
// A Least is not safe for concurrent use: its owner holds a lock. Times passed
// to its methods must not run backwards by much; they are compared with one
// another and never with a clock.
type Least struct {
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
}

// NewLeast returns a policy that knows no node yet. It is one of one broker
// until SetBrokers says otherwise.
func NewLeast(cfg Config, rng *rand.Rand, now time.Time) *Least {
	return &Least{
		cfg: cfg.withDefaults(), rng: rng, start: now,
		nodes: map[string]*node{},
		share: share{brokers: 1}, perOwn: 1,
		pools: map[string]*group{}, regions: map[regionKey]*group{},
	}
}

func (l *Least) at(now time.Time) time.Duration { return now.Sub(l.start) }

// Update takes in what gossip says of a member: it joined, or its metadata
// changed. Members that are no nodes are passed over. The coarse load of a node
// first seen serves in place of a report for as long as a report would, so that
// a broker that has just started does not send everybody to the first node that
// reports.
func (l *Least) Update(now time.Time, p proto.Peer) {
	if p.Role != proto.RoleNode {
		return
	}
	if p.Pool == "" {
		p.Pool = proto.DefaultPool
	}
	at := l.at(now)
	n := l.nodes[p.ID]
	if n == nil {
		n = &node{}
		n.began(at, p)
		l.nodes[p.ID] = n
		i, _ := slices.BinarySearchFunc(l.sorted, p.ID, func(n *node, id string) int { return strings.Compare(n.peer.ID, id) })
		l.sorted = slices.Insert(l.sorted, i, n)
		l.stale = true
		return
	}
	again, late := n.supersedes(p.Generation)
	switch {
	case late:
		return
	case again:
		n.began(at, p)
		l.stale = true
		return
	}
	l.stale = l.stale || p.Pool != n.peer.Pool || p.Region != n.peer.Region || p.State != n.peer.State
	n.peer = p
	switch {
	case !n.reported || at-n.heard >= l.cfg.ReportAge:
		// Without the node's own word gossip's is the best there is, but only
		// a report shows that the node can be heard: heard stays.
		n.told(n.heard, p.State, p.Capacity, p.Live)
	case p.State == proto.StateDraining:
		n.state = p.State
	}
}

// Remove forgets a node that left or died.
func (l *Least) Remove(id string) {
	n := l.nodes[id]
	if n == nil {
		return
	}
	delete(l.nodes, id)
	l.sorted = slices.DeleteFunc(l.sorted, func(o *node) bool { return o == n })
	l.stale = true
}

// Report takes in a node's exact load. A report of an unknown node, an older
// one than the last, and one of an earlier start of the node are passed over.
func (l *Least) Report(now time.Time, r proto.Report) {
	n := l.nodes[r.ID]
	if n == nil {
		return
	}
	at := l.at(now)
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
		l.stale = true
		mine, all = r.Landed, r.LandedAll
	case n.reported:
		mine, all = growth(n.report.Landed, r.Landed), growth(n.report.LandedAll, r.LandedAll)
	}
	l.share.landed(mine, all)
	n.pending.advance(at)
	n.pending.remove(mine)
	l.stale = l.stale || !n.reported || r.State != n.state
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
func (l *Least) Suspend(id string, until time.Time) {
	if n := l.nodes[id]; n != nil {
		n.suspended = l.at(until)
		l.stale = true
	}
}

// SetBrokers says how many members place sessions, this one included.
func (l *Least) SetBrokers(n int) {
	l.share.brokers = n
	l.perOwn = 1 / l.share.value()
}

// Cancel takes back a pick that was not used.
func (l *Least) Cancel(now time.Time, id string) {
	if n := l.nodes[id]; n != nil {
		n.pending.advance(l.at(now))
		n.pending.remove(1)
	}
}

// Nodes returns what is known of every node, by id.
func (l *Least) Nodes(now time.Time) []NodeView {
	at := l.at(now)
	views := make([]NodeView, 0, len(l.sorted))
	for _, n := range l.sorted {
		n.pending.advance(at)
		views = append(views, NodeView{
			Peer: n.peer, Report: n.report, Age: at - n.heard,
			Pending: n.pending.sum, Estimate: n.estimate(l.perOwn),
			Eligible: l.level(n, at) == eligible, Why: l.why(n, at),
		})
	}
	return views
}
