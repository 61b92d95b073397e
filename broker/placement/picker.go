package placement

import (
	"math/rand/v2"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

// A Picker picks nodes from a table, by a policy for each pool.
//
// It is not safe for concurrent use: one lock protects it and the table. Times are as
// in nodes.Table.
type Picker struct {
	cfg   Config
	table *nodes.Table
	rng   *rand.Rand

	fills     []*fill // by id, as table.All
	groups    map[groupKey]*group
	changes   uint64              // table.Changes as of the last refresh
	selectors map[string]Selector // by pool
	starts    int                 // starts of nodes seen so far
	excluded  *nodes.Node         // by the hints of the current pick
}

// fill is what a Picker keeps of a start of a node.
type fill struct {
	*nodes.Node
	serial    int     // of the starts of all nodes
	tokens    float64 // boosted picks that are left now
	shedding  bool    // returned by Overloaded until it is down to its target
	underfull [2]bool // in its pool and in its region
}

// Node is a read-only view of a node that a Selector may select. It has the methods
// of nodes.Node, of which ID, Region, Hash, Weight and Load are the most useful.
type Node struct {
	*fill
	p *Picker

	upTo    uint64 // summed weight of the nodes up to this one, in hundredths
	boosted int    // index of the next underfull node, in a circle; -1 if there is none
	// handicap is added to the load of an underfull node when it competes with the
	// others. With it the node counts as being at their mean, and gets as many
	// sessions as any other node, besides its boosted picks. By its real load it
	// would get every session, and an empty node must not be flooded.
	handicap float64
}

// Serial returns a number for policies that keep something for each node. Each start
// of a node has its own, counted from 0.
func (n *Node) Serial() int { return n.serial }

// Open reports whether the node may be picked. A node that has become ineligible
// since the last tick may not, nor may the excluded node.
func (n *Node) Open() bool { return n.Node != n.p.excluded && n.Eligible() }

// Boosted reports whether the node is far below the mean load and may be filled
// faster than the others now.
func (n *Node) Boosted() bool { return n.tokens >= 1 && n.Open() }

// utilisation is the part of its weight that the node uses with one session more.
func (n *Node) utilisation() float64 { return (n.Load() + 1) / n.Weight() }

// NewPicker returns a picker for the nodes of the table.
func NewPicker(cfg Config, table *nodes.Table, rng *rand.Rand) *Picker {
	return &Picker{
		cfg: cfg.withDefaults(), table: table, rng: rng,
		groups: map[groupKey]*group{}, selectors: map[string]Selector{},
	}
}

// Tick updates the table and the groups with the time. The caller should call it
// every 100 ms while it picks nodes, and each second otherwise. It takes time proportional to the number of nodes.
func (p *Picker) Tick(now time.Time) {
	dt := p.table.Tick(now)
	p.refresh()
	for _, f := range p.fills {
		p.refill(f, dt)
	}
}

// refill adds the boosted picks for the time dt to a node. Unused picks are kept for
// a quarter of a second only, so that a node's peak stays near its rate.
func (p *Picker) refill(f *fill, dt time.Duration) {
	ramp := min(float64(f.Up())/float64(p.cfg.Ramp), 1)
	rate := float64(f.Capacity()) / p.cfg.FillTime.Seconds() * p.table.Share() * ramp
	f.tokens = min(f.tokens+rate*dt.Seconds(), max(1, rate/4))
}

// Pick returns the node for a session and counts it as sent there. The errors are
// ErrNoCapacity and ErrNoNodes. Pick compares a few nodes, and all of them only if
// none is eligible.
func (p *Picker) Pick(now time.Time, h Hints) (*nodes.Node, error) {
	p.table.SetTime(now)
	if p.changes != p.table.Changes() {
		p.refresh()
	}
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	p.exclude(h)
	f := p.prefer(h)
	if f == nil {
		var err error
		if f, err = p.search(h); err != nil {
			return nil, err
		}
	}
	p.table.Sent(f.Node)
	// Every pick counts against the limit on boosted ones, because the limit is
	// on the rate at which a node is filled.
	f.tokens = max(f.tokens-1, -1)
	return f.Node, nil
}

func (p *Picker) exclude(h Hints) {
	p.excluded = nil
	if h.Exclude != "" {
		p.excluded = p.table.Find(h.Exclude)
	}
}

// prefer returns an eligible node in the first requested region that has one, or
// nil if no node is eligible.
func (p *Picker) prefer(h Hints) *fill {
	if h.Region != "" {
		if f := p.choose(h.Region, h); f != nil {
			return f
		}
	}
	for _, region := range h.Fallback {
		if f := p.choose(region, h); f != nil {
			return f
		}
	}
	if h.Strict {
		return nil
	}
	return p.choose("", h)
}

// choose returns an eligible node of the pool that is in the region, which may be ""
// for any, or nil if there is none or the policy picks none.
func (p *Picker) choose(region string, h Hints) *fill {
	g := p.groups[groupKey{h.Pool, region}]
	if g == nil || len(g.open) == 0 {
		return nil
	}
	i := -1
	if h.Balance { // Overloaded limits the rate at which the least loaded node is filled
		i = lowest(g.open, p.rng, (*Node).utilisation)
	} else {
		i = p.selector(h.Pool).Select(g.open, h, p.rng)
	}
	if i < 0 || i >= len(g.open) || !g.open[i].Open() {
		return nil
	}
	return g.open[i].fill
}

func (p *Picker) selector(pool string) Selector {
	s := p.selectors[pool]
	if s == nil {
		s = p.cfg.Selector(pool)
		p.selectors[pool] = s
	}
	return s
}

// search looks through all nodes of the pool and returns the one with the lowest
// level; among equals, one in the more preferred region, then the least loaded.
func (p *Picker) search(h Hints) (*fill, error) {
	g := p.groups[groupKey{h.Pool, ""}]
	if g == nil {
		return nil, ErrNoNodes
	}
	var best *fill
	var least resort
	err := ErrNoNodes
	from := p.rng.IntN(len(g.members))
	for i := range g.members {
		f := g.members[(from+i)%len(g.members)]
		rank := h.regionRank(f.Region())
		if f.Node == p.excluded || rank == notAllowed {
			continue
		}
		level := f.Level()
		if level == nodes.Full {
			err = ErrNoCapacity
		}
		if level >= nodes.Full {
			continue
		}
		r := resort{level, rank, (f.Load() + 1) / f.Weight()}
		if best == nil || r.before(least) {
			best, least = f, r
		}
	}
	if best == nil {
		return nil, err
	}
	return best, nil
}

// resort says how good a node is when none is eligible.
type resort struct {
	level       nodes.Level
	rank        int // of its region
	utilisation float64
}

func (r resort) before(o resort) bool {
	switch {
	case r.level != o.level:
		return r.level < o.level
	case r.rank != o.rank:
		return r.rank < o.rank
	}
	return r.utilisation < o.utilisation
}

// FreeCapacity returns how many sessions with the hints the nodes can take, as
// far as this broker knows.
func (p *Picker) FreeCapacity(now time.Time, h Hints) int {
	p.table.SetTime(now)
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	free := 0
	for _, n := range p.table.All() {
		if n.Pool() != h.Pool || n.ID() == h.Exclude || h.regionRank(n.Region()) == notAllowed {
			continue
		}
		if n.Level() < nodes.FullByEstimate {
			free += int(float64(n.Capacity()) - n.Load())
		}
	}
	return free
}
