// Package placement decides which node a session is assigned to.
//
// It is pure: the inputs are a table of nodes, the time and a source of randomness;
// the output is a node. It opens no sockets, reads no clock and starts no
// goroutines, so that the simulation runs the same code as production.
//
// A broker's view of the nodes is always slightly old, every broker has its own,
// and clients arrive some time after they were sent, or never. The table, package
// nodes, accounts for all three. A Picker groups its nodes by pool and region, and a
// Selector picks among those that may be given a session; use Least unless there is
// a reason for another.
package placement

import (
	"errors"
	"slices"
	"time"
)

// Errors of Pick.
var (
	// ErrNoCapacity: all nodes that could take the session are full.
	ErrNoCapacity = errors.New("placement: every node is full")
	// ErrNoNodes: no node that matches the request is alive and ready.
	ErrNoNodes = errors.New("placement: no node is ready")
)

// Hints describe the session that needs a node.
type Hints struct {
	Region string // preferred; other regions are used if it has no capacity
	// Fallback are the regions that are used before all others, in this order, if
	// Region has no capacity.
	Fallback []string
	Strict   bool   // only Region and Fallback may be used
	Pool     string // required; empty means proto.DefaultPool
	Exclude  string // id of a node that must not be picked
	Balance  bool   // it leaves its node for rebalancing: pick the least loaded node
	Key      string // user or group, for policies that keep the sessions of a key together
}

// notAllowed is the rank of a region that is not allowed.
const notAllowed = -1

// regionRank returns how many regions are preferred to the node's.
func (h Hints) regionRank(region string) int {
	switch i := slices.Index(h.Fallback, region); {
	case h.Region == "" && len(h.Fallback) == 0, region == h.Region && region != "":
		return 0
	case i >= 0 && region != "":
		return i + 1
	case h.Strict:
		return notAllowed
	}
	return len(h.Fallback) + 1
}

// Config configures a Picker. The zero value of a field means its default. A broker
// normally sets only the first one.
type Config struct {
	// Selector returns the policy for a pool; it is called once for each pool. A
	// policy that keeps state must be a new value each time. Default: Least.
	Selector func(pool string) Selector

	// Underfull is the fraction of the mean load by which a node must be below it
	// to get boosted picks. Default 0.05.
	Underfull float64
	// FillTime is the least time in which boosted picks fill an empty node.
	// Default 60 s.
	FillTime time.Duration
	// Ramp is the time after a node is first seen until its boosted picks reach
	// their full rate. Default 10 s.
	Ramp time.Duration
}

func (c Config) withDefaults() Config {
	if c.Selector == nil {
		c.Selector = func(string) Selector { return &Least{} }
	}
	setDefault(&c.Underfull, 0.05)
	setDefault(&c.FillTime, time.Minute)
	setDefault(&c.Ramp, 10*time.Second)
	return c
}

func setDefault[T int | float64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
