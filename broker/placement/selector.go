package placement

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
)

// Selector is a policy: it selects the node for a session. Calls are serialised by a
// lock, so it may keep state; it must return quickly. r is the source of randomness.
// Runs with equal seeds draw equal numbers.
type Selector interface {
	// Select returns the index of the node that gets the session, which must be
	// Open, or -1 for none. nodes has at least one node, in the order of their ids:
	// the eligible nodes of the pool, or of the requested region. They are valid
	// during the call only.
	Select(nodes []Node, h Hints, r *rand.Rand) int
}

// Scorer is a Selector that can rate each node, for Explain.
type Scorer interface {
	// Score returns a lower number for a node that is more likely to be selected. It
	// changes nothing.
	Score(nodes []Node, i int, h Hints) float64
}

// Node is a read-only view of a node that a Selector may select. It has the methods
// of nodes.Node, of which ID, Region, Hash, Weight and Load are the most useful.
type Node struct {
	*fill
	p *Picker

	upTo    uint64 // summed weight of the nodes up to this one, in hundredths
	boosted int    // index of the next underfull node, in a circle; -1 if there is none
	// handicap is added to the load of an underfull node when it competes with the
	// others. With it the node counts as being at their mean, and gets as many
	// sessions as any other node, besides its boosted picks. By its real load it
	// would get every session, and an empty node must not be flooded.
	handicap float64
}

// Serial returns a number for policies that keep something for each node. Each start
// of a node has its own, counted from 0.
func (n *Node) Serial() int { return n.serial }

// Open reports whether the node may be picked. A node that has become ineligible
// since the last tick may not, nor may the excluded node.
func (n *Node) Open() bool { return n.Node != n.p.excluded && n.Eligible() }

// Boosted reports whether the node is far below the mean load and may be filled
// faster than the others now.
func (n *Node) Boosted() bool { return n.tokens >= 1 && n.Open() }

// utilisation is the part of its weight that the node uses with one session more.
func (n *Node) utilisation() float64 { return (n.Load() + 1) / n.Weight() }

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

// draw returns a random node, by weight. It may not be Open.
func draw(nodes []Node, r *rand.Rand) int {
	x := r.Uint64N(nodes[len(nodes)-1].upTo)
	return sort.Search(len(nodes), func(i int) bool { return nodes[i].upTo > x })
}

// selectors lists the policies by name, the default first.
var selectors = []struct {
	name string
	make func() Selector
}{
	{"least", func() Selector { return &Least{} }},
	{"round-robin", func() Selector { return &RoundRobin{} }},
	{"weighted-round-robin", func() Selector { return &WeightedRoundRobin{} }},
	{"random", func() Selector { return Random{} }},
	{"hash", func() Selector { return Hash{} }},
}

// Names returns the names of the policies, the default first.
func Names() []string {
	names := make([]string, len(selectors))
	for i, s := range selectors {
		names[i] = s.name
	}
	return names
}

// New returns the policy with the name.
func New(name string) (Selector, error) {
	for _, s := range selectors {
		if s.name == name {
			return s.make(), nil
		}
	}
	if name == "power-of-two" { // of earlier versions
		return nil, fmt.Errorf("%q is no longer a placement policy; use least, which compares three nodes at random", name)
	}
	return nil, fmt.Errorf("%q is not a placement policy; use one of %s", name, strings.Join(Names(), ", "))
}

// ParsePolicies parses a list of policies and returns a function for
// Config.Selector. Each is NAME, for all pools, or POOL=NAME, for one.
func ParsePolicies(list []string) (func(pool string) Selector, error) {
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
	return func(pool string) Selector {
		name, ok := byPool[pool]
		if !ok {
			name = byPool[""]
		}
		if name == "" {
			return &Least{}
		}
		s, _ := New(name) // checked above
		return s
	}, nil
}
