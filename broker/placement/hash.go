package placement

import (
	"math"
	"math/rand/v2"

	"github.com/usher-broker/usher/broker/nodes"
)

// Hash sends the sessions of one user, or of one group, to the same node as long
// as the nodes are the same, and moves few keys when they change. It uses
// weighted rendezvous hashing: every node has a score for the key that does not
// depend on the other nodes. A node that is over its fair share by a quarter is
// skipped for the key's next node (bounded load), so that no key can overload a
// node.
type Hash struct {
	// Bound is the limit of a node's load, relative to its fair share. 0 is 1.25.
	Bound float64
}

const defaultBound = 1.25

// Select takes time proportional to the number of nodes.
func (p Hash) Select(list []Node, h Hints, r *rand.Rand) int {
	if h.Key == "" {
		return Random{}.Select(list, h, r)
	}
	setDefault(&p.Bound, defaultBound)
	load, weight := 1.0, 0.0
	for i := range list {
		load += list[i].Load()
		weight += list[i].Weight()
	}
	key := nodes.HashOf(h.Key)
	best, first, bestScore, firstScore := -1, -1, 0.0, 0.0
	for i := range list {
		n := &list[i]
		if !n.Open() {
			continue
		}
		score := rendezvous(key, n)
		if first < 0 || score < firstScore {
			first, firstScore = i, score
		}
		share := math.Ceil(p.Bound * load / weight * n.Weight())
		if n.Load()+1 <= share && (best < 0 || score < bestScore) {
			best, bestScore = i, score
		}
	}
	if best < 0 { // no node below its limit is open
		return first
	}
	return best
}

// Score is the node's score for the key; its load does not count.
func (Hash) Score(list []Node, i int, h Hints) float64 {
	return rendezvous(nodes.HashOf(h.Key), &list[i])
}

// rendezvous returns an exponential variable with the node's weight as its rate,
// drawn by the hash. Each of several nodes has the least value with a probability
// in proportion to its weight.
func rendezvous(key uint64, n *Node) float64 {
	u := (float64(nodes.Mix(key^n.Hash())>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / n.Weight()
}
