package placement

import "math"

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

// Pick takes time proportional to the number of nodes.
func (p Hash) Pick(c *Candidates, h Hints) int {
	if h.Key == "" {
		return Random{}.Pick(c, h)
	}
	setDefault(&p.Bound, defaultBound)
	load, weight := 1.0, 0.0
	for i := range c.Len() {
		load += c.Load(i)
		weight += c.Weight(i)
	}
	key := hashOf(h.Key)
	best, first, bestScore, firstScore := -1, -1, 0.0, 0.0
	for i := range c.Len() {
		if !c.Open(i) {
			continue
		}
		score := rendezvous(key, c.Hash(i), c.Weight(i))
		if first < 0 || score < firstScore {
			first, firstScore = i, score
		}
		share := math.Ceil(p.Bound * load / weight * c.Weight(i))
		if c.Load(i)+1 <= share && (best < 0 || score < bestScore) {
			best, bestScore = i, score
		}
	}
	if best < 0 { // no node below its limit is open
		return first
	}
	return best
}

// Score is the node's score for the key; its load does not count.
func (Hash) Score(c *Candidates, i int, h Hints) float64 {
	return rendezvous(hashOf(h.Key), c.Hash(i), c.Weight(i))
}

// rendezvous returns an exponential variable with the node's weight as its rate,
// drawn by the hash. Each of several nodes has the least value with a probability
// in proportion to its weight.
func rendezvous(key, node uint64, weight float64) float64 {
	u := (float64(mix(key^node)>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / weight
}

// hashOf is FNV-1a with a final mix. It must be the same in every process and
// version; otherwise brokers would send a key to different nodes.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
