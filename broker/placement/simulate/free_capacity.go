package simulate

import (
	"math/rand/v2"

	"github.com/usher-broker/usher/broker/placement"
)

// FreeCapacity is the name of a policy for comparison only: it draws a node at
// random, weighted by its free capacity.
const FreeCapacity = "random-free-capacity"

type freeCapacity struct{}

// Select implements placement.Selector.
func (freeCapacity) Select(nodes []placement.Node, _ placement.Hints, r *rand.Rand) int {
	free := func(n *placement.Node) float64 {
		if !n.Open() {
			return 0
		}
		return max(n.Weight()-n.Load(), 0)
	}
	total := 0.0
	for i := range nodes {
		total += free(&nodes[i])
	}
	x := r.Float64() * total
	last := -1
	for i := range nodes {
		capacity := free(&nodes[i])
		if capacity > 0 {
			last = i
		}
		if x -= capacity; x < 0 {
			return i
		}
	}
	return last // rounding error, or no free capacity
}
