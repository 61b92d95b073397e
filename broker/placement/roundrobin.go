package placement

import (
	"cmp"
	"sort"
)

// RoundRobin sends one session to each node in turn, in the order of their ids,
// whatever their capacity.
type RoundRobin struct {
	last string
}

// Pick takes the time of a binary search for the last node.
func (p *RoundRobin) Pick(c *Candidates, _ Hints) int {
	next := p.next(c)
	for k := range c.Len() {
		if i := (next + k) % c.Len(); c.Open(i) {
			p.last = c.ID(i)
			return i
		}
	}
	return -1
}

// Score is the number of nodes that come before this one.
func (p *RoundRobin) Score(c *Candidates, i int, _ Hints) float64 {
	return float64((i - p.next(c) + c.Len()) % c.Len())
}

func (p *RoundRobin) next(c *Candidates) int {
	return sort.Search(c.Len(), func(i int) bool { return c.ID(i) > p.last }) % c.Len()
}

// WeightedRoundRobin gives each node sessions in proportion to its weight, spread
// evenly: with weights 5, 1 and 1 the order is a a b a c a a, as in nginx.
type WeightedRoundRobin struct{}

// Pick takes time proportional to the number of nodes.
func (WeightedRoundRobin) Pick(c *Candidates, _ Hints) int {
	best, total := -1, 0.0
	for i := range c.Len() {
		if !c.Open(i) {
			continue
		}
		due := c.Slot(i)
		*due += c.Weight(i)
		total += c.Weight(i)
		if best < 0 || cmp.Compare(*due, *c.Slot(best)) > 0 {
			best = i
		}
	}
	if best >= 0 {
		*c.Slot(best) -= total
	}
	return best
}

// Score is lower for a node that is further behind its proportion.
func (WeightedRoundRobin) Score(c *Candidates, i int, _ Hints) float64 {
	return -(*c.Slot(i) + c.Weight(i))
}
