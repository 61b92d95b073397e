package placement

import (
	"math"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Overload configures Overloaded. The zero value of a field means its default.
type Overload struct {
	// Distance is the fraction of its fair share by which a node may exceed it.
	// Default 0.05.
	Distance float64
	// Slack is the number of sessions by which a node may exceed its fair share,
	// however small that is: in a small cluster, moving a few sessions gains
	// nothing. Default 8.
	Slack int
}

func (o Overload) withDefaults() Overload {
	setDefault(&o.Distance, 0.05)
	setDefault(&o.Slack, 8)
	return o
}

// Shed says that a node should ask sessions to leave until it holds no more than
// Target.
type Shed struct {
	Node   string
	Target uint32
}

// Overloaded returns the nodes that hold too many sessions, by id. All nodes of a
// pool and region that take sessions and have reported recently have a fair share
// that is the same fraction of their capacity; pending sessions count as held. A
// node that exceeds its share by more than Distance and Slack is returned until
// it is down to half of that.
//
// The targets are such that all nodes together shed no more in a second than the
// nodes below their share can take (Config.FillTime). The caller should call
// Overloaded and pass on the targets once a second. Several brokers compute
// nearly the same targets, and their commands do not add up.
//
// Each region is balanced by itself: sessions are in a region because they prefer
// it.
func (t *Table) Overloaded(now time.Time, o Overload) []Shed {
	o = o.withDefaults()
	at := t.at(now)
	groups := t.balances(at)
	var over []*node
	for _, n := range t.sorted {
		if !t.counts(n, at) {
			n.shedding = false
			continue
		}
		b := groups[n.key()]
		slack := b.slack(n, o)
		switch surplus := float64(n.live) - b.share(n); {
		case surplus > slack:
			n.shedding = true
		case surplus <= slack/2:
			n.shedding = false
		}
		if n.shedding {
			over = append(over, n)
			b.surplus += float64(n.live) - b.share(n)
		} else if n.estimate(t.perOwn) < b.share(n) {
			b.fillRate += float64(n.capacity) / t.cfg.FillTime.Seconds()
		}
	}
	list := make([]Shed, 0, len(over))
	for _, n := range over {
		b := groups[n.key()]
		surplus := float64(n.live) - b.share(n)
		few := max(b.fillRate*surplus/b.surplus, 1)
		target := max(b.share(n)+b.slack(n, o)/2, float64(n.live)-few)
		list = append(list, Shed{n.peer.ID, uint32(math.Ceil(target))})
	}
	return list
}

// balance is the load of the nodes of a pool and region together.
type balance struct {
	load, capacity float64
	surplus        float64 // sessions above their shares, of the nodes that shed
	fillRate       float64 // sessions a second that the other nodes can take
}

func (b *balance) share(n *node) float64 { return b.load / b.capacity * float64(n.capacity) }

func (b *balance) slack(n *node, o Overload) float64 {
	return max(b.share(n)*o.Distance, float64(o.Slack))
}

func (t *Table) balances(at time.Duration) map[regionKey]*balance {
	groups := map[regionKey]*balance{}
	for _, n := range t.sorted {
		if !t.counts(n, at) {
			continue
		}
		b := groups[n.key()]
		if b == nil {
			b = &balance{}
			groups[n.key()] = b
		}
		n.pending.advance(at)
		b.load += n.estimate(t.perOwn)
		b.capacity += float64(n.capacity)
	}
	return groups
}

// counts reports whether the node has a fair share of the sessions of its pool:
// it takes sessions, or would if it were not full, and has reported its load
// recently.
func (t *Table) counts(n *node, at time.Duration) bool {
	return n.reported && at-n.reportedAt < t.cfg.ReportAge && at >= n.suspended && n.capacity > 0 &&
		(n.state == proto.StateReady || n.state == proto.StateFull)
}

func (n *node) key() regionKey { return regionKey{n.peer.Pool, n.peer.Region} }
