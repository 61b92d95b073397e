package placement

// Least sends each session to the least loaded of a few nodes. A node far under
// the mean is filled faster than by chance, at a bounded rate.
type Least struct {
	// Candidates is how many nodes are drawn, by weight, to pick the least
	// loaded of. 0 is 3.
	Candidates int
	// Few is the number of nodes up to which all of them are looked at. 0 is 8.
	Few int
}

const (
	defaultCandidates = 3
	defaultFew        = 8
)

// Pick costs the time to look at a few nodes, however many there are.
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

// Score is the utilisation that the node would have with the session.
func (Least) Score(c *Candidates, i int, _ Hints) float64 { return c.key(i) }

// boost returns an underfull node that may be filled faster, or -1. They take
// turns; no more than few are looked at.
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

// leastOf draws so many candidates by weight and returns the one with the least
// key, or -1. Those drawn may have become ineligible since the refresh: a few
// more are drawn for them.
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

// PowerOfTwo draws two nodes by weight and takes the one with the lower load.
type PowerOfTwo struct{}

// Pick costs the time to look at two nodes.
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

// Random draws a node by weight.
type Random struct{}

// Pick costs the same however many nodes there are.
func (Random) Pick(c *Candidates, _ Hints) int {
	for range 3 {
		if i := c.Draw(); c.Open(i) {
			return i
		}
	}
	return c.least(func(int) float64 { return 0 })
}
