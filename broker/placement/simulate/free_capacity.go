package simulate

import "github.com/usher-broker/usher/broker/placement"

// FreeCapacity is the name of a policy for comparison only: it draws a node at
// random, weighted by its free capacity.
const FreeCapacity = "random-free-capacity"

type freeCapacity struct{}

// Pick implements placement.Policy.
func (freeCapacity) Pick(c *placement.Candidates, _ placement.Hints) int {
	free := func(i int) float64 {
		if !c.Open(i) {
			return 0
		}
		return max(c.Weight(i)-c.Load(i), 0)
	}
	total := 0.0
	for i := range c.Len() {
		total += free(i)
	}
	x := c.Rand().Float64() * total
	last := -1
	for i := range c.Len() {
		r := free(i)
		if r > 0 {
			last = i
		}
		if x -= r; x < 0 {
			return i
		}
	}
	return last // rounding error, or no free capacity
}
