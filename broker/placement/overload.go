package placement

import (
	"math"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Overload adjusts Overloaded. The zero value of a field means its default.
type Overload struct {
	// Distance is the part of its fair share by which a node may be over it.
	// Default 0.05.
	Distance float64
	// Slack is how many sessions over its fair share a node may be, however small
	// that is: in a small cluster nothing is gained by moving a few. Default 8.
	Slack int
}

func (o Overload) withDefaults() Overload {
	setDefault(&o.Distance, 0.05)
	setDefault(&o.Slack, 8)
	return o
}

// Shed says that a node should give sessions away until it holds no more than
// Target.
type Shed struct {
	Node   string
	Target uint32
}

// Overloaded returns the nodes that hold too many sessions, by id. A node's
// fair share is the same part of its capacity for all nodes of a pool and a
// region that take sessions and have reported lately; sessions under way count
// as there. Once a node is over its share by more than Distance and Slack, it is
// named until it is down to half of that.
//
// A target is no lower than what the nodes under their share are to be filled
// with in a second (Config.FillTime). It is to be asked for, and passed on, once
// a second; several brokers come to nearly the same, and their orders do not add
// up.
//
// Regions are evened out one by one: sessions are where they are because they
// prefer it.
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
			b.room += float64(n.capacity) / t.cfg.FillTime.Seconds()
		}
	}
	list := make([]Shed, 0, len(over))
	for _, n := range over {
		b := groups[n.key()]
		surplus := float64(n.live) - b.share(n)
		few := max(b.room*surplus/b.surplus, 1)
		target := max(b.share(n)+b.slack(n, o)/2, float64(n.live)-few)
		list = append(list, Shed{n.peer.ID, uint32(math.Ceil(target))})
	}
	return list
}

// balance is how full the nodes of a pool and a region are together.
type balance struct {
	load, capacity float64
	surplus        float64 // of the nodes that are to shed, above their shares
	room           float64 // sessions a second that the others are to be filled with
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

// counts reports whether the node shares the sessions of its pool: it takes
// some, or would if it were not full, and has said lately how many it has.
func (t *Table) counts(n *node, at time.Duration) bool {
	return n.reported && at-n.heard < t.cfg.ReportAge && at >= n.suspended && n.capacity > 0 &&
		(n.state == proto.StateReady || n.state == proto.StateFull)
}

func (n *node) key() regionKey { return regionKey{n.peer.Pool, n.peer.Region} }
