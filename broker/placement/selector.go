package placement

import (
	"fmt"
	"math/rand/v2"
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
		return nil, fmt.Errorf("%q is no longer a placement policy; use least, which compares three nodes drawn at random", name)
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
