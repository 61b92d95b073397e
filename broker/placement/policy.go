package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Policy picks the node for a session among those that may be given one. Its
// owner calls it under a lock, so that it may keep what it likes; it must not
// take long.
type Policy interface {
	// Pick returns the number of the candidate that gets the session, which must
	// be Open, or -1 if it wants none of them. There is at least one.
	Pick(c *Candidates, h Hints) int
}

// Scorer is a Policy that can say how good each candidate is, for Explain.
type Scorer interface {
	// Score returns a number that is lower for candidates that are more likely to
	// be picked. It changes nothing.
	Score(c *Candidates, i int, h Hints) float64
}

// Candidates are the nodes that a policy picks from: those of the pool, or of
// the region asked for, that may be given sessions, in the order of their ids.
// They are good during the call only.
type Candidates struct {
	t       *Table
	g       *group
	at      time.Duration
	exclude string
}

// Len returns the number of candidates, which are counted from 0.
func (c *Candidates) Len() int { return len(c.g.open) }

// Open reports whether the candidate may be picked. One that has become full
// since the last tick may not, nor one that the session must not go to.
func (c *Candidates) Open(i int) bool {
	n := c.g.open[i].n
	n.pending.advance(c.at)
	return n.peer.ID != c.exclude && c.t.level(n, c.at) == eligible
}

// ID returns the id of the node.
func (c *Candidates) ID(i int) string { return c.g.open[i].n.peer.ID }

// Weight returns the sessions that the node can hold, less what its own trouble
// takes away. It is more than 0.
func (c *Candidates) Weight(i int) float64 { return max(c.g.open[i].n.weight(), 1e-9) }

// Load returns the sessions that the node is taken to hold, with those that are
// on their way there.
func (c *Candidates) Load(i int) float64 { return c.g.open[i].n.estimate(c.t.perOwn) }

// Hash returns a hash of the node's id, which is the same for every broker.
func (c *Candidates) Hash(i int) uint64 { return c.g.open[i].n.hash }

// Slot returns a number that the policy may keep with the node; 0 at first, and
// again when the node starts anew.
func (c *Candidates) Slot(i int) *float64 { return &c.g.open[i].n.slot }

// Rand returns the source of randomness that equal runs share.
func (c *Candidates) Rand() *rand.Rand { return c.t.rng }

// Draw returns a candidate at random, by weight. It may not be Open.
func (c *Candidates) Draw() int {
	return c.g.draw(c.t.rng.Uint64N(c.g.upTo[len(c.g.upTo)-1]))
}

// key is the utilisation by which Least compares.
func (c *Candidates) key(i int) float64 { return c.g.open[i].key(c.t.perOwn) }

// least returns the open candidate with the least key, or -1.
func (c *Candidates) least(key func(i int) float64) int {
	best, lowest := -1, 0.0
	// Beginning anywhere keeps equals from being picked in the same order by
	// every broker.
	for from, k := c.t.rng.IntN(c.Len()), 0; k < c.Len(); k++ {
		i := (from + k) % c.Len()
		if !c.Open(i) {
			continue
		}
		if x := key(i); best < 0 || x < lowest {
			best, lowest = i, x
		}
	}
	return best
}

// emptiest returns the open candidate with the least load. How fast it is filled
// is bounded by those who ask (Overloaded).
func (c *Candidates) emptiest() int {
	return c.least(func(i int) float64 { return (c.Load(i) + 1) / c.Weight(i) })
}

// policies are the policies by name, the default first.
var policies = []struct {
	name string
	make func() Policy
}{
	{"least", func() Policy { return Least{} }},
	{"power-of-two", func() Policy { return PowerOfTwo{} }},
	{"round-robin", func() Policy { return &RoundRobin{} }},
	{"weighted-round-robin", func() Policy { return WeightedRoundRobin{} }},
	{"random", func() Policy { return Random{} }},
	{"hash", func() Policy { return Hash{} }},
}

// Names returns the names of the policies, that of the default first.
func Names() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return names
}

// New returns a policy by its name.
func New(name string) (Policy, error) {
	for _, p := range policies {
		if p.name == name {
			return p.make(), nil
		}
	}
	return nil, fmt.Errorf("%q is no placement policy; there are %s", name, strings.Join(Names(), ", "))
}

// ParsePolicies reads a list of names, each for all pools or, as POOL=NAME, for
// one, and returns what Config.Policy is to be.
func ParsePolicies(list []string) (func(pool string) Policy, error) {
	byPool := map[string]string{}
	for _, s := range list {
		pool, name, named := strings.Cut(s, "=")
		if !named {
			pool, name = "", s
		} else if pool == "" {
			return nil, fmt.Errorf("%q: names no pool", s)
		}
		if _, twice := byPool[pool]; twice {
			return nil, errors.New("two policies for the same pool, or for all")
		}
		if _, err := New(name); err != nil {
			return nil, err
		}
		byPool[pool] = name
	}
	return func(pool string) Policy {
		name, ok := byPool[pool]
		if !ok {
			name = byPool[""]
		}
		if name == "" {
			return Least{}
		}
		p, _ := New(name) // it was checked
		return p
	}, nil
}
