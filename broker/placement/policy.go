package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Policy picks the node for a session among the candidates. Calls are serialised
// by a lock, so a policy may keep state; it must return quickly.
type Policy interface {
	// Pick returns the index of the candidate that gets the session, which must
	// be Open, or -1 for none. There is at least one candidate.
	Pick(c *Candidates, h Hints) int
}

// Scorer is a Policy that can rate each candidate, for Explain.
type Scorer interface {
	// Score returns a lower number for a candidate that is more likely to be
	// picked. It changes nothing.
	Score(c *Candidates, i int, h Hints) float64
}

// Candidates are the nodes that a policy picks from, in the order of their ids:
// the eligible nodes of the pool, or of the requested region. They are valid
// during the call only.
type Candidates struct {
	t       *Table
	g       *group
	at      time.Duration
	exclude string
}

// Len returns the number of candidates. Their indices start at 0.
func (c *Candidates) Len() int { return len(c.g.open) }

// Open reports whether the candidate may be picked. A node that has become
// ineligible since the last tick may not, nor may the excluded node.
func (c *Candidates) Open(i int) bool {
	n := c.g.open[i].n
	n.pending.advance(c.at)
	return n.peer.ID != c.exclude && c.t.level(n, c.at) == eligible
}

// ID returns the id of the node.
func (c *Candidates) ID(i int) string { return c.g.open[i].n.peer.ID }

// Weight returns the node's capacity, in sessions, reduced by its load penalty.
// It is more than 0.
func (c *Candidates) Weight(i int) float64 { return max(c.g.open[i].n.weight(), 1e-9) }

// Load returns the estimated number of sessions of the node, including those
// under way.
func (c *Candidates) Load(i int) float64 { return c.g.open[i].n.estimate(c.t.perOwn) }

// Hash returns a hash of the node's id, which is the same for every broker.
func (c *Candidates) Hash(i int) uint64 { return c.g.open[i].n.hash }

// Slot returns a number that the policy may keep for the node. It is 0 at first
// and after a restart of the node.
func (c *Candidates) Slot(i int) *float64 { return &c.g.open[i].n.slot }

// Rand returns the source of randomness of the Table. Runs with equal seeds draw
// equal numbers.
func (c *Candidates) Rand() *rand.Rand { return c.t.rng }

// Draw returns a random candidate, by weight. It may not be Open.
func (c *Candidates) Draw() int {
	return c.g.draw(c.t.rng.Uint64N(c.g.upTo[len(c.g.upTo)-1]))
}

// key is the utilisation that Least compares.
func (c *Candidates) key(i int) float64 { return c.g.open[i].key(c.t.perOwn) }

// least returns the open candidate with the least key, or -1.
func (c *Candidates) least(key func(i int) float64) int {
	best, lowest := -1, 0.0
	// A random start keeps brokers from picking equal nodes in the same order.
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

// emptiest returns the open candidate with the least utilisation. The callers
// limit the rate at which it is filled (Overloaded).
func (c *Candidates) emptiest() int {
	return c.least(func(i int) float64 { return (c.Load(i) + 1) / c.Weight(i) })
}

// policies lists the policies by name, the default first.
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

// Names returns the names of the policies, the default first.
func Names() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return names
}

// New returns the policy with the name.
func New(name string) (Policy, error) {
	for _, p := range policies {
		if p.name == name {
			return p.make(), nil
		}
	}
	return nil, fmt.Errorf("%q is not a placement policy; use one of %s", name, strings.Join(Names(), ", "))
}

// ParsePolicies parses a list of policies and returns a function for
// Config.Policy. Each is NAME, for all pools, or POOL=NAME, for one.
func ParsePolicies(list []string) (func(pool string) Policy, error) {
	byPool := map[string]string{}
	for _, s := range list {
		pool, name, named := strings.Cut(s, "=")
		if !named {
			pool, name = "", s
		} else if pool == "" {
			return nil, fmt.Errorf("%q: the name of the pool before = is missing", s)
		}
		if _, twice := byPool[pool]; twice {
			return nil, fmt.Errorf("%q: a policy for that pool, or for all pools, is already given", s)
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
		p, _ := New(name) // checked above
		return p
	}, nil
}
