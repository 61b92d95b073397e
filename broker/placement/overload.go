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
func (p *Picker) Overloaded(now time.Time, o Overload) []Shed {
	o = o.withDefaults()
	p.table.SetTime(now)
	p.follow()
	balances := p.balances()
	var over []*fill
	for _, f := range p.fills {
		if !f.counts() {
			f.shedding = false
			continue
		}
		b := balances[f.groupKey()]
		slack := b.slack(f, o)
		surplus := float64(f.Live()) - b.share(f)
		switch {
		case surplus > slack:
			f.shedding = true
		case surplus <= slack/2:
			f.shedding = false
		}
		if f.shedding {
			over = append(over, f)
			b.surplus += surplus
		} else if f.Load() < b.share(f) {
			b.fillRate += float64(f.Capacity()) / p.cfg.FillTime.Seconds()
		}
	}
	list := make([]Shed, 0, len(over))
	for _, f := range over {
		b := balances[f.groupKey()]
		surplus := float64(f.Live()) - b.share(f)
		few := max(b.fillRate*surplus/b.surplus, 1)
		target := max(b.share(f)+b.slack(f, o)/2, float64(f.Live())-few)
		list = append(list, Shed{f.ID(), uint32(math.Ceil(target))})
	}
	return list
}

// balance is the load of the nodes of a pool and region together.
type balance struct {
	load, capacity float64
	surplus        float64 // sessions above their shares, of the nodes that shed
	fillRate       float64 // sessions a second that the other nodes can take
}

func (b *balance) share(f *fill) float64 { return b.load / b.capacity * float64(f.Capacity()) }

func (b *balance) slack(f *fill, o Overload) float64 {
	return max(b.share(f)*o.Distance, float64(o.Slack))
}

func (p *Picker) balances() map[groupKey]*balance {
	balances := map[groupKey]*balance{}
	for _, f := range p.fills {
		if !f.counts() {
			continue
		}
		b := balances[f.groupKey()]
		if b == nil {
			b = &balance{}
			balances[f.groupKey()] = b
		}
		b.load += f.Load()
		b.capacity += float64(f.Capacity())
	}
	return balances
}

// counts reports whether the node has a fair share of the sessions of its pool:
// it takes sessions, or would if it were not full, and has reported its load
// recently.
func (f *fill) counts() bool {
	return f.Reported() && f.Alive() && f.Capacity() > 0 &&
		(f.State() == proto.StateReady || f.State() == proto.StateFull)
}
