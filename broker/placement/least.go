package placement

import "math/rand/v2"

// Least sends each session to the least loaded of a few nodes. A node far below
// the mean load is filled faster than at random, at a bounded rate.
type Least struct {
	// Candidates is how many nodes are drawn, by weight; the least loaded of them
	// is picked. 0 is 3.
	Candidates int
	// Few is the number of nodes up to which all are compared instead. 0 is 8.
	Few int

	// boosted is the index of the node that got the last boosted pick. All regions of a
	// pool share it, so requests for several regions may skip an underfull node, until the
	// others have no boosted picks left.
	boosted int
}

const (
	defaultCandidates = 3
	defaultFew        = 8
)

// Select compares a few nodes; its time does not depend on how many there are.
func (l *Least) Select(nodes []Node, _ Hints, r *rand.Rand) int {
	setDefault(&l.Candidates, defaultCandidates)
	setDefault(&l.Few, defaultFew)
	if i := l.boost(nodes); i >= 0 {
		return i
	}
	if len(nodes) > l.Few {
		if i := l.leastOfFew(nodes, r); i >= 0 {
			return i
		}
	}
	return lowest(nodes, r, (*Node).key)
}

// Score is the utilisation of the node including the new session.
func (*Least) Score(nodes []Node, i int, _ Hints) float64 { return nodes[i].key() }

// key is the utilisation that Least compares.
func (n *Node) key() float64 { return (n.Load() + n.handicap + 1) / n.Weight() }

// boost returns an underfull node that has boosted picks left, or -1. It rotates
// among them and looks at no more than Candidates.
func (l *Least) boost(nodes []Node) int {
	for range l.Candidates {
		i := nodes[l.boosted%len(nodes)].boosted
		if i < 0 {
			return -1
		}
		l.boosted = i
		if nodes[i].Boosted() {
			return i
		}
	}
	return -1
}

// leastOfFew draws nodes by weight and returns the one with the least key, or -1.
// Some of those drawn may no longer be eligible since the refresh, so it draws up to
// three times as many.
func (l *Least) leastOfFew(nodes []Node, r *rand.Rand) int {
	best, least := -1, 0.0
	for drawn, seen := 0, 0; drawn < 3*l.Candidates && seen < l.Candidates; drawn++ {
		i := draw(nodes, r)
		if !nodes[i].Open() {
			continue
		}
		seen++
		if key := nodes[i].key(); best < 0 || key < least {
			best, least = i, key
		}
	}
	return best
}

// lowest returns the open node with the lowest key, or -1.
func lowest(nodes []Node, r *rand.Rand, key func(*Node) float64) int {
	best, least := -1, 0.0
	// A random start keeps brokers from picking equal nodes in the same order.
	for from, k := r.IntN(len(nodes)), 0; k < len(nodes); k++ {
		i := (from + k) % len(nodes)
		if !nodes[i].Open() {
			continue
		}
		if x := key(&nodes[i]); best < 0 || x < least {
			best, least = i, x
		}
	}
	return best
}
