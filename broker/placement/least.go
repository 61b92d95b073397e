package placement

// Least sends each session to the least loaded of a few nodes. A node far below
// the mean load is filled faster than at random, at a bounded rate.
type Least struct {
	// Candidates is how many nodes are drawn, by weight; the least loaded of them
	// is picked. 0 is 3.
	Candidates int
	// Few is the number of nodes up to which all are compared instead. 0 is 8.
	Few int
}

const (
	defaultCandidates = 3
	defaultFew        = 8
)

// Pick compares a few nodes; its time does not depend on how many there are.
func (p Least) Pick(c *Candidates, _ Hints) int {
	setDefault(&p.Candidates, defaultCandidates)
	setDefault(&p.Few, defaultFew)
	if i := c.boost(p.Candidates); i >= 0 {
		return i
	}
	if c.Len() > p.Few {
		if i := c.leastOf(p.Candidates); i >= 0 {
			return i
		}
	}
	return c.least(c.key)
}

// Score is the utilisation of the node including the new session.
func (Least) Score(c *Candidates, i int, _ Hints) float64 { return c.key(i) }

// boost returns an underfull node that has boosted picks left, or -1. It rotates
// among them and looks at no more than few.
func (c *Candidates) boost(few int) int {
	g := c.g
	for range min(few, len(g.boosted)) {
		g.cursor = (g.cursor + 1) % len(g.boosted)
		if i := g.boosted[g.cursor]; g.open[i].n.tokens >= 1 && c.Open(i) {
			return i
		}
	}
	return -1
}

// leastOf draws few candidates by weight and returns the one with the least key,
// or -1. Some of those drawn may no longer be eligible since the refresh, so it
// draws up to three times as many.
func (c *Candidates) leastOf(few int) int {
	best, lowest := -1, 0.0
	for drawn, seen := 0, 0; drawn < 3*few && seen < few; drawn++ {
		i := c.Draw()
		if !c.Open(i) {
			continue
		}
		seen++
		if key := c.key(i); best < 0 || key < lowest {
			best, lowest = i, key
		}
	}
	return best
}

// PowerOfTwo draws two nodes by weight and picks the one with the lower
// utilisation.
type PowerOfTwo struct{}

// Pick compares two nodes.
func (PowerOfTwo) Pick(c *Candidates, _ Hints) int {
	if c.Len() <= 2 {
		return c.emptiest()
	}
	best := -1
	for drawn, seen := 0, 0; drawn < 8 && seen < 2; drawn++ {
		i := c.Draw()
		if i == best || !c.Open(i) {
			continue
		}
		seen++
		if best < 0 || c.Load(i)/c.Weight(i) < c.Load(best)/c.Weight(best) {
			best = i
		}
	}
	if best < 0 {
		return c.emptiest()
	}
	return best
}

// Score is the node's utilisation.
func (PowerOfTwo) Score(c *Candidates, i int, _ Hints) float64 { return c.Load(i) / c.Weight(i) }

// Random picks a node at random, by weight.
type Random struct{}

// Pick takes the same time however many nodes there are.
func (Random) Pick(c *Candidates, _ Hints) int {
	for range 3 {
		if i := c.Draw(); c.Open(i) {
			return i
		}
	}
	return c.least(func(int) float64 { return 0 })
}
