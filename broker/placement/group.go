package placement

import (
	"slices"

	"github.com/usher-broker/usher/broker/nodes"
)

// groupKey names the nodes of one region in a pool, or of the whole pool if region
// is "".
type groupKey struct{ pool, region string }

func (f *fill) groupKey() groupKey { return groupKey{f.Pool(), f.Region()} }

// kind is an index of fill.underfull.
func (k groupKey) kind() int { return min(len(k.region), 1) }

// group holds the nodes of a pool, or of one region of a pool, as of the last
// refresh.
type group struct {
	members []*fill
	open    []Node // the eligible members
}

// refresh recomputes the groups from the nodes.
func (p *Picker) refresh() {
	p.changes = p.table.Changes()
	p.follow()
	for _, g := range p.groups {
		g.members, g.open = g.members[:0], g.open[:0]
	}
	for _, f := range p.fills {
		open := f.Eligible()
		p.add(groupKey{f.Pool(), ""}, f, open)
		if f.Region() != "" {
			p.add(f.groupKey(), f, open)
		}
	}
	for k, g := range p.groups {
		if len(g.members) == 0 {
			delete(p.groups, k)
			continue
		}
		g.findUnderfull(k.kind(), 1/p.table.Share(), p.cfg.Underfull)
	}
}

// follow brings fills in line with the nodes of the table.
func (p *Picker) follow() {
	all := p.table.All()
	if slices.EqualFunc(p.fills, all, func(f *fill, n *nodes.Node) bool { return f.Node == n }) {
		return
	}
	old := make(map[*nodes.Node]*fill, len(p.fills))
	for _, f := range p.fills {
		old[f.Node] = f
	}
	p.fills = make([]*fill, len(all))
	for i, n := range all {
		f := old[n]
		if f == nil { // it joined or restarted
			f = &fill{Node: n, serial: p.starts}
			p.starts++
		}
		p.fills[i] = f
	}
}

func (p *Picker) add(k groupKey, f *fill, open bool) {
	g := p.groups[k]
	if g == nil {
		g = &group{}
		p.groups[k] = g
	}
	g.members = append(g.members, f)
	if !open {
		return
	}
	before := uint64(0)
	if len(g.open) > 0 {
		before = g.open[len(g.open)-1].upTo
	}
	g.open = append(g.open, Node{fill: f, p: p, upTo: before + uint64(f.Weight()*100) + 1})
}

// nearMean is the fraction of the underfull bound within which an underfull node
// counts as caught up. If it already did so at the bound itself, it would lose
// its handicap there and get all arrivals until it has caught up.
const nearMean = 0.2

// findUnderfull finds the underfull nodes: those below the mean by more than that
// part of it, and by more sessions than the error of the estimate may be.
func (g *group) findUnderfull(kind int, perOwn, part float64) {
	var load, capacity float64
	for i := range g.open {
		load += g.open[i].Load()
		capacity += g.open[i].Weight()
	}
	first, mean := -1, load/capacity
	for i := range g.open {
		n := &g.open[i]
		own, estimate, underfull := n.Weight(), n.Load(), &n.underfull[kind]
		bound := part * mean * own
		if *underfull {
			bound *= nearMean
		}
		*underfull = mean*own-estimate > max(bound, 2*perOwn)
		if *underfull {
			load -= estimate
			capacity -= own
			if first < 0 {
				first = i
			}
		}
	}
	mean = load / capacity // of the other nodes; some remain, because not all can be below the mean
	next := first
	for i := len(g.open) - 1; i >= 0; i-- {
		n := &g.open[i]
		n.boosted = next
		if n.underfull[kind] {
			n.handicap = max(0, mean*n.Weight()-n.Load())
			next = i
		}
	}
}
