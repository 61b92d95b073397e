package simulate

import "github.com/usher-broker/usher/broker/placement"

// FreeCapacity is the name of a policy that is here to compare with: a node drawn at
// random, by the room that it has left.
const FreeCapacity = "random-free-capacity"

type freeRoom struct{}

// Pick implements placement.Policy.
func (freeRoom) Pick(c *placement.Candidates, _ placement.Hints) int {
	room := func(i int) float64 {
		if !c.Open(i) {
			return 0
		}
		return max(c.Weight(i)-c.Load(i), 0)
	}
	total := 0.0
	for i := range c.Len() {
		total += room(i)
	}
	x := c.Rand().Float64() * total
	last := -1
	for i := range c.Len() {
		r := room(i)
		if r > 0 {
			last = i
		}
		if x -= r; x < 0 {
			return i
		}
	}
	return last // rounding, or no room anywhere
}
