package placement

import (
	"math/rand/v2"
	"sort"
)

// Random picks a node at random, by weight.
type Random struct{}

// Select takes the same time however many nodes there are.
func (Random) Select(nodes []Node, _ Hints, r *rand.Rand) int {
	for range 3 {
		if i := draw(nodes, r); nodes[i].Open() {
			return i
		}
	}
	return lowest(nodes, r, func(*Node) float64 { return 0 })
}

// draw returns a random node, by weight. It may not be Open.
func draw(nodes []Node, r *rand.Rand) int {
	x := r.Uint64N(nodes[len(nodes)-1].upTo)
	return sort.Search(len(nodes), func(i int) bool { return nodes[i].upTo > x })
}
