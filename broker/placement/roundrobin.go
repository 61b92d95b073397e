package placement

import (
	"math/rand/v2"
	"sort"
)

// RoundRobin sends one session to each node in turn, in the order of their ids,
// whatever their capacity.
type RoundRobin struct {
	last string // id of the node that got the last session
}

// Select takes the time of a binary search for the last node.
func (p *RoundRobin) Select(nodes []Node, _ Hints, _ *rand.Rand) int {
	next := p.next(nodes)
	for k := range nodes {
		if i := (next + k) % len(nodes); nodes[i].Open() {
			p.last = nodes[i].ID()
			return i
		}
	}
	return -1
}

// Score is the number of nodes that come before this one.
func (p *RoundRobin) Score(nodes []Node, i int, _ Hints) float64 {
	return float64((i - p.next(nodes) + len(nodes)) % len(nodes))
}

func (p *RoundRobin) next(nodes []Node) int {
	return sort.Search(len(nodes), func(i int) bool { return nodes[i].ID() > p.last }) % len(nodes)
}

// WeightedRoundRobin gives each node sessions in proportion to its weight, spread
// evenly: with weights 5, 1 and 1 the order is a a b a c a a, as in nginx. It keeps 8
// bytes for each start of a node.
type WeightedRoundRobin struct {
	due []float64 // sessions that a node is behind its proportion, times the weights; by Serial
}

// Select takes time proportional to the number of nodes.
func (p *WeightedRoundRobin) Select(nodes []Node, _ Hints, _ *rand.Rand) int {
	best, most, total := -1, 0.0, 0.0
	for i := range nodes {
		n := &nodes[i]
		if !n.Open() {
			continue
		}
		for n.Serial() >= len(p.due) {
			p.due = append(p.due, 0)
		}
		due := &p.due[n.Serial()]
		*due += n.Weight()
		total += n.Weight()
		if best < 0 || *due > most {
			best, most = i, *due
		}
	}
	if best >= 0 {
		p.due[nodes[best].Serial()] -= total
	}
	return best
}

// Score is lower for a node that is further behind its proportion.
func (p *WeightedRoundRobin) Score(nodes []Node, i int, _ Hints) float64 {
	due := 0.0
	if s := nodes[i].Serial(); s < len(p.due) {
		due = p.due[s]
	}
	return -(due + nodes[i].Weight())
}
