package placement

import (
	"sort"
	"time"
)

// regionKey names the nodes of one region in a pool.
type regionKey struct{ pool, region string }

// group holds the nodes of a pool, or of one region of a pool, as of the last
// refresh.
type group struct {
	members []*node
	open    []candidate // the eligible members
	upTo    []uint64    // upTo[i] is the summed weight of open[0..i], in hundredths
	boosted []int       // indices in open of the underfull nodes
	cursor  int         // index in boosted of the last boosted pick
}

// candidate is an eligible node of a group.
type candidate struct {
	n *node
	// handicap is added to the estimate of an underfull node when it competes
	// with the others. With it the node counts as being at their mean, and gets
	// as many sessions as any other node, besides its boosted picks. By its real
	// load it would get every session, and an empty node must not be flooded.
	handicap float64
}

func (c candidate) key(perOwn float64) float64 {
	return (c.n.estimate(perOwn) + c.handicap + 1) / c.n.weight()
}

func (g *group) reset() {
	g.members, g.open, g.upTo, g.boosted = g.members[:0], g.open[:0], g.upTo[:0], g.boosted[:0]
}

func (g *group) add(n *node, open bool) {
	g.members = append(g.members, n)
	if !open {
		return
	}
	before := uint64(0)
	if len(g.upTo) > 0 {
		before = g.upTo[len(g.upTo)-1]
	}
	g.open = append(g.open, candidate{n: n})
	g.upTo = append(g.upTo, before+uint64(n.weight()*100)+1)
}

// The two kinds of group that contain a node.
const (
	inPool = iota
	inRegion
)

// nearMean is the fraction of the underfull bound within which an underfull node
// counts as caught up. If it already did so at the bound itself, it would lose
// its handicap there and get all arrivals until it has caught up.
const nearMean = 0.2

// findUnderfull finds the underfull nodes: those below the mean by more than that
// part of it, and by more sessions than the error of the estimate may be.
func (g *group) findUnderfull(kind int, perOwn, part float64) {
	var load, capacity float64
	for _, c := range g.open {
		load += c.n.estimate(perOwn)
		capacity += c.n.weight()
	}
	if capacity == 0 {
		return
	}
	mean := load / capacity
	for i, c := range g.open {
		n, own := c.n, c.n.weight()
		bound := part * mean * own
		if n.underfull[kind] {
			bound *= nearMean
		}
		est := n.estimate(perOwn)
		n.underfull[kind] = mean*own-est > max(bound, 2*perOwn)
		if n.underfull[kind] {
			g.boosted = append(g.boosted, i)
			load -= est
			capacity -= own
		}
	}
	mean = load / capacity // of the other nodes; some remain, because not all can be below the mean
	for _, i := range g.boosted {
		c := &g.open[i]
		c.handicap = max(0, mean*c.n.weight()-c.n.estimate(perOwn))
	}
}

// draw returns the index of the candidate at position x of the summed weights.
func (g *group) draw(x uint64) int {
	return sort.Search(len(g.upTo), func(i int) bool { return g.upTo[i] > x })
}

// refresh recomputes the groups from the nodes.
func (t *Table) refresh(at time.Duration) {
	t.stale = false
	for _, g := range t.pools {
		g.reset()
	}
	for _, g := range t.regions {
		g.reset()
	}
	for _, n := range t.sorted {
		n.pending.advance(at)
		open := t.level(n, at) == eligible
		groupOf(t.pools, n.peer.Pool).add(n, open)
		if n.peer.Region != "" {
			groupOf(t.regions, regionKey{n.peer.Pool, n.peer.Region}).add(n, open)
		}
	}
	updateGroups(t, inPool, t.pools)
	updateGroups(t, inRegion, t.regions)
}

func groupOf[K comparable](groups map[K]*group, k K) *group {
	g := groups[k]
	if g == nil {
		g = &group{}
		groups[k] = g
	}
	return g
}

func updateGroups[K comparable](t *Table, kind int, groups map[K]*group) {
	for k, g := range groups {
		if len(g.members) == 0 {
			delete(groups, k)
			continue
		}
		g.findUnderfull(kind, t.perOwn, t.cfg.Underfull)
	}
}
